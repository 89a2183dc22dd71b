package rows

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	auditColumns = `SELECT event_id, tenant, at, verb, body FROM audit `
	auditPage    = ` AND event_id < $1 AND ($2 = '' OR token_id = $2) AND ($3 = '' OR verb = $3)
		AND (at >= $4 AND at < $5) IS TRUE ORDER BY event_id DESC LIMIT $6`
)

var (
	appendAudit = writes(`INSERT INTO audit (event_id, tenant, at, token_id, verb, body)
		VALUES ($1, $2, {now}, $3, $4, $5) ON CONFLICT (event_id) DO NOTHING`)
	listAudit       = reads(auditColumns + `WHERE true` + auditPage)
	listTenantAudit = reads(auditColumns + `WHERE tenant = $7` + auditPage)
)

// auditBody is what of an event has no column.
type auditBody struct {
	audit.Who
	Method   string `json:"method"`
	Resource string `json:"resource,omitempty"`
	Allowed  bool   `json:"allowed"`
	Reason   string `json:"reason,omitempty"`
}

// AuditRow is an event as it is stored, without its time.
type AuditRow struct{ ID, Tenant, TokenID, Verb, Body string }

// NewAuditRow encodes an event.
func NewAuditRow(e audit.Event) (AuditRow, error) {
	body, err := json.Marshal(auditBody{e.Who, e.Method, e.Resource, e.Allowed, e.Reason})
	return AuditRow{e.ID, cmp.Or(e.Tenant, session.DefaultTenant), e.Who.TokenID, e.Verb, string(body)}, err
}

// AppendAudit stores an event through p, which may be a transaction's.
func AppendAudit(ctx context.Context, p Port, e audit.Event) error {
	r, err := NewAuditRow(e)
	if err == nil {
		_, err = p.Exec(ctx, appendAudit, r.ID, r.Tenant, r.TokenID, r.Verb, r.Body)
	}
	return err
}

// AppendAudit implements audit.Store.
func (t *Tables) AppendAudit(ctx context.Context, events []audit.Event) error {
	store := func(ctx context.Context, p Port) error {
		for _, e := range events {
			if err := AppendAudit(ctx, p, e); err != nil {
				return err
			}
		}
		return nil
	}
	if len(events) == 1 { // needs no transaction around it
		return wrap("append to the audit log", store(ctx, t.port))
	}
	return wrap("append to the audit log", t.port.Transact(ctx, store))
}

func auditEvent(r Row) (audit.Event, error) {
	var body auditBody
	if err := r.json(4, &body); err != nil {
		return audit.Event{}, fmt.Errorf("decoding event %s of the audit log: %w", r.text(0), err)
	}
	return audit.Event{
		ID: r.text(0), Tenant: r.text(1), At: r.time(2), Verb: r.text(3), Who: body.Who, Method: body.Method,
		Resource: body.Resource, Allowed: body.Allowed, Reason: body.Reason,
	}, nil
}

// latest is after the time of every event. It is below the last year that databases know.
var latest = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// ListAudit implements audit.Store.
func (t *Tables) ListAudit(ctx context.Context, f audit.Filter) (page []audit.Event, next string, err error) {
	before, to, from := cmp.Or(f.BeforeID, afterAll), f.To, Instant(0)
	if !ident.IsUUID(before) {
		return nil, "", nil
	}
	if to.IsZero() || to.After(latest) {
		to = latest
	}
	if f.From.Unix() > 0 {
		from = Instant(f.From.UnixMicro())
	}
	s, args := listAudit, []any{before, f.TokenID, f.Verb, from, to, max(f.Limit, 0)}
	if f.Tenant != "" {
		s, args = listTenantAudit, append(args, f.Tenant)
	}
	read := 0
	page, err = list(ctx, t, func(r Row) (audit.Event, error) {
		if read++; read == f.Limit {
			next = r.text(0)
		}
		return auditEvent(r)
	}, s, args...)
	return page, next, wrap("list the audit log", err)
}
