package rows

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/session"
)

const deletionColumns = `deletion_id, tenant, kind, agent, instance, name, session_id, executor, parent_id, state,
	attempts, cause, asked_at, done_at`

// isOpen is of one deletion. The condition of an index would have that searched for it, from end to end.
const isOpen = `CASE WHEN done_at IS NULL THEN 1 ELSE 0 END = 1`

var (
	insertDeletion = writes(`INSERT INTO deletions (deletion_id, tenant, kind, agent, instance, name, session_id,
		executor, parent_id, asked_at, due_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, {now}, {now})
		ON CONFLICT DO NOTHING`)
	openDeletion = reads(`SELECT ` + deletionColumns + ` FROM deletions
		WHERE tenant = $1 AND agent = $2 AND instance = $3 AND name = $4 AND done_at IS NULL`)
	getDeletion = reads(`SELECT ` + deletionColumns + ` FROM deletions WHERE deletion_id = $1 AND tenant = $2`)
	deletionOf  = reads(`SELECT ` + deletionColumns + ` FROM deletions WHERE session_id = $1 AND tenant || '' = $2
		ORDER BY deletion_id DESC LIMIT 1`)
	listDeletions = reads(`SELECT ` + deletionColumns + ` FROM deletions
		WHERE tenant = $1 AND parent_id IS NULL AND deletion_id < $2 ORDER BY deletion_id DESC LIMIT $3`)

	takeDeletions = writes(`WITH found AS MATERIALIZED (SELECT deletion_id AS id FROM deletions
		WHERE done_at IS NULL AND attempts >= 0 AND due_at <= {now}
		ORDER BY due_at LIMIT $2 {skip locked})
		UPDATE deletions SET due_at = {after $1} WHERE deletion_id IN (SELECT id FROM found)
		RETURNING ` + deletionColumns)
	postponeDeletion = writes(`UPDATE deletions SET due_at = {after $2}, attempts = attempts + 1, cause = $3
		WHERE deletion_id = $1 AND ` + isOpen + ``)
	advanceDeletion = writes(`UPDATE deletions SET state = $2, attempts = 0, cause = '',
		executor = COALESCE((SELECT s.executor FROM sessions s WHERE s.session_id = deletions.session_id), executor)
		WHERE deletion_id = $1 AND ` + isOpen + ` RETURNING ` + deletionColumns)
	// What is left of it says only that it was.
	finishDeletion = writes(`UPDATE deletions SET done_at = {now}, instance = '', name = '', executor = '', cause = '',
		after_instance = '', after_name = '' WHERE deletion_id = $1`)
	dropPart     = writes(`DELETE FROM deletions WHERE deletion_id = $1`)
	wakeDeletion = writes(`UPDATE deletions SET due_at = {now} WHERE deletion_id = $1 AND ` + isOpen + ``)
	deleteDone   = writes(`WITH found AS MATERIALIZED (SELECT deletion_id FROM deletions
		WHERE done_at IS NOT NULL AND done_at <= {before $1} ORDER BY done_at LIMIT $2 {skip locked})
		DELETE FROM deletions WHERE deletion_id IN (SELECT deletion_id FROM found)`)

	openParts = reads(`SELECT count(*) FROM (SELECT 1 FROM deletions WHERE parent_id = $1 LIMIT $2) found`)
	splitFrom = writes(`UPDATE deletions SET attempts = attempts WHERE deletion_id = $1 AND ` + isOpen + `
		RETURNING ` + deletionColumns + `, after_agent, after_instance, after_name`)
	splitAt = writes(`UPDATE deletions SET after_agent = $2, after_instance = $3, after_name = $4
		WHERE deletion_id = $1`)
	sessionsOfTenant = reads(`SELECT agent, instance, name, session_id, parent_id, executor FROM sessions
		WHERE tenant = $1 AND (agent, instance, name) > ($2, $3, $4) ORDER BY agent, instance, name LIMIT $5`)
	sessionsOfInstance = reads(`SELECT agent, instance, name, session_id, parent_id, executor FROM sessions
		WHERE tenant = $1 AND agent = $2 AND instance = $3 AND name > $4 ORDER BY name LIMIT $5`)

	// A session whose lane is gone is there until its rows are.
	sessionAlone = reads(`SELECT agent, instance, name, executor FROM sessions WHERE session_id = $1 AND tenant = $2
		AND parent_id IS NULL`)
	closeSession = writes(`DELETE FROM lanes WHERE lane_id = $1 AND state + 0 = 0 AND pending = 0`)
	laneThere    = reads(`SELECT 1 FROM lanes WHERE lane_id = $1`)
)

