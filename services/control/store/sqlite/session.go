package sqlite

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/session"
)

var rebindSession = sql(`UPDATE sessions SET executor = ?
	WHERE session_id = (SELECT lane_id FROM sessions WHERE session_id = ? AND tenant = ?)`)

// Rebind implements session.Store.
func (s *Store) Rebind(ctx context.Context, tenant, id, executor string) (found session.Session, err error) {
	err = s.write(ctx, func(t tx) error {
		n, err := t.exec(rebindSession, executor, id, tenant)
		if err == nil && n == 0 {
			return session.ErrNotFound
		}
		return err
	})
	if err == nil {
		found, err = s.GetSession(ctx, tenant, id)
	}
	if err == nil {
		err = s.Post(ctx, found.LaneID)
	}
	return found, err
}
