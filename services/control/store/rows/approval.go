package rows

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	approvalColumns = `SELECT approval_id, tenant, lane_id, session_id, submission_id, root_id, turn, call_id, agent,
		instance, name, digest, subject, timeout_us, state, told, decided_by, comment, scope, asked_at, expires_at,
		decided_at, {now} FROM approvals `
	// The order of ids finds a page at once, see listSessions. $3 is a state; -1 is any.
	approvalPage = `AND approval_id < $2 AND (CAST($3 AS int) < 0 OR state = CAST($3 AS int))
		AND ($4 = '' OR agent = $4) AND substr(instance, 1, length(CAST($5 AS text))) = CAST($5 AS text)
		AND ($6 = '' OR agent IN (SELECT value FROM {list $7})) ORDER BY approval_id DESC LIMIT $8`
	grantColumns = `SELECT grant_id, tenant, lane_id, agent, instance, name, tool, rule, said, approval_id, granted_by,
		created_at, revoked_at, revoked_by FROM grants `
	grantPage = `AND grant_id < $2 AND ($3 = '' OR revoked_at IS NULL)
		AND ($4 = '' OR agent = $4) AND substr(instance, 1, length(CAST($5 AS text))) = CAST($5 AS text)
		AND ($6 = '' OR agent IN (SELECT value FROM {list $7})) ORDER BY grant_id DESC LIMIT $8`
)

var (
	getApproval   = reads(approvalColumns + `WHERE approval_id = $1 AND tenant = $2`)
	findApproval  = reads(approvalColumns + `WHERE approval_id = $1`)
	turnApprovals = reads(approvalColumns + `WHERE submission_id = $1 AND turn = $2`)
	listApprovals = reads(approvalColumns + `WHERE tenant || '' = $1 ` + approvalPage)
	// The condition is the index's of those that are open.
	listOpenApprovals = reads(approvalColumns + `WHERE tenant = $1 AND state = 0 ` + approvalPage)
	listLaneApprovals = reads(approvalColumns + `WHERE tenant || '' = $1 AND lane_id = $9 ` + approvalPage)
	decideApproval    = writes(`UPDATE approvals SET state = $3, decided_by = $4, comment = $5, scope = $6,
		decided_at = {now} WHERE approval_id = $1 AND tenant = $2 AND state = 0
		AND (expires_at IS NULL OR expires_at > {now})`)
	expireApproval = writes(`UPDATE approvals SET state = 3, decided_at = {now}
		WHERE approval_id = $1 AND state = 0 AND expires_at <= {now}`)

	insertGrant = writes(`INSERT INTO grants (grant_id, tenant, lane_id, agent, instance, name, tool, rule, said,
		approval_id, granted_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, {now})`)
	getGrant       = reads(grantColumns + `WHERE grant_id = $1 AND tenant = $2`)
	laneGrants     = reads(grantColumns + `WHERE lane_id = $1 AND revoked_at IS NULL ORDER BY grant_id`)
	listGrants     = reads(grantColumns + `WHERE tenant || '' = $1 ` + grantPage)
	listLaneGrants = reads(grantColumns + `WHERE tenant || '' = $1 AND lane_id = $9 ` + grantPage)
	revokeGrant    = writes(`UPDATE grants SET revoked_at = {now}, revoked_by = $3
		WHERE grant_id = $1 AND tenant = $2 AND revoked_at IS NULL`)

	approvalsOf = reads(`SELECT a.approval_id, length(a.subject) FROM {ids $1} p
		CROSS JOIN approvals a WHERE a.submission_id = p.id LIMIT $2`)
	deleteApprovals = writes(`DELETE FROM approvals WHERE approval_id IN (SELECT p.id FROM {ids $1} p)`)
	deleteGrants    = writes(`DELETE FROM grants WHERE lane_id = $1`)
	oldApprovals    = writes(`WITH found AS MATERIALIZED (SELECT approval_id FROM approvals
		WHERE decided_at IS NOT NULL AND decided_at <= {before $1} ORDER BY decided_at LIMIT $2 {skip locked})
		DELETE FROM approvals WHERE approval_id IN (SELECT approval_id FROM found)`)
	oldGrants = writes(`WITH found AS MATERIALIZED (SELECT grant_id FROM grants
		WHERE revoked_at IS NOT NULL AND revoked_at <= {before $1} ORDER BY revoked_at LIMIT $2 {skip locked})
		DELETE FROM grants WHERE grant_id IN (SELECT grant_id FROM found)`)
)