func decodeDeletion(r Row) (deletion.Deletion, error) {
	return deletion.Deletion{
		ID: r.text(0), Kind: deletion.Kind(r.int(2)),
		Key:       session.Key{Tenant: r.text(1), Agent: r.text(3), Instance: r.text(4), Name: r.text(5)},
		SessionID: r.text(6), Executor: r.text(7), ParentID: r.text(8), State: deletion.State(r.int(9)),
		Attempts: int(r.int(10)), Cause: r.text(11), AskedAt: r.time(12), DoneAt: r.time(13),
	}, nil
}

// BeginDeletion implements deletion.Store.
func (t *Tables) BeginDeletion(ctx context.Context, d deletion.Deletion) (begun deletion.Deletion, err error) {
	k := d.Key
	switch d.Kind {
	case deletion.Tenant:
		begun, err = t.beginTenant(ctx, d)
		return begun, wrap("begin the deletion of a tenant", err)
	case deletion.Session:
		begun, err = t.beginSession(ctx, d)
		return begun, wrap("begin the deletion of a session", err)
	case deletion.Instance:
		some, err := t.port.Query(ctx, sessionsOfInstance, k.Tenant, k.Agent, k.Instance, "", 1)
		if err == nil && len(some) == 0 {
			err = session.ErrNoInstance
		}
		if err != nil {
			return begun, wrap("begin a deletion", err)
		}
	}
	if err = addDeletion(ctx, t.port, d); err == nil {
		begun, err = one(ctx, t.port, decodeDeletion, deletion.ErrNotFound, openDeletion, k.Tenant, k.Agent, k.Instance,
			k.Name)
	}
	return begun, wrap("begin a deletion", err)
}

// beginSession begins the deletion of a session, under the name that it has by now. It holds the session's lane, so
// that nothing is admitted after the look at what has not settled, and nobody takes the name.
func (t *Tables) beginSession(ctx context.Context, d deletion.Deletion) (begun deletion.Deletion, err error) {
	if err := within(ctx, d.Key.Tenant); err != nil {
		return begun, err
	}
	if !ident.IsUUID(d.SessionID) {
		return begun, session.ErrNotFound
	}
	err = t.port.Transact(ctx, func(ctx context.Context, p Port) error {
		held, err := p.Query(ctx, holdLane, d.SessionID, d.Key.Tenant)
		if err != nil {
			return err
		}
		of, err := p.Query(ctx, sessionAlone, d.SessionID, d.Key.Tenant)
		switch {
		case err != nil:
			return err
		case len(of) == 0:
			return session.ErrNotFound
		}
		d.Key.Agent, d.Key.Instance, d.Key.Name = of[0].text(0), of[0].text(1), of[0].text(2)
		d.Executor = of[0].text(3)
		begun, err = one(ctx, p, decodeDeletion, deletion.ErrNotFound, openDeletion, d.Key.Tenant, d.Key.Agent,
			d.Key.Instance, d.Key.Name)
		switch {
		case !errors.Is(err, deletion.ErrNotFound):
			return err
		case len(held) > 0 && held[0].int(0) > 0 && d.IfIdle:
			return session.ErrBusy
		}
		if _, err := p.Exec(ctx, closeLane, d.SessionID, d.Key.Tenant); err != nil {
			return err
		}
		if err := addDeletion(ctx, p, d); err != nil {
			return err
		}
		begun, err = one(ctx, p, decodeDeletion, deletion.ErrNotFound, openDeletion, d.Key.Tenant, d.Key.Agent,
			d.Key.Instance, d.Key.Name)
		return err
	})
	return begun, err
}

func addDeletion(ctx context.Context, p Port, d deletion.Deletion) error {
	_, err := p.Exec(ctx, insertDeletion, d.ID, d.Key.Tenant, int(d.Kind), d.Key.Agent, d.Key.Instance, d.Key.Name,
		optional(d.SessionID), d.Executor, optional(d.ParentID))
	return err
}

// GetDeletion implements deletion.Store.
func (t *Tables) GetDeletion(ctx context.Context, tenant, id string) (deletion.Deletion, error) {
	if !ident.IsUUID(id) {
		return deletion.Deletion{}, deletion.ErrNotFound
	}
	d, err := one(ctx, t.port, decodeDeletion, deletion.ErrNotFound, getDeletion, id, tenant)
	return d, wrap("get deletion", err)
}

// DeletionOf implements deletion.Store.
func (t *Tables) DeletionOf(ctx context.Context, tenant, sessionID string) (deletion.Deletion, error) {
	if !ident.IsUUID(sessionID) {
		return deletion.Deletion{}, deletion.ErrNotFound
	}
	d, err := one(ctx, t.port, decodeDeletion, deletion.ErrNotFound, deletionOf, sessionID, tenant)
	return d, wrap("find deletion", err)
}

// ListDeletions implements deletion.Store.
func (t *Tables) ListDeletions(ctx context.Context, tenant, before string, limit int) ([]deletion.Deletion, error) {
	if before == "" {
		before = afterAll
	}
	if !ident.IsUUID(before) {
		return nil, nil
	}
	page, err := list(ctx, t, decodeDeletion, listDeletions, tenant, before, max(limit, 0))
	return page, wrap("list deletions", err)
}

