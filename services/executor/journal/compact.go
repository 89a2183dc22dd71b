package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Compact replaces the file by one that holds what is alive. On any failure before the new one is in place the old one
// stays in use. The lock is free while the disk works: calls begin and end meanwhile, in the old file, and follow into
// the new one.
//
//	snapshot ─▶ written, synced ─▶ what came meanwhile, synced ─▶ the rest ─▶ renamed ─▶ directory synced
//	 locked                        └─ no other sync: the rest is what nobody waited for ──────────┘
func (j *Journal) Compact() (err error) {
	name := j.path() + ".new"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("compacting the journal: %w", err)
	}
	inPlace := false
	defer func() {
		if !inPlace {
			f.Close()
			os.Remove(name)
			err = fmt.Errorf("compacting the journal: %w", err)
		}
	}()
	w := j.snapshot(f)
	if err := w.all(); err != nil {
		return err
	}
	if err := j.cfg.Fsync(f); err != nil {
		return err
	}
	lsn, begun, err := j.suspend()
	if err != nil {
		return err
	}
	defer j.resume()
	if err := j.follow(w); err != nil {
		return err
	}
	if err := j.cfg.Fsync(f); err != nil {
		return err
	}
	old, err := j.replace(w, name)
	if err != nil {
		return err
	}
	inPlace = true
	// From here on the new file is the journal, whatever becomes of the directory's sync.
	err = j.syncDir()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.fail(err)
	} else {
		j.synced, j.begun = max(j.synced, lsn), max(j.begun, begun)
	}
	if old != nil {
		return old.Close()
	}
	return nil
}

// snapshot is a writer of what is alive now.
func (j *Journal) snapshot(f *os.File) *writer {
	j.mu.Lock()
	defer j.mu.Unlock()
	a := alive{
		id: j.x.id, place: j.x.place, age: j.x.age, begun: j.x.begun, incarnations: slices.Clone(j.x.incarnations),
		lanes: make([]fence, 0, len(j.x.lanes)), revoked: make([]revocation, 0, len(j.x.revoked)),
		calls: make([]Call, 0, len(j.x.calls)),
	}
	for _, f := range j.x.lanes {
		a.lanes = append(a.lanes, *f)
	}
	for _, r := range j.x.revoked {
		a.revoked = append(a.revoked, *r)
	}
	for _, c := range j.x.calls {
		a.calls = append(a.calls, c.Call)
	}
	return &writer{alive: a, write: j.cfg.WriteAt, old: j.f, f: f, upto: j.end, base: j.end, offs: map[string]int64{}}
}

// suspend keeps others from syncing until resume, and returns what is written by now, and how many calls that begins.
func (j *Journal) suspend() (lsn LSN, begun int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.syncing {
		j.changed.Wait()
	}
	if j.failed != nil {
		return 0, 0, j.failed
	}
	j.syncing = true
	return j.lsn, j.x.begun, nil
}

func (j *Journal) resume() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.syncing = false
	j.changed.Broadcast()
}

// follow copies what was appended since the snapshot, and allocates ahead.
func (j *Journal) follow(w *writer) error {
	j.mu.Lock()
	end := j.end
	j.mu.Unlock()
	if err := w.tail(end); err != nil {
		return err
	}
	// Allocation ahead is a convenience here and not worth a failure.
	w.alloc = w.off
	if err := writeFull(w.write, w.f, zeroes, w.off); err == nil {
		w.alloc += chunk
	}
	return nil
}

// replace makes the new file the journal and returns the old one.
func (j *Journal) replace(w *writer, name string) (old *os.File, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := w.tail(j.end); err != nil {
		return nil, err
	}
	if err := os.Rename(name, j.path()); err != nil {
		return nil, err
	}
	for id, c := range j.x.calls {
		switch {
		case c.size == 0:
		case c.off < w.base:
			c.off = w.offs[id]
		default:
			c.off += w.moved
		}
	}
	old = j.f
	j.f, j.end, j.alloc = w.f, w.off, max(w.alloc, w.off)
	return old, nil
}

func (j *Journal) syncDir() error {
	d, err := os.Open(j.dir)
	if err != nil {
		return err
	}
	return errors.Join(j.cfg.Fsync(d), d.Close())
}

// writer writes a compacted file: what was alive once, then what was appended to the old file since.
type writer struct {
	alive
	write func(*os.File, []byte, int64) (int, error)
	old   *os.File // outcomes are copied from here
	f     *os.File
	buf   []byte
	off   int64            // of the file, buf included
	alloc int64            // of the file
	offs  map[string]int64 // of the outcomes
	base  int64            // of the old file when alive was taken
	upto  int64            // of the old file, copied so far
	moved int64            // from an offset behind base to the new file's
}

// alive is what is worth keeping, as it was once.
type alive struct {
	id, place    string
	age          time.Duration
	begun        int64
	incarnations []start
	lanes        []fence
	revoked      []revocation
	calls        []Call
}

func (w *writer) all() error {
	w.buf = append(w.buf, magic...)
	w.off = int64(len(magic))
	if err := w.put(encode(recIdentity).str(w.id).int(w.begun).str(w.place)); err != nil {
		return err
	}
	if err := w.put(encode(recAge).age(w.age)); err != nil {
		return err
	}
	for _, s := range w.incarnations {
		if err := w.put(s.encode()); err != nil {
			return err
		}
	}
	for _, f := range w.lanes {
		if err := w.put(encode(recEpoch).str(f.key).int(f.epoch).age(f.used)); err != nil {
			return err
		}
	}
	for _, r := range w.revoked {
		if err := w.put(encode(recRevoke).str(r.key).int(int64(r.dispatch)).age(r.at)); err != nil {
			return err
		}
	}
	for i := range w.calls {
		if err := w.call(&w.calls[i]); err != nil {
			return err
		}
	}
	w.moved = w.off - w.base
	return w.flush()
}

// tail copies the old file's records up to end.
func (w *writer) tail(end int64) error {
	for w.upto < end {
		b := make([]byte, min(end-w.upto, 1<<20))
		if _, err := w.old.ReadAt(b, w.upto); err != nil {
			return fmt.Errorf("copying the latest records: %w", err)
		}
		if err := writeFull(w.write, w.f, b, w.off); err != nil {
			return err
		}
		w.upto += int64(len(b))
		w.off += int64(len(b))
	}
	return nil
}

func (w *writer) call(c *Call) error {
	outcome := make([]byte, c.size)
	if c.size > 0 {
		if _, err := w.old.ReadAt(outcome, c.off); err != nil {
			return fmt.Errorf("reading an outcome: %w", err)
		}
	}
	r := encode(recCall).begin(&c.Begin, c.At).int(int64(c.State)).age(c.Since)
	if err := w.put(r.flag(c.Forgot).bytes(outcome)); err != nil {
		return err
	}
	if c.size > 0 {
		w.offs[c.CallID] = w.off - int64(c.size)
	}
	return nil
}

func (w *writer) put(r *encoder) error {
	before := len(w.buf)
	w.buf = frame(w.buf, r.b)
	w.off += int64(len(w.buf) - before)
	if len(w.buf) < 1<<18 {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() error {
	err := writeFull(w.write, w.f, w.buf, w.off-int64(len(w.buf)))
	w.buf = w.buf[:0]
	return err
}
