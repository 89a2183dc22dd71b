package postgres

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/session"
)

// rebindSQL moves the workspace of a conversation, or of the one that it works for, and posts mail for the lane.
const rebindSQL = `
WITH r AS (UPDATE sessions s SET executor = $3 FROM sessions k
  WHERE k.session_id = $1 AND k.tenant = $2 AND s.session_id = k.lane_id RETURNING s.lane_id)
INSERT INTO wakes (tenant, lane_id) SELECT $2, lane_id FROM r`

// Rebind implements session.Store.
func (s *Store) Rebind(ctx context.Context, tenant, id, executor string) (session.Session, error) {
	if !isID(id) {
		return session.Session{}, session.ErrNotFound
	}
	err := s.retry(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.tell(ctx, rebindSQL, id, tenant, executor)
		return err
	})
	if err != nil {
		return session.Session{}, wrap("rebind session", err)
	}
	return s.GetSession(ctx, tenant, id)
}
