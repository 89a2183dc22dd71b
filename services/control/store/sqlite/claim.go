package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var (
	nextDue = sql(`SELECT due_at FROM lanes WHERE state = 1 AND kind = ? ORDER BY due_at LIMIT 1`)
	// One that was to join another has its own place in the queue after all.
	startHead = sql(`UPDATE submissions SET status = 1, started_at = ?, entry_head = ?, event_base = ?,
		host_id = iif(when_busy = 1, NULL, host_id), when_busy = iif(when_busy = 1, 0, when_busy) WHERE rowid = ?`)
	// What runs is the head, and then what interrupts. The condition of the index has to be said.
	urgentHead = sql(`SELECT coalesce(
		(SELECT seq FROM submissions WHERE session_id = ?1 AND when_busy = 2 AND status < 2 AND status = 1 LIMIT 1),
		(SELECT seq FROM submissions WHERE session_id = ?1 AND when_busy = 2 AND status < 2 AND status = 0
			ORDER BY seq LIMIT 1))`)
	countOpen = sql(`SELECT count(*) FROM submissions WHERE session_id = ? AND status < 2`)

	nextOwner   = sql(`SELECT owner FROM temp.running WHERE owner > ? ORDER BY owner LIMIT 1`)
	selectOwned = sql(laneColumns + `temp.running x JOIN lanes l ON l.rowid = x.id
		WHERE x.owner = ? ORDER BY x.id LIMIT ?`)
	isLive    = sql(`SELECT 1 FROM replicas WHERE replica_id = ? AND expires > ?`)
	stallHead = sql(`UPDATE submissions SET attempts = attempts + 1, stalls = stalls + 1 WHERE rowid = ?`)
	stallLoop = sql(`UPDATE submissions SET stalls = stalls + 1 WHERE rowid = ?`)
)

// Claim implements lane.Store.
func (s *Store) Claim(ctx context.Context, owner string, kind lane.Kind, limit int) (out lane.Claimed, err error) {
	err = s.write(ctx, func(t tx) error {
		out = lane.Claimed{Next: lane.Never}
		lanes, err := t.due(kind, max(limit, 0), &s.turns)
		if err != nil {
			return err
		}
		if err := t.takeAll(&out, owner, lanes, false); err != nil {
			return err
		}
		r, err := t.row(nextDue, int64(kind))
		if err == nil && r != nil && r.int(0) != never {
			out.Next = time.Duration(max(r.int(0)-t.micros(), 0)) * time.Microsecond
		}
		return err
	})
	return out, err
}

// TakeOver implements lane.Store. An owner without a live lease counts as dead, whether it expired or was removed.
func (s *Store) TakeOver(ctx context.Context, owner string, dead []string, limit int) (out lane.Claimed, err error) {
	err = s.write(ctx, func(t tx) error {
		out = lane.Claimed{Next: lane.Never}
		orphans, err := t.orphans(owner, dead, limit)
		if err != nil {
			return err
		}
		return t.takeAll(&out, owner, orphans, true)
	})
	return out, err
}

// orphans finds running lanes of dead owners. It looks once at each owner of lanes, of which there are few.
func (t tx) orphans(owner string, dead []string, limit int) (lanes []laneRow, err error) {
	for last := ""; len(lanes) < limit; {
		r, err := t.row(nextOwner, last)
		if err != nil || r == nil {
			return lanes, err
		}
		if last = r.text(0); last == owner || len(dead) > 0 && !slices.Contains(dead, last) {
			continue
		}
		if len(dead) == 0 {
			live, err := t.row(isLive, last, t.micros())
			if err != nil {
				return nil, err
			}
			if live != nil {
				continue
			}
		}
		more, err := t.lanes(selectOwned, last, limit-len(lanes))
		if err != nil {
			return nil, err
		}
		lanes = append(lanes, more...)
	}
	return lanes, nil
}

func (c *conn) lanes(q statement, args ...any) (found []laneRow, err error) {
	err = c.rows(q, func(r row) (bool, error) {
		found = append(found, r.lane())
		return true, nil
	}, args...)
	return found, err
}

