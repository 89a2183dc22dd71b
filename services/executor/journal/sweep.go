package journal

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"
)

// compactAbove is the size under which a file is left alone.
const compactAbove = 1 << 20

// Sweep forgets what is past its time and rewrites the file when most of it is dead. It is to be called now and then, by one
// goroutine. expired is the calls whose outcome nobody took in time, error or not: they are tombstones now.
func (j *Journal) Sweep() (expired []string, err error) {
	j.mu.Lock()
	expired = j.expire()
	if j.x.live > j.cfg.Quota {
		j.evict()
	}
	leave := j.end < compactAbove || j.x.live > j.end/2
	j.mu.Unlock()
	if leave {
		return expired, nil
	}
	return expired, j.Compact()
}

// expire applies the times to live. It is recomputed after a restart, so it needs no record.
func (j *Journal) expire() (expired []string) {
	now := j.cfg.Now()
	for id, c := range j.x.calls {
		if (c.State == Finished || c.State == Interrupted) && now.Sub(c.Ended) > j.cfg.ResultTTL {
			j.x.ack(id, now)
			expired = append(expired, id)
		}
		if c.State == Tombstone && now.Sub(c.Acked) > j.cfg.TombstoneTTL {
			j.x.drop(id)
		}
	}
	for id, r := range j.x.revoked {
		if now.Sub(r.at) > j.cfg.TombstoneTTL {
			j.x.live -= smallWeight + int64(len(id))
			delete(j.x.revoked, id)
		}
	}
	for session, f := range j.x.sessions {
		if now.Sub(f.at) > j.cfg.TombstoneTTL {
			j.x.live -= smallWeight + int64(len(session))
			delete(j.x.sessions, session)
		}
	}
	return expired
}

// proves is how long an absence has to prove that a call never ran. Control relies on it for a day, by another clock.
const proves = 48 * time.Hour

// evict makes room: the oldest acknowledged calls go first, a tenth more than needed. Nothing that is held is lost. Once one is gone that
// an absence should tell about, the journal is another one: its file still has the old id, and the old calls, until it is compacted.
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
		j.x.drop(c.CallID)
		if j.cfg.Now().Sub(c.At) < proves {
			j.x.id = newID()
		}
	}
}

// Compact replaces the file by one that holds what is alive. On any failure before the new one is in place the old one stays in
// use. The lock is free while the disk works: calls begin and end meanwhile, in the old file, and follow into the new one.
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
	lsn, err := j.suspend()
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
		j.synced = max(j.synced, lsn)
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
	w := &writer{write: j.cfg.WriteAt, old: j.f, f: f, upto: j.end, base: j.end, offs: make(map[string]int64, len(j.x.calls))}
	w.x = index{id: j.x.id, sessions: maps.Clone(j.x.sessions), revoked: maps.Clone(j.x.revoked), calls: make(map[string]*Call, len(j.x.calls))}
	for id, c := range j.x.calls {
		w.x.calls[id] = new(*c)
	}
	return w
}

// suspend keeps others from syncing until resume, and returns what is written by now.
func (j *Journal) suspend() (LSN, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.syncing {
		j.changed.Wait()
	}
	if j.failed != nil {
		return 0, j.failed
	}
	j.syncing = true
	return j.lsn, nil
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
	write func(*os.File, []byte, int64) (int, error)
	x     index    // as it was
	old   *os.File // outcomes are copied from here
	f     *os.File
	buf   []byte
	off   int64            // of the file, buf included
	alloc int64            // of the file
	offs  map[string]int64 // of the outcomes
	base  int64            // of the old file when x was taken
	upto  int64            // of the old file, copied so far
	moved int64            // from an offset behind base to the new file's
}

func (w *writer) all() error {
	x := &w.x
	w.buf = append(w.buf, magic...)
	w.off = int64(len(magic))
	if err := w.put(encode(recIdentity).str(x.id)); err != nil {
		return err
	}
	for session, f := range x.sessions {
		if err := w.put(encode(recEpoch).str(session).int(f.epoch).time(f.at)); err != nil {
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

func (w *writer) call(id string, c *Call) error {
	outcome := make([]byte, c.size)
	if c.size > 0 {
		if _, err := w.old.ReadAt(outcome, c.off); err != nil {
			return fmt.Errorf("reading an outcome: %w", err)
		}
	}
	r := encode(recCall).begin(&c.Begin, c.At, c.Boot).int(int64(c.State)).time(c.Ended).time(c.Acked).flag(c.Forgot).bytes(outcome)
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
	err := writeFull(w.write, w.f, w.buf, w.off-int64(len(w.buf)))
	w.buf = w.buf[:0]
	return err
}
