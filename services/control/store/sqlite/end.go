package sqlite

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
)

const settleSQL = `UPDATE submissions SET status = 2, outcome = ?, reason = ?, message = ?, model = ?, usage = ?,
	result_entry = ?, data = ?, cancellation = ?, settled_at = ? `

var (
	selectOverdue = sql(laneColumns + `temp.running x JOIN lanes l ON l.rowid = x.id
		WHERE x.force_after > 0 AND x.force_after <= ? ORDER BY x.force_after LIMIT ?`)
	settleLoop = sql(settleSQL + `WHERE rowid = ?`)
	// finishLoop is settleLoop with what a loop has come to in the same step.
	finishLoop = sql(settleSQL + `, entry_head = ?, phase = ifnull(?, phase), turn = ifnull(?, turn), stalls = 0,
		stall_cause = '' WHERE rowid = ?`)
	// What the sub-agents of a head are that has settled.
	settleChildren = sql(`UPDATE submissions SET status = 2, outcome = ?, reason = ?, message = ?, settled_at = ?
		WHERE root_id = ? AND parent_call IS NOT NULL AND status = 1`)
	// What has joined a head settles as that has.
	settleJoined = sql(`UPDATE submissions SET status = 2, outcome = h.outcome, reason = h.reason, message = h.message,
		model = h.model, result_entry = h.result_entry, cancellation = h.cancellation, data = h.data,
		settled_at = h.settled_at FROM (SELECT * FROM submissions WHERE submission_id = ?1) h
		WHERE submissions.host_id = ?1 AND submissions.status = 3`)
	selectOpen = sql(callColumns + ofTree + `AND state <= 1`)
	endCalls   = sql(`UPDATE tool_calls SET state = iif(state = 0, 4, 3), done_at = ?2 ` + ofTree + `AND state <= 1`)
	// What the sub-agents of a head have used of which their parents do not know yet: those that are open, and those
	// that have answered a call of the turn that their parent is at.
	selectUsage = sql(`SELECT s.usage FROM submissions s WHERE s.root_id = ? AND s.parent_call IS NOT NULL
		AND (s.status = 1 OR EXISTS (SELECT 1 FROM tool_calls c JOIN submissions p ON p.submission_id = c.submission_id
		WHERE c.call_id = s.parent_call AND c.turn = p.turn AND p.phase = 2 AND p.status = 1))`)
)

// End implements lane.Store.
func (s *Store) End(
	ctx context.Context, f lane.Fence, outcome lane.Outcome, reason, message string,
) (out lane.Ended, err error) {
	err = s.write(ctx, func(t tx) error {
		l, err := t.owned(f)
		if err != nil {
			return err
		}
		head, err := t.head(l)
		if err != nil {
			return err
		}
		if head == nil {
			out = lane.Ended{LaneID: l.id, Ready: l.state == due}
			return nil
		}
		out, err = t.endHead(l, head, lane.Settlement{Outcome: outcome, Reason: reason, Message: message})
		return err
	})
	return out, err
}

// Force implements lane.Store.
func (s *Store) Force(ctx context.Context, limit int) (out []lane.Ended, err error) {
	err = s.write(ctx, func(t tx) error {
		out = nil
		lanes, err := t.lanes(selectOverdue, t.micros(), max(limit, 0))
		if err != nil {
			return err
		}
		for i := range lanes {
			l, err := t.lane(selectLane, lanes[i].id) // the end of another one may have changed it
			if err != nil {
				return err
			}
			if l == nil || l.state != running {
				continue
			}
			head, err := t.head(l)
			if err != nil {
				return err
			}
			if head == nil {
				continue
			}
			l.epoch++
			ended, err := t.endHead(l, head, lane.Overdue(l.kind, l.ends.why))
			if err != nil {
				return err
			}
			out = append(out, ended)
		}
		return nil
	})
	return out, err
}

