package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"
)

// Begin records that a call is about to begin, which also raises its lane's epoch. ErrNoSpace, and then nothing is
// recorded, when the quota or the disk is full.
func (j *Journal) Begin(b Begin) (LSN, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.evict(); j.x.live > j.cfg.Quota {
		return 0, ErrNoSpace.With("the executor's journal is full: calls that run and results that control has not "+
			"acknowledged take its quota of %d bytes", j.cfg.Quota)
	}
	return j.append(reserve, encode(recBegin).begin(&b, j.age()))
}

// End records the outcome of a call. A call that was not begun is begun with b in the same write. The first end wins.
func (j *Journal) End(b Begin, state State, outcome []byte) (LSN, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.age()
	end := encode(recEnd).str(b.CallID).int(int64(state)).age(now).bytes(outcome)
	if j.x.calls[b.CallID] != nil {
		return j.append(0, end)
	}
	return j.append(0, encode(recBegin).begin(&b, now), end)
}

// renew is how long the file may lag behind the last use of a fence or a revocation: so much sooner may it go after a
// restart.
const renew = time.Hour

// Raise records the epoch of a lane if it is higher than the one known. No lane has none.
func (j *Journal) Raise(lane string, epoch int64) (LSN, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if lane == "" {
		return j.lsn, nil
	}
	f, now := j.x.lanes[lane], j.age()
	if f != nil && epoch <= f.epoch {
		if j.x.use(f, now); now-f.noted < renew {
			return j.lsn, nil
		}
	}
	if epoch <= 0 {
		return j.lsn, nil
	}
	j.evict()
	return j.append(0, encode(recEpoch).str(lane).int(epoch).age(now))
}

// Revoke records that dispatches of a call up to this one must never run.
func (j *Journal) Revoke(callID string, dispatch uint32) (LSN, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.age()
	if r, ok := j.x.revoked[callID]; ok && r.dispatch >= dispatch && now-r.at < renew {
		return j.lsn, nil
	}
	j.evict()
	return j.append(0, encode(recRevoke).str(callID).int(int64(dispatch)).age(now))
}

// Ack records that the outcome of a call is durable elsewhere; a tombstone is left.
func (j *Journal) Ack(callID string) (LSN, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(0, encode(recAck).str(callID).age(j.age()))
}

// Forgot records that the sandbox holds nothing of these calls anymore.
func (j *Journal) Forgot(callIDs ...string) (LSN, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	recs := make([]*encoder, len(callIDs))
	for i, id := range callIDs {
		recs[i] = encode(recForgot).str(id)
	}
	return j.append(0, recs...)
}

// stamp writes the age of the journal unless the file tells it, but for at most late. A full disk does not take it: the
// next process then begins at a lower age, and keeps what is held longer. The caller holds mu.
func (j *Journal) stamp(late time.Duration) error {
	now := j.age()
	if now-j.x.age <= late {
		return nil
	}
	_, err := j.append(0, encode(recAge).age(now))
	if errors.Is(err, ErrNoSpace) {
		return nil
	}
	return err
}

// Drop forgets a call that never ran or may run again. It is not recorded: the reason for it is found again after a
// restart.
func (j *Journal) Drop(callID string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.x.drop(callID)
}

// append writes records with one write and takes them into the index. keep is the allocated space to leave untouched.
func (j *Journal) append(keep int64, recs ...*encoder) (LSN, error) {
	if j.failed != nil {
		return 0, j.failed
	}
	j.buf = j.buf[:0]
	for _, r := range recs {
		if len(r.b) > maxRecord {
			return 0, ErrTooLarge.With("a record of %d bytes is more than the executor's journal takes, which is %d",
				len(r.b), maxRecord)
		}
		j.buf = frame(j.buf, r.b)
	}
	n := int64(len(j.buf))
	if err := j.grow(n + keep); err != nil {
		return 0, err
	}
	if err := writeFull(j.cfg.WriteAt, j.f, j.buf, j.end); err != nil {
		// Nothing behind end counts, and no piece of it may pass for a record behind a later, shorter one.
		j.erase(n)
		return 0, diskError(err)
	}
	off := j.end
	for _, r := range recs {
		if err := j.x.apply(r.b, off+frameHead); err != nil {
			return 0, fmt.Errorf("taking in an own record: %w", err)
		}
		off += int64(frameHead + len(r.b))
	}
	j.end = off
	j.lsn += LSN(n)
	if cap(j.buf) > 1<<20 {
		j.buf = nil
	}
	return j.lsn, nil
}

// zeroes allocate: overwriting them needs no change to the file's own metadata, which makes fdatasync a third cheaper.
var zeroes = make([]byte, chunk)

// grow sees to n allocated bytes behind end.
func (j *Journal) grow(n int64) error {
	for j.alloc < j.end+n {
		if err := writeFull(j.cfg.WriteAt, j.f, zeroes, j.alloc); err != nil {
			return diskError(err)
		}
		j.alloc += chunk
	}
	return nil
}

// erase overwrites what a failed write may have left, as far as it can.
func (j *Journal) erase(n int64) {
	for off := j.end; off < min(j.end+n, j.alloc); off += chunk {
		_ = writeFull(j.cfg.WriteAt, j.f, zeroes[:min(chunk, min(j.end+n, j.alloc)-off)], off)
	}
}

func writeFull(write func(*os.File, []byte, int64) (int, error), f *os.File, b []byte, off int64) error {
	_, err := write(f, b, off)
	return err
}

func diskError(err error) error {
	if isFull(err) {
		return ErrNoSpace.With("the disk of the executor's journal is full")
	}
	return fmt.Errorf("writing the journal: %w", err)
}

// Wait returns when everything up to lsn is on the disk. Concurrent callers share one fdatasync.
func (j *Journal) Wait(lsn LSN) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.synced < lsn {
		switch {
		case j.failed != nil:
			return j.failed
		case j.syncing:
			j.changed.Wait()
		default:
			j.sync()
		}
	}
	return nil
}

// Sync returns when everything written so far is on the disk.
func (j *Journal) Sync() error {
	j.mu.Lock()
	lsn := j.lsn
	j.mu.Unlock()
	return j.Wait(lsn)
}

// sync runs one fdatasync without the lock.
func (j *Journal) sync() {
	j.syncing = true
	upto, begun, f := j.lsn, j.x.begun, j.f
	j.mu.Unlock()
	err := j.cfg.Fsync(f)
	j.mu.Lock()
	j.syncing = false
	if err != nil {
		// After a failed fsync nobody knows what is on the disk; going on would be a lie.
		j.fail(err)
	} else {
		j.synced, j.begun = max(j.synced, upto), max(j.begun, begun)
	}
	j.changed.Broadcast()
}

// next finds where a whole frame starts in b after its first byte, or returns -1. b starts where reading stopped: a
// frame behind that means a hole and not a torn end.
func next(b []byte) int {
	for i := 1; i < len(b); i++ {
		if b[i] == 0 {
			// Most of it is the allocated zeroes. A length has three zero bytes in front at most.
			n := len(b[i:]) - len(bytes.TrimLeft(b[i:], "\x00"))
			i += max(0, n-4)
		}
		if payload, _, ok := unframe(b[i:]); ok && payload[0] >= byte(recIdentity) && payload[0] <= byte(recLast) {
			return i
		}
	}
	return -1
}
