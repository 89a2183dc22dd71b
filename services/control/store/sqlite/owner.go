package sqlite

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
)

var stallFor = sql(`UPDATE submissions SET stalls = stalls + 1, stall_cause = ?
		WHERE submission_id = ? AND lane_id = ? AND status = 1`)

// Own implements lane.Store. It asks the writer, whose connection has the index of running lanes.
func (s *Store) Own(ctx context.Context, owner string) (held []lane.Held, err error) {
	err = s.write(ctx, func(t tx) error {
		held = nil
		lanes, err := t.lanes(selectOwned, owner, -1)
		for _, l := range lanes {
			held = append(held, lane.Held{
				Fence: lane.Fence{LaneID: l.id, Epoch: l.epoch}, EventHead: l.eventHead, Mail: l.mail,
				Ends: l.ends.remaining(t.micros()),
			})
		}
		return err
	})
	return held, err
}

// Release implements lane.Store. A lane that is due at once keeps its place among those that wait.
func (s *Store) Release(ctx context.Context, f lane.Fence, r lane.Release) error {
	return s.write(ctx, func(t tx) error {
		l, err := t.owned(f)
		if err != nil {
			return err
		}
		at := l.dueAt
		if r.Pause > 0 {
			at = t.micros() + r.Pause.Microseconds()
		}
		l.rest(at)
		if r.Stalled != "" {
			if err := t.stall(l, r); err != nil {
				return err
			}
		}
		return t.save(l)
	})
}

// stall charges a hand-back to a loop or, if that has ended, to the head.
func (t tx) stall(l *laneRow, r lane.Release) error {
	n, err := t.exec(stallFor, r.Cause, r.Stalled, l.id)
	if err != nil || n > 0 {
		return err
	}
	head, err := t.loop(selectHead, l.id, l.firstOpen)
	if err == nil && head != nil {
		_, err = t.exec(stallFor, r.Cause, head.id, l.id)
	}
	return err
}

// Raise implements lane.Store.
func (s *Store) Raise(ctx context.Context, f lane.Fence, above int64) (lane.Fence, error) {
	raised := lane.Fence{LaneID: f.LaneID, Epoch: above + 1}
	err := s.write(ctx, func(t tx) error {
		l, err := t.owned(f)
		if err != nil {
			return err
		}
		if above < l.epoch || above >= l.epoch+call.MaxRaise {
			return lane.ErrFenced
		}
		l.epoch = raised.Epoch
		return t.save(l)
	})
	if err != nil {
		return lane.Fence{}, err
	}
	return raised, nil
}
