package sqlite

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/session"
)

var rebindSession = sql(`UPDATE sessions SET executor = ?
	WHERE session_id = (SELECT lane_id FROM sessions WHERE session_id = ? AND tenant = ?) RETURNING session_id`)

// Rebind implements session.Store.
func (s *Store) Rebind(ctx context.Context, tenant, id, executor string) (found session.Session, err error) {
	err = s.post(ctx, func(t tx) ([]string, error) {
		r, err := t.returning(rebindSession, executor, id, tenant)
		if err == nil && r == nil {
			err = session.ErrNotFound
		}
		if err != nil {
			return nil, err
		}
		return []string{r.text(0)}, nil
	})
	if err == nil {
		found, err = s.GetSession(ctx, tenant, id)
	}
	return found, err
}
