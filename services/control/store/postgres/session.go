package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/session"
)

// selectSessions reads conversations. Of those of sub-agents the lane counts nothing, and where their workspace is says
// the session that they work for.
const selectSessions = `SELECT k.session_id, k.tenant, k.agent, k.instance, k.name, k.created_at, k.lane_id,
  COALESCE(k.parent_id::text, ''), COALESCE(k.parent_call, ''),
  COALESCE((SELECT e.seq FROM entries e WHERE e.session_id = k.session_id ORDER BY e.seq DESC LIMIT 1), 0),
  l.event_head, CASE WHEN k.parent_id IS NULL THEN l.pending
    ELSE (SELECT count(*) FROM submissions q WHERE q.session_id = k.session_id AND q.status + 0 < 2) END,
  r.executor FROM sessions k JOIN lanes l ON l.lane_id = k.lane_id JOIN sessions r ON r.session_id = k.lane_id `

// FindSession implements session.Store.
func (s *Store) FindSession(ctx context.Context, key session.Key) (session.Session, error) {
	got, err := s.session(ctx, `WHERE k.tenant = $1 AND k.agent = $2 AND k.instance = $3 AND k.name = $4`,
		key.Tenant, key.Agent, key.Instance, key.Name)
	return got, wrap("find session", err)
}

// GetSession implements session.Store.
func (s *Store) GetSession(ctx context.Context, tenant, id string) (session.Session, error) {
	if !isID(id) {
		return session.Session{}, session.ErrNotFound
	}
	got, err := s.session(ctx, `WHERE k.session_id = $1 AND k.tenant = $2`, id, tenant)
	return got, wrap("get session", err)
}

// ListSessions implements session.Store.
func (s *Store) ListSessions(ctx context.Context, f session.Filter) ([]session.Session, error) {
	where, args := `WHERE k.tenant = $1`, []any{f.Tenant}
	if f.ParentID == "" {
		where += ` AND k.parent_id IS NULL`
	}
	for _, c := range []struct{ condition, value string }{
		{` AND k.agent <> '' AND k.agent = $%d`, f.Agent}, {` AND k.instance = $%d`, f.Instance},
		{` AND k.session_id < $%d`, f.BeforeID}, {` AND k.parent_id = $%d`, f.ParentID},
	} {
		if c.value != "" {
			args = append(args, c.value)
			where += fmt.Sprintf(c.condition, len(args))
		}
	}
	if f.BeforeID != "" && !isID(f.BeforeID) || f.ParentID != "" && !isID(f.ParentID) {
		return nil, nil
	}
	args = append(args, f.Limit)
	list, err := s.sessions(ctx, where+fmt.Sprintf(` ORDER BY k.session_id DESC LIMIT $%d`, len(args)), args...)
	return list, wrap("list sessions", err)
}

func (s *Store) session(ctx context.Context, where string, args ...any) (session.Session, error) {
	list, err := s.sessions(ctx, where, args...)
	if err == nil && len(list) == 0 {
		err = session.ErrNotFound
	}
	if err != nil {
		return session.Session{}, err
	}
	return list[0], nil
}

func (s *Store) sessions(ctx context.Context, where string, args ...any) (list []session.Session, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		rows, err := s.pool.Query(ctx, selectSessions+where, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (x session.Session, err error) {
			return x, row.Scan(&x.ID, &x.Key.Tenant, &x.Key.Agent, &x.Key.Instance, &x.Key.Name, &x.CreatedAt,
				&x.LaneID, &x.ParentID, &x.ParentCall, &x.EntryHead, &x.EventHead, &x.Pending, &x.Executor)
		})
		return err
	})
	return list, err
}

// rebindSQL moves the workspace of a conversation, or of the one that it works for, and posts mail for the lane.
const rebindSQL = `
WITH r AS (UPDATE sessions s SET executor = $3 FROM sessions k
  WHERE k.session_id = $1 AND k.tenant = $2 AND s.session_id = k.lane_id RETURNING s.lane_id)
INSERT INTO wakes (lane_id) SELECT lane_id FROM r`

// Rebind implements session.Store.
func (s *Store) Rebind(ctx context.Context, tenant, id, executor string) (session.Session, error) {
	if !isID(id) {
		return session.Session{}, session.ErrNotFound
	}
	err := s.retry(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.pool.Exec(ctx, rebindSQL, id, tenant, executor)
		return err
	})
	if err != nil {
		return session.Session{}, wrap("rebind session", err)
	}
	return s.GetSession(ctx, tenant, id)
}

// Entries implements session.Store.
func (s *Store) Entries(
	ctx context.Context, sessionID string, after int64, limit int,
) (entries []session.Entry, err error) {
	if !isID(sessionID) || limit <= 0 {
		return nil, nil
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		rows, err := s.pool.Query(ctx, `SELECT seq, submission_id, kind, body, created_at FROM entries
			WHERE session_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, sessionID, after, limit)
		if err != nil {
			return err
		}
		entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e session.Entry, err error) {
			var body []byte
			var submissionID *string
			if err := row.Scan(&e.Seq, &submissionID, &e.Kind, &body, &e.CreatedAt); err != nil {
				return e, err
			}
			e.SubmissionID = value(submissionID)
			if err := json.Unmarshal(body, &e.Message); err != nil {
				return e, fmt.Errorf("entry %d: %w", e.Seq, err)
			}
			return e, nil
		})
		return err
	})
	return entries, wrap("read entries", err)
}
