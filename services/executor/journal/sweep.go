package journal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// compactAbove is the size under which a file is left alone.
const compactAbove = 1 << 20

// Sweep forgets what is past its time and rewrites the file when most of it is dead. It is to be called now and then.
func (j *Journal) Sweep() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.expire()
	if j.x.live > j.cfg.Quota {
		j.evict()
	}
	if j.end < compactAbove || j.x.live > j.end/2 {
		return nil
	}
	return j.compact()
}

// Compact rewrites the file.
func (j *Journal) Compact() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.compact()
}

// expire applies the times to live. It is recomputed after a restart, so it needs no record.
func (j *Journal) expire() {
	now := j.cfg.Now()
	for id, c := range j.x.calls {
		if (c.State == Finished || c.State == Interrupted) && now.Sub(c.Ended) > j.cfg.ResultTTL {
			j.x.ack(id, now)
		}
		if c.State == Tombstone && now.Sub(c.Acked) > j.cfg.TombstoneTTL {
			j.forget(c)
		}
	}
	for id, r := range j.x.revoked {
		if now.Sub(r.at) > j.cfg.TombstoneTTL {
			j.x.live -= smallWeight + int64(len(id))
			delete(j.x.revoked, id)
		}
	}
	for session, l := range j.x.lanes {
		if now.Sub(l.at) > j.cfg.TombstoneTTL {
			j.x.live -= smallWeight + int64(len(session))
			delete(j.x.lanes, session)
		}
	}
}

// forget drops a call; from then on an absence proves nothing about calls as old as this one.
func (j *Journal) forget(c *Call) {
	j.x.drop(c.CallID)
	if !c.At.Before(j.x.since) {
		j.x.since = c.At.Add(time.Nanosecond)
	}
}

// evict makes room: the oldest acknowledged calls go first, a tenth more than needed. Nothing that is held is lost.
func (j *Journal) evict() {
	var tombs []*Call
	for _, c := range j.x.calls {
		if c.State == Tombstone {
			tombs = append(tombs, c)
		}
	}
	slices.SortFunc(tombs, func(a, b *Call) int { return cmp.Or(a.Acked.Compare(b.Acked), cmp.Compare(a.CallID, b.CallID)) })
	for _, c := range tombs {
		if j.x.live <= j.cfg.Quota-j.cfg.Quota/10 {
			return
		}
		j.forget(c)
	}
}

// compact replaces the file by one that holds what is alive. On any failure the old file stays in use.
func (j *Journal) compact() error {
	for j.syncing {
		j.changed.Wait()
	}
	if j.failed != nil {
		return j.failed
	}
	f, err := j.rewrite()
	if err != nil {
		return fmt.Errorf("compacting the journal: %w", err)
	}
	old := j.f
	j.f = f
	return old.Close()
}

// rewrite writes the index to a new file, outcomes copied from the present one, and renames it into place. Everything is on the
// disk when it returns. It changes nothing in memory unless it succeeds.
func (j *Journal) rewrite() (f *os.File, err error) {
	name := j.path() + ".new"
	f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(name)
		}
	}()
	w := &writer{j: j, f: f, offs: make(map[string]int64, len(j.x.calls))}
	if err := w.all(); err != nil {
		return nil, err
	}
	alloc := w.off
	// Allocation ahead is a convenience here and not worth a failure.
	if werr := writeFull(j.cfg.WriteAt, f, zeroes, w.off); werr == nil {
		alloc += reserve * 2
	}
	if err := j.publish(f, name); err != nil {
		return nil, err
	}
	// From here on the new file is the journal, whatever becomes of the directory's sync.
	if err := j.syncDir(); err != nil {
		j.failed = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	for id, off := range w.offs {
		j.x.calls[id].off = off
	}
	j.end, j.alloc = w.off, alloc
	j.lsn++
	j.synced = j.lsn
	j.changed.Broadcast()
	return f, nil
}

func (j *Journal) syncDir() error {
	d, err := os.Open(j.dir)
	if err != nil {
		return err
	}
	return errors.Join(j.cfg.Fsync(d), d.Close())
}

// writer writes a compacted file.
type writer struct {
	j    *Journal
	f    *os.File
	buf  []byte
	off  int64            // of the file, buf included
	offs map[string]int64 // of the outcomes
}

func (w *writer) all() error {
	x := &w.j.x
	w.buf = append(w.buf, magic...)
	w.off = int64(len(magic))
	if err := w.put(encode(recIdentity).str(x.id).time(x.since)); err != nil {
		return err
	}
	for session, l := range x.lanes {
		if err := w.put(encode(recEpoch).str(session).int(l.epoch).time(l.at)); err != nil {
			return err
		}
	}
	for id, r := range x.revoked {
		if err := w.put(encode(recRevoke).str(id).int(int64(r.dispatch)).time(r.at)); err != nil {
			return err
		}
	}
	for id, c := range x.calls {
		if err := w.call(id, c); err != nil {
			return err
		}
	}
	return w.flush()
}

func (w *writer) call(id string, c *Call) error {
	outcome := make([]byte, c.size)
	if c.size > 0 {
		if _, err := w.j.f.ReadAt(outcome, c.off); err != nil {
			return fmt.Errorf("reading an outcome: %w", err)
		}
	}
	r := encode(recCall).begin(&c.Begin, c.At).int(int64(c.State)).time(c.Ended).time(c.Acked).flag(c.Forgot).bytes(outcome)
	if err := w.put(r); err != nil {
		return err
	}
	w.offs[id] = w.off - int64(c.size)
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
	err := writeFull(w.j.cfg.WriteAt, w.f, w.buf, w.off-int64(len(w.buf)))
	w.buf = w.buf[:0]
	return err
}

// publish renames only what is on the disk.
func (j *Journal) publish(f *os.File, name string) error {
	if err := j.cfg.Fsync(f); err != nil {
		return err
	}
	return os.Rename(name, j.path())
}