// takeAll makes owner the owner of lanes. A lane whose rows cannot be read does not keep the others from it.
func (t tx) takeAll(out *lane.Claimed, owner string, lanes []laneRow, death bool) error {
	for i := range lanes {
		l := &lanes[i]
		if len(out.Unreadable) > 0 { // their ends may have changed it
			was := l.state
			again, err := t.lane(selectLane, l.id)
			if err != nil {
				return err
			}
			if again == nil || again.state != was {
				continue
			}
			l = again
		}
		l.state, l.owner, l.epoch = running, owner, l.epoch+1
		lease, err := t.take(l, death)
		var bad *undecodable
		switch {
		case errors.As(err, &bad):
			ended, err := t.endHead(l, bad.head, lane.Undecodable(bad.err))
			if err != nil {
				return err
			}
			out.Unreadable = append(out.Unreadable, lane.Unreadable{Ended: ended, Err: bad.err})
		case err != nil:
			return fmt.Errorf("taking lane %s: %w", l.id, err)
		case lease != nil:
			lease.TakenOver = death
			out.Leases = append(out.Leases, *lease)
		}
	}
	return nil
}

// undecodable says that a loop of a lane cannot be decoded.
type undecodable struct {
	head *loopRow
	err  error
}

func (e *undecodable) Error() string { return e.err.Error() }

// take goes on with the lane's head, or begins the next one, and saves the lane. Of a death it charges every open loop.
// It returns nil when there is nothing to run.
func (t tx) take(l *laneRow, death bool) (*lane.Lease, error) {
	head, err := t.head(l)
	if err != nil || head == nil {
		return nil, err
	}
	rows := []*loopRow{head}
	if head.status == submission.Running {
		children, err := t.loops(selectChildren, head.id)
		if err != nil {
			return nil, err
		}
		rows = append(rows, children...)
	}
	lease := &lane.Lease{
		Fence: lane.Fence{LaneID: l.id, Epoch: l.epoch}, Kind: l.kind, EventHead: l.eventHead, Mail: l.mail,
		Executor: head.executor(),
	}
	for _, r := range rows {
		loop, err := r.loop()
		if err != nil {
			return nil, &undecodable{head, err}
		}
		lease.Loops = append(lease.Loops, loop)
	}
	if head.status == submission.Queued {
		if err := t.startHead(l, head, lease.Root()); err != nil {
			return nil, err
		}
	}
	if death {
		if err := t.charge(rows, lease.Loops); err != nil {
			return nil, err
		}
	}
	l.taken(t.micros())
	lease.Ends = l.ends.remaining(t.micros())
	return lease, t.save(l)
}

// startHead makes a queued submission the lane's head.
func (t tx) startHead(l *laneRow, head *loopRow, loop *lane.Loop) (err error) {
	if loop.EntryHead, err = t.entryHead(head.sessionID); err != nil {
		return err
	}
	loop.StartedAt = time.UnixMicro(t.micros()).UTC()
	l.endAfter(head.timeout(), t.micros())
	_, err = t.exec(startHead, t.micros(), loop.EntryHead, l.eventHead, head.rowid)
	if err == nil && l.kind == lane.KindRun {
		_, err = t.exec(startRun, t.micros(), l.id)
	}
	return err
}

// charge counts the death of an owner.
func (t tx) charge(rows []*loopRow, loops []lane.Loop) error {
	for i, r := range rows {
		q := stallLoop
		if loops[i].Stalls++; r.root {
			q = stallHead
			loops[i].Attempts++
		}
		if _, err := t.exec(q, r.rowid); err != nil {
			return err
		}
	}
	return nil
}

// head is the lane's first open submission, unless one interrupts. A lane that counts some and has none is counted
// anew: nil.
func (t tx) head(l *laneRow) (*loopRow, error) {
	head, err := t.loop(selectHead, l.id, l.firstOpen)
	if err != nil {
		return nil, err
	}
	if head != nil {
		l.firstOpen = head.seq // so that nobody looks again at those before it
		if !l.urgent || head.status == submission.Running {
			return head, nil
		}
		r, err := t.row(urgentHead, l.id)
		if err != nil || r.int(0) == 0 {
			return head, err
		}
		return t.loop(selectHead, l.id, r.int(0))
	}
	r, err := t.row(countOpen, l.id)
	if err != nil {
		return nil, err
	}
	l.state, l.owner, l.pending, l.firstOpen, l.ends = idle, "", r.int(0), l.nextSeq, ends{}
	if l.pending > 0 { // before firstOpen, where nobody looks
		l.state, l.firstOpen = due, 1
	}
	return nil, t.save(l)
}
