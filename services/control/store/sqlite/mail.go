package sqlite

import (
	"context"
	"maps"
	"slices"

	"github.com/pawl-dev/pawl/services/control/lane"
)

// Post implements lane.Store. There is one writer, so that no lane is ever locked by another: the mail arrives in the
// transaction that posts it, and MoveMail has the owners that are to be told.
func (s *Store) Post(ctx context.Context, laneIDs ...string) error {
	return s.post(ctx, func(tx) ([]string, error) { return laneIDs, nil })
}

// post writes a fact and posts mail for the lanes that may rest on it.
func (s *Store) post(ctx context.Context, fact func(tx) (laneIDs []string, err error)) error {
	return s.write(ctx, func(t tx) error {
		laneIDs, err := fact(t)
		for _, id := range laneIDs {
			if err == nil {
				err = t.wake(id)
			}
		}
		return err
	})
}

var blockedRun = sql(`SELECT 1 FROM runs WHERE run_id = ? AND blocked`)

// wake posts mail for a lane, and delivers it. A run that waits for its concurrency key is woken by that alone.
func (t tx) wake(laneID string) error {
	l, err := t.lane(selectLane, laneID)
	if err != nil || l == nil { // it is gone
		return err
	}
	if l.kind == lane.KindRun && l.state == due {
		blocked, err := t.row(blockedRun, l.id)
		if err != nil {
			return err
		}
		if blocked != nil {
			l.mail++
			return t.save(l)
		}
	}
	l.wake(t.micros())
	*t.mailed = append(*t.mailed, lane.Mailed{LaneID: l.id, Owner: l.owner})
	return t.save(l)
}

// MoveMail implements lane.Store.
func (s *Store) MoveMail(context.Context) (mailed []lane.Mailed, err error) {
	s.mail.Lock()
	defer s.mail.Unlock()
	mailed = slices.Collect(maps.Values(s.mailed))
	clear(s.mailed)
	return mailed, nil
}