func decodeApproval(r Row) (approval.Approval, error) {
	a := approval.Approval{
		ID: r.text(0), Tenant: r.text(1), LaneID: r.text(2), SessionID: r.text(3), LoopID: r.text(4), RootID: r.text(5),
		Turn: int(r.int(6)), CallID: r.text(7),
		Key:    session.Key{Tenant: r.text(1), Agent: r.text(8), Instance: r.text(9), Name: r.text(10)},
		Digest: r.blob(11), Timeout: time.Duration(r.int(13)) * time.Microsecond, State: approval.State(r.int(14)),
		Told: r.bool(15), Comment: r.text(17), Scope: approval.Scope(r.int(18)), AskedAt: r.time(19),
		ExpiresAt: r.time(20), DecidedAt: r.time(21),
	}
	now := r.time(22)
	if !a.ExpiresAt.IsZero() {
		a.Left = a.ExpiresAt.Sub(now)
	}
	if !a.DecidedAt.IsZero() {
		a.Since = now.Sub(a.DecidedAt)
	}
	if err := r.json(12, &a.Subject); err != nil {
		return a, fmt.Errorf("decoding approval %s: %w", a.ID, err)
	}
	if len(a.Subject.Path) == 0 || len(a.Subject.Asks) == 0 {
		return a, fmt.Errorf("decoding approval %s: it does not say who asks, or by which rule", a.ID)
	}
	if err := r.json(16, &a.By); err != nil {
		return a, fmt.Errorf("decoding who has decided approval %s: %w", a.ID, err)
	}
	return a, nil
}

func decodeGrant(r Row) (approval.Grant, error) {
	g := approval.Grant{
		ID: r.text(0), Tenant: r.text(1), LaneID: r.text(2),
		Key:  session.Key{Tenant: r.text(1), Agent: r.text(3), Instance: r.text(4), Name: r.text(5)},
		Tool: r.text(6), Rule: r.text(7), Said: r.text(8), ApprovalID: r.text(9), CreatedAt: r.time(11),
		RevokedAt: r.time(12),
	}
	if err := r.json(10, &g.By); err != nil {
		return g, fmt.Errorf("decoding who has made grant %s: %w", g.ID, err)
	}
	if err := r.json(13, &g.RevokedBy); err != nil {
		return g, fmt.Errorf("decoding who has revoked grant %s: %w", g.ID, err)
	}
	return g, nil
}

// EncodeSubject is what an approval is about, as it is stored.
func EncodeSubject(a *approval.Approval) (string, error) {
	body, err := json.Marshal(a.Subject)
	return string(body), wrap("encode an approval", err)
}

// GetApproval implements approval.Store.
func (t *Tables) GetApproval(ctx context.Context, tenant, id string) (approval.Approval, error) {
	if !ident.IsUUID(id) {
		return approval.Approval{}, approval.ErrNotFound
	}
	a, err := one(ctx, t.port, decodeApproval, approval.ErrNotFound, getApproval, id, tenant)
	return a, wrap("get approval", err)
}

// TurnApprovals implements approval.Store. Of one that cannot be decoded the call cannot go on: it is an error.
func (t *Tables) TurnApprovals(ctx context.Context, loopID string, turn int) (all []approval.Approval, err error) {
	rows, err := t.port.Query(ctx, turnApprovals, loopID, turn)
	for _, r := range rows {
		a, bad := decodeApproval(r)
		if bad != nil {
			return nil, wrap("read the turn's approvals", bad)
		}
		all = append(all, a)
	}
	return all, wrap("read the turn's approvals", err)
}

// ListApprovals implements approval.Store.
func (t *Tables) ListApprovals(
	ctx context.Context, f approval.Filter,
) (page []approval.Approval, next string, err error) {
	state, s := -1, listApprovals
	if f.State != nil {
		if state = int(*f.State); *f.State == approval.Open {
			s = listOpenApprovals
		}
	}
	page, next, err = pageOf(ctx, t, decodeApproval, s, listLaneApprovals, f, state)
	return page, next, wrap("list approvals", err)
}

