package sqlite

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/session"
)

const sessionColumns = `SELECT k.session_id, k.tenant, k.agent, k.instance, k.name, k.created_at,
	(SELECT coalesce(max(e.seq), 0) FROM entries e WHERE e.session_id = k.session_id), l.event_head,
	CASE WHEN k.parent_id IS NULL THEN l.pending
		ELSE (SELECT count(*) FROM submissions s WHERE s.session_id = k.session_id AND s.status < 2) END,
	(SELECT r.executor FROM sessions r WHERE r.session_id = k.lane_id), k.lane_id, k.parent_id, k.parent_call
	FROM sessions k JOIN lanes l ON l.lane_id = k.lane_id `

var (
	findSession = sql(sessionColumns + `WHERE k.tenant = ? AND k.agent = ? AND k.instance = ? AND k.name = ?`)
	getSession  = sql(sessionColumns + `WHERE k.session_id = ? AND k.tenant = ?`)
	// +k.tenant keeps it to the order of ids: nearly every session is of one tenant.
	listSessions = sql(sessionColumns + `WHERE +k.tenant = ?1 AND k.session_id < ?2 AND (?3 = '' OR k.instance = ?3)
		AND k.parent_id IS NULL ORDER BY k.session_id DESC LIMIT ?4`)
	listAgentSession = sql(sessionColumns + `WHERE k.tenant = ?1 AND k.agent = ?5 AND k.session_id < ?2
		AND (?3 = '' OR k.instance = ?3) AND k.parent_id IS NULL ORDER BY k.session_id DESC LIMIT ?4`)
	listChildren = sql(sessionColumns + `WHERE k.parent_id = ?5 AND +k.tenant = ?1 AND k.session_id < ?2
		AND (?3 = '' OR k.instance = ?3) ORDER BY k.session_id DESC LIMIT ?4`)
	rebindSession = sql(`UPDATE sessions SET executor = ?
		WHERE session_id = (SELECT lane_id FROM sessions WHERE session_id = ? AND tenant = ?)`)
)

func (r row) session() session.Session {
	return session.Session{
		ID: r.text(0), Key: session.Key{
			Tenant: r.text(1), Agent: r.text(2), Instance: r.text(3),
			Name: r.text(4),
		}, CreatedAt: r.time(5),
		EntryHead: r.int(6), EventHead: r.int(7), Pending: int(r.int(8)), Executor: r.text(9),
		LaneID: r.text(10), ParentID: r.text(11), ParentCall: r.text(12),
	}
}

// FindSession implements session.Store.
func (s *Store) FindSession(ctx context.Context, k session.Key) (session.Session, error) {
	return s.oneSession(ctx, findSession, k.Tenant, k.Agent, k.Instance, k.Name)
}

// GetSession implements session.Store.
func (s *Store) GetSession(ctx context.Context, tenant, id string) (session.Session, error) {
	return s.oneSession(ctx, getSession, id, tenant)
}

func (s *Store) oneSession(ctx context.Context, q statement, args ...any) (found session.Session, err error) {
	err = s.read(ctx, func(c *conn) error {
		r, err := c.row(q, args...)
		if err != nil {
			return err
		}
		if r == nil {
			return session.ErrNotFound
		}
		found = r.session()
		return nil
	})
	return found, err
}

// ListSessions implements session.Store.
func (s *Store) ListSessions(ctx context.Context, f session.Filter) (found []session.Session, err error) {
	before := f.BeforeID
	if before == "" {
		before = "~" // after every id
	}
	q, args := listSessions, []any{f.Tenant, before, f.Instance, max(f.Limit, 0)}
	switch {
	case f.ParentID != "":
		q, args = listChildren, append(args, f.ParentID)
	case f.Agent != "":
		q, args = listAgentSession, append(args, f.Agent)
	}
	err = s.read(ctx, func(c *conn) error {
		return c.rows(q, func(r row) (bool, error) {
			found = append(found, r.session())
			return true, nil
		}, args...)
	})
	return found, err
}

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
