package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// compactAbove is the size under which a file is left alone.
const compactAbove = 1 << 20

// Sweep forgets what is past its time and rewrites the file when most of it is dead. It is to be called now and then,
// by one goroutine. expired is the calls whose outcome nobody took in time, error or not: they are tombstones now.
func (j *Journal) Sweep() (expired []string, err error) {
	j.mu.Lock()
	expired = j.expire()
	j.evict()
	leave := j.end < compactAbove || j.x.live > j.end/2
	_, err = j.saveIncarnation()
	j.mu.Unlock()
	if leave || err != nil {
		return expired, err
	}
	return expired, j.Compact()
}

// expire applies the times to live. It is recomputed after a restart, so it needs no record.
func (j *Journal) expire() (expired []string) {
	now := j.cfg.Now()
	for m := j.x.ended.first; m != nil && now.Sub(m.at) > j.cfg.ResultTTL; m = j.x.ended.first {
		j.x.ack(m.key, now)
		expired = append(expired, m.key)
	}
	for m := j.x.aged.first; m != nil && now.Sub(m.at) > j.cfg.TombstoneTTL; m = j.x.aged.first {
		j.x.forget(m)
	}
	return expired
}

// proves is how long an absence has to prove that a call never ran. Control relies on it for a day, by another clock.
const proves = 48 * time.Hour

// evict makes room when the quota is exceeded, a tenth more than needed. What was used longest ago goes first:
// tombstones, revocations, and fences of lanes. No outcome is lost that control has not acknowledged.
//
// Why a fence may go. It keeps a former owner of the lane from running a call or ending one. A call that is known
// here or revoked here does not need it: the same call id never runs again (E2), and a revoked one never runs. The
// fence outlives all calls of its lane, because it is in no queue while one of them is not a tombstone, and joins
// the queue behind the last tombstone. So the fence that goes is one of a lane of which nothing is known any more
// and which nobody used for longer than anything else here.
//
// What protects control. Once something goes that is younger than an absence has to prove, the journal is another one:
// the connection ends, with what is still on its way in it, and absence from the new journal proves nothing about an
// earlier call. The file still has the old id, and all that was evicted, until it is compacted.
//
// An eighth of the quota stays for them, however much the outcomes take: what was just answered must not go at once.
func (j *Journal) evict() {
	if j.x.live <= j.cfg.Quota {
		return
	}
	now, young := j.cfg.Now(), false
	enough, atLeast := j.cfg.Quota-j.cfg.Quota/10, j.cfg.Quota/8
	for m := j.x.aged.first; m != nil && j.x.live > enough && j.x.aged.cost > atLeast; m = j.x.aged.first {
		young = now.Sub(j.x.forget(m)) < proves || young
	}
	if young {
		j.x.id = newID()
	}
}

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
	w := &writer{
		write: j.cfg.WriteAt, old: j.f, f: f, upto: j.end, base: j.end, offs: map[string]int64{}, id: j.x.id,
		begun: j.x.begun, incarnations: slices.Clone(j.x.incarnations),
		lanes: make([]fence, 0, len(j.x.lanes)), revoked: make([]revocation, 0, len(j.x.revoked)),
		calls: make([]Call, 0, len(j.x.calls)),
	}
	for _, f := range j.x.lanes {
		w.lanes = append(w.lanes, *f)
	}
	for _, r := range j.x.revoked {
		w.revoked = append(w.revoked, *r)
	}
	for _, c := range j.x.calls {
		w.calls = append(w.calls, c.Call)
	}
	return w
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
	write func(*os.File, []byte, int64) (int, error)
	old   *os.File // outcomes are copied from here
	f     *os.File
	buf   []byte
	off   int64            // of the file, buf included
	alloc int64            // of the file
	offs  map[string]int64 // of the outcomes
	base  int64            // of the old file when x was taken
	upto  int64            // of the old file, copied so far
	moved int64            // from an offset behind base to the new file's

	// What is alive, as it was.
	id           string
	begun        int64
	incarnations []start
	lanes        []fence
	revoked      []revocation
	calls        []Call
}

func (w *writer) all() error {
	w.buf = append(w.buf, magic...)
	w.off = int64(len(magic))
	if err := w.put(encode(recIdentity).str(w.id).int(w.begun)); err != nil {
		return err
	}
	for _, s := range w.incarnations {
		if err := w.put(s.encode()); err != nil {
			return err
		}
	}
	for _, f := range w.lanes {
		if err := w.put(encode(recEpoch).str(f.key).int(f.epoch).time(f.used)); err != nil {
			return err
		}
	}
	for _, r := range w.revoked {
		if err := w.put(encode(recRevoke).str(r.key).int(int64(r.dispatch)).time(r.at)); err != nil {
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
	r := encode(recCall).begin(&c.Begin, c.At, c.Boot).int(int64(c.State)).time(c.Ended).time(c.Acked)
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