// pageOf is a page of approvals or grants; of is the statement for those of one lane.
func pageOf[T any](
	ctx context.Context, t *Tables, decode func(Row) (T, error), s, of Statement, f approval.Filter, which any,
) (page []T, next string, err error) {
	before := f.Before
	if before == "" {
		before = afterAll
	}
	if !ident.IsUUID(before) || f.SessionID != "" && !ident.IsUUID(f.SessionID) {
		return nil, "", nil
	}
	some := ""
	if f.Agents != nil {
		some = "some"
	}
	args := []any{
		f.Tenant, before, which, f.Agent, f.InstancePrefix, some, texts(f.Agents).json(), max(f.Limit, 0),
	}
	if f.SessionID != "" {
		s, args = of, append(args, f.SessionID)
	}
	read := 0
	page, err = list(ctx, t, func(r Row) (T, error) {
		if read++; read == f.Limit {
			next = r.text(0)
		}
		return decode(r)
	}, s, args...)
	return page, next, err
}

// DecideApproval decides an approval through p, which is a transaction's, and makes the grants that the decision makes,
// see approval.Store. The caller wakes the lane if it has decided.
func DecideApproval(
	ctx context.Context, p Port, d approval.Decision,
) (a approval.Approval, decided bool, err error) {
	if !ident.IsUUID(d.ID) {
		return a, false, approval.ErrNotFound
	}
	read := func() (approval.Approval, error) {
		return one(ctx, p, decodeApproval, approval.ErrNotFound, getApproval, d.ID, d.Tenant)
	}
	if a, err = read(); err != nil {
		return a, false, err
	}
	if string(a.Digest) != string(d.Digest) {
		return a, false, approval.ErrDigest
	}
	by, err := json.Marshal(d.By)
	if err != nil {
		return a, false, err
	}
	n, err := p.Exec(ctx, decideApproval, d.ID, d.Tenant, int(d.State()), string(by), d.Comment, int(d.Scope))
	if err == nil && n == 0 {
		_, err = p.Exec(ctx, expireApproval, d.ID)
	}
	if err != nil {
		return a, false, err
	}
	if a, err = read(); err != nil || n == 0 {
		return a, false, err
	}
	if d.Approve && d.Scope == approval.Session {
		for _, ask := range a.Subject.Asks {
			if _, err := p.Exec(ctx, insertGrant, ident.New(), a.Tenant, a.LaneID, a.Key.Agent, a.Key.Instance,
				a.Key.Name, a.Subject.Tool, ask.Key(), ask.String(), a.ID, string(by)); err != nil {
				return a, false, err
			}
		}
	}
	if d.Record != nil {
		err = AppendAudit(ctx, p, *d.Record)
	}
	return a, true, err
}

// ExpireApproval implements approval.Store.
func (t *Tables) ExpireApproval(ctx context.Context, id string) (a approval.Approval, err error) {
	if !ident.IsUUID(id) {
		return a, approval.ErrNotFound
	}
	if _, err = t.port.Exec(ctx, expireApproval, id); err == nil {
		a, err = one(ctx, t.port, decodeApproval, approval.ErrNotFound, findApproval, id)
	}
	return a, wrap("expire an approval", err)
}

// LaneGrants implements approval.Store. One that cannot be decoded allows nothing.
func (t *Tables) LaneGrants(ctx context.Context, laneID string) ([]approval.Grant, error) {
	all, err := list(ctx, t, decodeGrant, laneGrants, laneID)
	return all, wrap("read the grants of a session", err)
}

// GetGrant implements approval.Store.
func (t *Tables) GetGrant(ctx context.Context, tenant, id string) (approval.Grant, error) {
	if !ident.IsUUID(id) {
		return approval.Grant{}, approval.ErrGrantNotFound
	}
	g, err := one(ctx, t.port, decodeGrant, approval.ErrGrantNotFound, getGrant, id, tenant)
	return g, wrap("get grant", err)
}

// ListGrants implements approval.Store.
func (t *Tables) ListGrants(ctx context.Context, f approval.Filter) (page []approval.Grant, next string, err error) {
	which := ""
	if f.Active {
		which = "active"
	}
	page, next, err = pageOf(ctx, t, decodeGrant, listGrants, listLaneGrants, f, which)
	return page, next, wrap("list grants", err)
}

// RevokeGrant implements approval.Store. The first revocation is the one that is remembered.
func (t *Tables) RevokeGrant(ctx context.Context, tenant, id string, by audit.Who) (approval.Grant, error) {
	if !ident.IsUUID(id) {
		return approval.Grant{}, approval.ErrGrantNotFound
	}
	who, err := json.Marshal(by)
	if err == nil {
		_, err = t.port.Exec(ctx, revokeGrant, id, tenant, string(who))
	}
	if err != nil {
		return approval.Grant{}, wrap("revoke a grant", err)
	}
	return t.GetGrant(ctx, tenant, id)
}
