package journal

import (
	"errors"
	"slices"
)

// maxIncarnations bounds how many incarnations a journal remembers. Only starts that reached a control plane count: one
// that was restarted more often without being answered once is taken for another journal, which is safe.
const maxIncarnations = 64

// Incarnation is one start of an executor on its journal.
type Incarnation struct {
	ID string // random
	// Begun is how many calls the journal had begun when the incarnation ended; of the present one, how many it has
	// begun on the disk.
	Begun int64
}

// start is an incarnation as its record has it.
type start struct {
	id    string
	begun int64 // calls that the journal had begun before
}

func (s start) encode() *encoder { return encode(recIncarnation).str(s.id).int(s.begun) }

func (x *index) start(s start) {
	if n := len(x.incarnations); n > 0 && x.incarnations[n-1].id == s.id {
		return // its record was late, and a compaction has written it too
	}
	x.incarnations = append(x.incarnations, s)
	if n := len(x.incarnations); n > maxIncarnations {
		x.incarnations = slices.Delete(x.incarnations, 0, n-maxIncarnations)
	}
}

// Incarnations returns the present incarnation and then its predecessors, newest first. The first call begins the
// present incarnation: it is on the disk when the call returns. On a full disk it is not, and Sweep writes it when
// there is room. A start before that does not know it, so that control takes its journal for another one.
func (j *Journal) Incarnations() ([]Incarnation, error) {
	if err := j.incarnate(); err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make([]Incarnation, 0, len(j.x.incarnations))
	begun := j.begun
	for _, s := range slices.Backward(j.x.incarnations) {
		all = append(all, Incarnation{ID: s.id, Begun: begun})
		begun = s.begun
	}
	return all, nil
}

// incarnate begins the present incarnation, once, and writes it unless it is written.
func (j *Journal) incarnate() error {
	j.mu.Lock()
	if j.birth == unborn {
		j.birth = unsaved
		j.x.start(start{id: newID(), begun: j.x.begun})
	}
	if j.birth == saved {
		j.mu.Unlock()
		return nil
	}
	lsn, err := j.saveIncarnation()
	j.mu.Unlock()
	if err != nil {
		return err
	}
	return j.Wait(lsn)
}

// saveIncarnation writes the present incarnation unless that was done, or the disk is full. The caller holds mu.
func (j *Journal) saveIncarnation() (LSN, error) {
	if j.birth != unsaved {
		return j.lsn, nil
	}
	lsn, err := j.append(0, j.x.incarnations[len(j.x.incarnations)-1].encode())
	if errors.Is(err, ErrNoSpace) {
		return j.lsn, nil
	}
	if err == nil {
		j.birth = saved
	}
	return lsn, err
}

// Begun is how many calls the journal has begun, as far as that is on the disk.
func (j *Journal) Begun() int64 { return locked(j, func() int64 { return j.begun }) }
