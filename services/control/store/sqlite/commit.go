package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
)

var (
	bindSession = sql(`UPDATE sessions SET executor = ? WHERE session_id = ?`)
	// holdsCommit finds a commit by where its events begin.
	holdsCommit = sql(`SELECT 1 FROM segments WHERE lane_id = ? AND first_seq = ? AND commit_id = ?`)
)

// write is a commit with everything encoded, which callers do side by side before they queue for the writer.
type write struct {
	*lane.Commit
	id     []byte
	steps  []step
	events event.Segment
}

// Commit implements lane.Store.
func (s *Store) Commit(ctx context.Context, c lane.Commit) (out lane.Committed, err error) {
	w, err := encodeCommit(&c)
	if err != nil {
		return out, fmt.Errorf("committing to lane %s: %w", c.Fence.LaneID, err)
	}
	err = s.writeOf(ctx, c.Tenant, func(t tx) (err error) {
		out, err = t.commit(w)
		return err
	})
	return out, err
}

func encodeCommit(c *lane.Commit) (w write, err error) {
	id, err := uuid.Parse(c.ID)
	if err != nil {
		return w, fmt.Errorf("a commit needs an id: %w", err)
	}
	w.Commit, w.id = c, id[:]
	if w.events, err = event.Pack(c.EventHead, c.Events()); err != nil {
		return w, err
	}
	w.steps = make([]step, len(c.Steps))
	for i := range c.Steps {
		if w.steps[i], err = encodeStep(&c.Steps[i]); err != nil {
			return w, fmt.Errorf("step of loop %s: %w", c.Steps[i].LoopID, err)
		}
	}
	return w, nil
}

func (t tx) commit(w write) (out lane.Committed, err error) {
	l, err := t.lane(selectLane, w.Fence.LaneID)
	switch {
	case err != nil:
		return out, err
	case l == nil || l.epoch != w.Fence.Epoch:
		return out, lane.ErrFenced
	case l.state != running || l.eventHead != w.EventHead:
		return t.again(l, w)
	}
	ended, err := t.takeSteps(l, w)
	if err != nil {
		return out, err
	}
	if ended != nil && w.Park != nil {
		return out, errors.New("a lane whose head has ended cannot be parked")
	}
	if err := t.addSegment(l, w.id, w.events); err != nil {
		return out, err
	}
	l.eventHead = w.events.Last
	if w.Executor != "" {
		if _, err := t.exec(bindSession, w.Executor, l.id); err != nil {
			return out, err
		}
	}
	switch {
	case ended != nil:
		out, err := t.leave(l, w, ended)
		if err == nil && l.kind == lane.KindRun {
			err = t.endRun(l.id)
		}
		return out, err
	case w.Park != nil && w.Park.Mail == l.mail:
		return t.park(l, w.Park)
	}
	_, err = t.exec(growLane, l.eventHead, l.rowid)
	return lane.Committed{Mail: l.mail, Ends: l.ends.remaining(t.micros())}, err
}

// park rests the lane: no mail came since its owner looked.
func (t tx) park(l *laneRow, p *lane.Park) (lane.Committed, error) {
	at := int64(never)
	if p.For != lane.Never {
		at = t.micros() + p.For.Microseconds()
	}
	l.rest(at)
	return lane.Committed{Parked: true, Mail: l.mail, Ends: l.ends.remaining(t.micros())}, t.save(l)
}

// leave goes on after the head: with the next one if the commit says so, else without an owner.
func (t tx) leave(l *laneRow, w write, ended *loopRef) (out lane.Committed, err error) {
	owner := l.owner
	l.settled(*ended, t.micros())
	out = lane.Committed{Ready: l.state == due, Mail: l.mail, Ends: lane.Ends{In: lane.Never}}
	if !out.Ready || !w.Continue {
		return out, t.save(l)
	}
	l.state, l.owner = running, owner
	return t.goOn(l, out)
}

// goOn makes the next submission the head of a lane that its owner keeps. One that cannot be read is left to a claim,
// which settles it.
func (t tx) goOn(l *laneRow, out lane.Committed) (lane.Committed, error) {
	var bad *undecodable
	var err error
	if out.Next, err = t.take(l, false); errors.As(err, &bad) {
		l.state, l.owner, out.Ready = due, "", true
		return out, t.save(l)
	}
	out.Ready = l.state == due // which it is without a next one if the count was wrong
	return out, err
}

// again answers a commit that does not fit. It is one that was written, with its answer lost, when the log holds it;
// anything else is a stale owner's.
func (t tx) again(l *laneRow, w write) (out lane.Committed, err error) {
	r, err := t.row(holdsCommit, l.id, w.events.First, w.id)
	if err == nil && r == nil {
		err = lane.ErrFenced
	}
	if err != nil {
		return out, err
	}
	ended := false
	for _, s := range w.steps {
		if s.End != nil {
			r, err := t.row(selectRef, s.LoopID)
			if err != nil {
				return out, err
			}
			ended = ended || r != nil && r.ref().root
		}
	}
	out = lane.Committed{Mail: l.mail, Ends: l.ends.remaining(t.micros())}
	switch {
	case ended:
		if out.Ends = (lane.Ends{In: lane.Never}); l.state == running {
			return t.goOn(l, out)
		}
		out.Ready = l.state == due
	case w.Park != nil:
		out.Parked = l.state == due
	case l.state != running: // handed back since
		return lane.Committed{}, lane.ErrFenced
	}
	return out, err
}