// endHead settles a head from rows, of which it decodes nothing that it cannot do without: the lane goes on without an
// owner.
func (t tx) endHead(l *laneRow, head *loopRow, z lane.Settlement) (lane.Ended, error) {
	open, err := t.calls(t.now, selectOpen, head.id)
	if err != nil {
		return lane.Ended{}, err
	}
	left, err := t.unended(t.now, head.id)
	if err != nil {
		return lane.Ended{}, err
	}
	if _, err := t.exec(endCalls, head.id, t.micros()); err != nil {
		return lane.Ended{}, err
	}
	if _, err := t.exec(endApprovals, t.micros(), l.id); err != nil {
		return lane.Ended{}, err
	}
	z.LeaveOpen(left, open)
	if z.Usage, err = t.usage(head); err != nil {
		return lane.Ended{}, err
	}
	st, err := encodeSettlement(&z)
	if err != nil {
		return lane.Ended{}, err
	}
	if err := t.settle(settleLoop, head.loopRef, st, head.rowid); err != nil {
		return lane.Ended{}, err
	}
	told := z.Event(head.id, head.turn, l.eventHead+1, t.now)
	seg, err := event.Pack(l.eventHead, []event.Event{told})
	if err != nil {
		return lane.Ended{}, err
	}
	if err := t.addSegment(l, nil, seg); err != nil {
		return lane.Ended{}, err
	}
	l.eventHead = seg.Last
	l.settled(head.loopRef, t.micros())
	if err := t.save(l); err != nil {
		return lane.Ended{}, err
	}
	if l.kind == lane.KindRun {
		err = t.endRun(l.id)
	}
	return lane.Ended{
		LaneID: l.id, Key: head.key(), HeadID: head.id, Events: []event.Event{told}, Ready: l.state == due,
	}, err
}

// usage is what the tree of a head has used, but for what cannot be read of that.
func (t tx) usage(head *loopRow) (all model.Usage, err error) {
	texts, err := t.texts(selectUsage, head.id)
	for _, text := range append(texts, head.usage()) {
		var u model.Usage
		if decode(text, &u) == nil {
			all = all.Add(u)
		}
	}
	return all, err
}

// settlement is how a loop ends, as it is stored.
type settlement struct {
	*lane.Settlement
	usage, cancellation any
}

func encodeSettlement(z *lane.Settlement) (st settlement, err error) {
	st.Settlement = z
	if st.usage, err = encode(z.Usage); err == nil {
		st.cancellation, err = encode(z.Cancellation)
	}
	return st, err
}

// finish ends the loop of a step, which it has written but for the progress.
func (t tx) finish(s step, loop loopRef) error {
	var phase, turn any
	if s.Progress != nil {
		phase, turn = int64(s.Progress.Phase), s.Progress.Turn
	}
	return t.settle(finishLoop, loop, s.end, s.head(), phase, turn, loop.rowid)
}

// settle ends a loop and, if it is the head, its sub-agents and what has joined it.
func (t tx) settle(q statement, loop loopRef, z settlement, more ...any) error {
	_, err := t.exec(q, append([]any{
		string(z.Outcome), z.Reason, z.Message, z.Model, z.usage, z.ResultEntry, optional(string(z.Data)),
		z.cancellation, t.micros(),
	}, more...)...)
	if err == nil && loop.root && loop.calls {
		_, err = t.exec(settleChildren, string(z.Outcome), z.Reason, z.Message, t.micros(), loop.id)
	}
	var joined int64
	if err == nil && loop.root && loop.turn > 1 { // nothing joins before
		joined, err = t.exec(settleJoined, loop.id)
	}
	if err == nil && (loop.awaited || joined > 0) {
		err = t.wakeAll(awaitedBy, loop.id)
	}
	return err
}

// awaitedBy is the lanes that rest on the end of a head, and of what has joined it.
var awaitedBy = sql(`SELECT wakes FROM submissions WHERE submission_id = ?1 AND wakes IS NOT NULL
	UNION ALL SELECT wakes FROM submissions WHERE host_id = ?1 AND status = 2 AND wakes IS NOT NULL`)

// wakeAll posts mail for the lanes of a query.
func (t tx) wakeAll(q statement, args ...any) error {
	lanes, err := t.texts(q, args...)
	for _, id := range lanes {
		if err == nil {
			err = t.wake(id)
		}
	}
	return err
}
