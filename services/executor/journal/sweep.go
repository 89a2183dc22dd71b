package journal

import (
	"errors"
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
	err = errors.Join(err, j.stamp(renew))
	j.mu.Unlock()
	if leave || err != nil {
		return expired, err
	}
	return expired, j.Compact()
}

// expire applies the times to live. It is recomputed after a restart, so it needs no record.
func (j *Journal) expire() (expired []string) {
	now := j.age()
	for m := j.x.ended.first; m != nil && now-m.at > j.cfg.ResultTTL; m = j.x.ended.first {
		j.x.ack(m.key, now)
		expired = append(expired, m.key)
	}
	for m := j.x.aged.first; m != nil && now-m.at > j.cfg.TombstoneTTL; m = j.x.aged.first {
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
	now, young := j.age(), false
	enough, atLeast := j.cfg.Quota-j.cfg.Quota/10, j.cfg.Quota/8
	for m := j.x.aged.first; m != nil && j.x.live > enough && j.x.aged.cost > atLeast; m = j.x.aged.first {
		young = now-j.x.forget(m) < proves || young
	}
	if young {
		j.x.id = newID()
	}
}
