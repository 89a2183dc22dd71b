package sqlite

import (
	"math"
	"time"

	"github.com/pawl-dev/pawl/services/control/lane"
)

// States of a lane, as numbered in the database.
const (
	idle int64 = iota
	due
	running
)

// never is the due_at of a lane that only mail makes due.
const never = math.MaxInt64

const laneColumns = `SELECT l.rowid, l.lane_id, l.tenant, l.kind, l.state, l.due_at, l.next_seq, l.first_open,
	l.pending, l.owner, l.epoch, l.mail, l.event_head, l.ends_at, l.ends_why, l.force_after, l.urgent FROM `

var (
	selectLane = sql(laneColumns + `lanes l WHERE l.lane_id = ?`)
	selectDue  = sql(laneColumns + `lanes l WHERE l.state = 1 AND l.kind = ? AND l.due_at <= ?
		ORDER BY l.due_at, l.rowid LIMIT ?`)
	nextTenant  = sql(`SELECT tenant FROM lanes WHERE state = 1 AND kind = ? AND tenant > ? ORDER BY tenant LIMIT 1`)
	selectDueOf = sql(laneColumns + `lanes l WHERE l.state = 1 AND l.kind = ? AND l.tenant = ? AND l.due_at <= ?
		ORDER BY l.due_at, l.rowid LIMIT ?`)
	insertLane = sql(`INSERT INTO lanes (lane_id, tenant, kind, state, due_at, next_seq, pending, owner, epoch,
		event_head, ends_at, ends_why, force_after) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	saveLane = sql(`UPDATE lanes SET state = ?, due_at = ?, next_seq = ?, first_open = ?, pending = ?, owner = ?,
		epoch = ?, mail = ?, event_head = ?, ends_at = ?, ends_why = ?, force_after = ?, urgent = ? WHERE rowid = ?`)
	growLane = sql(`UPDATE lanes SET event_head = ? WHERE rowid = ?`)
)

// laneRow is a lane as it is stored. There is one writer: what a transaction reads is what it changes, so that the
// states of a lane are moved here, and saved as they are.
type laneRow struct {
	rowid     int64
	id        string
	tenant    string
	kind      lane.Kind
	state     int64
	dueAt     int64
	nextSeq   int64
	firstOpen int64 // no submission before it is open
	pending   int64
	owner     string
	epoch     int64
	mail      int64
	eventHead int64
	ends      ends
	urgent    bool // a submission that interrupts may be open
}

// ends is when a head has to end; zeros are never.
type ends struct {
	at, force int64
	why       lane.Why
}

func (r row) lane() laneRow {
	return laneRow{
		rowid: r.int(0), id: r.text(1), tenant: r.text(2), kind: lane.Kind(r.int(3)), state: r.int(4), dueAt: r.int(5),
		nextSeq: r.int(6), firstOpen: r.int(7), pending: r.int(8), owner: r.text(9), epoch: r.int(10), mail: r.int(11),
		eventHead: r.int(12), ends: ends{at: r.int(13), why: lane.Why(r.int(14)), force: r.int(15)},
		urgent: r.bool(16),
	}
}

// lane returns nil when there is none.
func (c *conn) lane(q statement, args ...any) (*laneRow, error) {
	r, err := c.row(q, args...)
	if err != nil || r == nil {
		return nil, err
	}
	l := r.lane()
	return &l, nil
}

// owned is the lane of an owner, or ErrFenced.
func (t tx) owned(f lane.Fence) (*laneRow, error) {
	l, err := t.lane(selectLane, f.LaneID)
	if err == nil && (l == nil || l.state != running || l.epoch != f.Epoch) {
		err = lane.ErrFenced
	}
	return l, err
}

func (t tx) save(l *laneRow) error {
	_, err := t.exec(saveLane, l.state, l.dueAt, l.nextSeq, l.firstOpen, l.pending, optional(l.owner), l.epoch, l.mail,
		l.eventHead, l.ends.at, int64(l.ends.why), l.ends.force, l.urgent, l.rowid)
	return err
}

// rest hands the lane on, to be claimed at a time.
func (l *laneRow) rest(at int64) {
	l.state, l.owner, l.dueAt = due, "", at
	if l.ends.at > 0 {
		l.dueAt = min(at, l.ends.at)
	}
}

// settled takes the head off the queue. One that interrupts was not the first there.
func (l *laneRow) settled(head loopRef, now int64) {
	l.pending--
	if !head.urgent {
		l.firstOpen = head.seq + 1
	}
	l.ends = ends{}
	l.state, l.owner, l.dueAt = idle, "", now
	if l.pending > 0 {
		l.state = due
	} else {
		l.urgent = false
	}
}

// wake counts mail, which makes a lane due that rests.
func (l *laneRow) wake(now int64) {
	l.mail++
	if l.state == due {
		l.dueAt = min(l.dueAt, now)
	}
}

// grace is how long after its end the head may go on, in microseconds.
func (l *laneRow) grace() int64 { return l.kind.Grace().Microseconds() }

// endAfter sets the time of a head that begins now.
func (l *laneRow) endAfter(timeout time.Duration, now int64) {
	if l.ends = (ends{}); timeout > 0 {
		at := now + timeout.Microseconds()
		l.ends = ends{at: at, force: at + l.grace(), why: lane.Deadline}
	}
}

// abort ends the head now, unless its deadline has done so.
func (l *laneRow) abort(now int64) {
	e := &l.ends
	if e.at == 0 || e.at > now {
		e.at, e.why = now, lane.Abort
	}
	if force := now + l.grace(); e.force == 0 || e.force > force {
		e.force = force
	}
}

// taken gives a head whose time has passed while nobody ran it a grace, in which its new owner can cancel its calls. It
// has that once: else it could be put off for ever.
func (l *laneRow) taken(now int64) {
	e, grace := &l.ends, l.grace()
	if e.at > 0 && e.force <= e.at+grace {
		e.force = max(e.force, now+grace)
	}
}

func (e ends) remaining(now int64) lane.Ends {
	if e.at == 0 {
		return lane.Ends{In: lane.Never}
	}
	return lane.Ends{In: time.Duration(e.at-now) * time.Microsecond, Why: e.why}
}