// TakeDeletions implements deletion.Store.
func (t *Tables) TakeDeletions(ctx context.Context, keep time.Duration, limit int) ([]deletion.Deletion, error) {
	due, err := list(ctx, t, decodeDeletion, takeDeletions, keep.Microseconds(), limit)
	return due, wrap("take deletions", err)
}

// PostponeDeletion implements deletion.Store.
func (t *Tables) PostponeDeletion(ctx context.Context, id string, pause time.Duration, cause string) error {
	_, err := t.port.Exec(ctx, postponeDeletion, id, pause.Microseconds(), text(cause))
	return wrap("postpone a deletion", err)
}

// text is s as a column can hold it.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// AdvanceDeletion implements deletion.Store.
func (t *Tables) AdvanceDeletion(ctx context.Context, id string, to deletion.State) (deletion.Deletion, error) {
	d, err := one(ctx, t.port, decodeDeletion, deletion.ErrNotFound, advanceDeletion, id, int(to))
	return d, wrap("advance a deletion", err)
}

// CloseSession implements deletion.Store.
func (t *Tables) CloseSession(ctx context.Context, sessionID string) (closed bool, err error) {
	if !ident.IsUUID(sessionID) {
		return true, nil
	}
	n, err := t.port.Exec(ctx, closeSession, sessionID)
	if err != nil || n > 0 {
		return err == nil, wrap("close a session", err)
	}
	left, err := t.port.Query(ctx, laneThere, sessionID)
	return err == nil && len(left) == 0, wrap("close a session", err)
}

// SplitDeletion implements deletion.Store.
func (t *Tables) SplitDeletion(ctx context.Context, id string, limit int) (begun int, done bool, err error) {
	err = t.port.Transact(ctx, func(ctx context.Context, p Port) (err error) {
		begun, done, err = split(ctx, p, id, limit)
		return err
	})
	return begun, done, wrap("split a deletion", err)
}

func split(ctx context.Context, p Port, id string, limit int) (begun int, done bool, err error) {
	rows, err := p.Query(ctx, splitFrom, id)
	if err != nil || len(rows) == 0 {
		return 0, err == nil, err
	}
	d, err := decodeDeletion(rows[0])
	if err != nil {
		return 0, false, err
	}
	after := session.Key{Agent: rows[0].text(14), Instance: rows[0].text(15), Name: rows[0].text(16)}
	open, err := one(ctx, p, firstInt, deletion.ErrNotFound, openParts, id, limit)
	if err != nil || open >= int64(limit) {
		return 0, false, err
	}
	page, err := sessionsAfter(ctx, p, d, after, limit-int(open))
	switch {
	case err != nil:
		return 0, false, err
	case len(page) == 0 && open > 0:
		return 0, false, nil
	case len(page) == 0 && after.Agent != "": // those that were made meanwhile
		_, err = p.Exec(ctx, splitAt, id, "", "", "")
		return 1, false, err
	case len(page) == 0 && d.Kind == deletion.Tenant:
		return endTenant(ctx, p, d)
	case len(page) == 0:
		_, err = p.Exec(ctx, finishDeletion, id)
		return 0, true, err
	}
	for _, r := range page {
		after = session.Key{Tenant: d.Key.Tenant, Agent: r.text(0), Instance: r.text(1), Name: r.text(2)}
		if r.text(4) != "" { // a sub-agent's, which goes with the session that it works for
			continue
		}
		begun++
		if err := addDeletion(ctx, p, deletion.Deletion{
			ID: ident.New(), Kind: deletion.Session, Key: after, SessionID: r.text(3),
			Executor: r.text(5), ParentID: id,
		}); err != nil {
			return 0, false, err
		}
	}
	_, err = p.Exec(ctx, splitAt, id, after.Agent, after.Instance, after.Name)
	return max(begun, 1), false, err
}

// sessionsAfter is a page of the sessions that a deletion is about.
func sessionsAfter(ctx context.Context, p Port, d deletion.Deletion, after session.Key, limit int) ([]Row, error) {
	if d.Kind == deletion.Instance {
		return p.Query(ctx, sessionsOfInstance, d.Key.Tenant, d.Key.Agent, d.Key.Instance, after.Name, limit)
	}
	return p.Query(ctx, sessionsOfTenant, d.Key.Tenant, after.Agent, after.Instance, after.Name, limit)
}

// finish says that a deletion is done. A part of another one is gone then, and that one looks.
func finish(ctx context.Context, p Port, d deletion.Deletion) error {
	if d.ParentID == "" {
		_, err := p.Exec(ctx, finishDeletion, d.ID)
		return err
	}
	if _, err := p.Exec(ctx, dropPart, d.ID); err != nil {
		return err
	}
	_, err := p.Exec(ctx, wakeDeletion, d.ParentID)
	return err
}
