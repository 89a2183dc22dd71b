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
	var mailed []lane.Mailed
	err := s.write(ctx, func(t tx) error {
		mailed = mailed[:0]
		laneIDs, err := fact(t)
		if err != nil {
			return err
		}
		for _, id := range laneIDs {
			l, err := t.lane(selectLane, id)
			if err != nil {
				return err
			}
			if l == nil { // it is gone
				continue
			}
			l.wake(t.micros())
			if err := t.save(l); err != nil {
				return err
			}
			mailed = append(mailed, lane.Mailed{LaneID: id, Owner: l.owner})
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mail.Lock()
	defer s.mail.Unlock()
	for _, m := range mailed {
		s.mailed[m.LaneID] = m
	}
	return nil
}

// MoveMail implements lane.Store.
func (s *Store) MoveMail(context.Context) (mailed []lane.Mailed, err error) {
	s.mail.Lock()
	defer s.mail.Unlock()
	mailed = slices.Collect(maps.Values(s.mailed))
	clear(s.mailed)
	return mailed, nil
}
