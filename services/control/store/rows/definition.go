package rows

import (
	"context"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

var (
	insertDefinition = writes(`INSERT INTO definitions (digest, name, body, created_at, used_at)
		VALUES ($1, $2, $3, {now}, {now}) ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at`)
	findDefinition = reads(`SELECT body FROM definitions WHERE digest = $1`)
	findPin        = reads(`SELECT r.agent_digest, l.kind, q.parent_call FROM submissions q
		JOIN submissions r ON r.submission_id = COALESCE(q.root_id, q.submission_id)
		JOIN lanes l ON l.lane_id = r.lane_id WHERE q.submission_id = $1`)
	// The loop itself, or what is above it, that carries out a call of the head. The condition on that is no index's:
	// the head may have many calls.
	findGuest = reads(`WITH RECURSIVE found AS (SELECT s.agent_digest, s.parent_call, s.root_id FROM submissions s
		WHERE s.submission_id = $1 UNION ALL SELECT s.agent_digest, s.parent_call, s.root_id FROM found
		JOIN tool_calls c ON c.call_id = found.parent_call JOIN submissions s ON s.submission_id = c.submission_id)
		SELECT found.agent_digest FROM found JOIN tool_calls c ON c.call_id = found.parent_call
		WHERE CAST(c.submission_id AS text) = CAST(found.root_id AS text)`)
)

// PutDefinition implements store.Definitions.
func (t *Tables) PutDefinition(ctx context.Context, digest, name string, body []byte) error {
	_, err := t.port.Exec(tenancy.Everywhere(ctx), insertDefinition, digest, name, body)
	return wrap("put definition", err)
}

// GetDefinition implements store.Definitions.
func (t *Tables) GetDefinition(ctx context.Context, digest string) ([]byte, error) {
	body, err := one(tenancy.Everywhere(ctx), t.port, firstBlob, store.ErrDefinitionNotFound, findDefinition, digest)
	return body, wrap("get definition", err)
}

// PinOf implements store.Pinned.
func (t *Tables) PinOf(ctx context.Context, loopID string) (pin store.Pin, err error) {
	if !ident.IsUUID(loopID) {
		return pin, submission.ErrNotFound
	}
	type head struct {
		digest string
		kind   lane.Kind
		root   bool
	}
	of, err := one(ctx, t.port, func(r Row) (head, error) {
		return head{r.text(0), lane.Kind(r.int(1)), r.text(2) == ""}, nil
	}, submission.ErrNotFound, findPin, loopID)
	switch {
	case err != nil:
	case of.kind != lane.KindRun:
		pin.Agent = of.digest
	case of.root:
		pin.Workflow = of.digest
	default:
		pin.Workflow = of.digest
		pin.Agent, err = one(ctx, t.port, firstText, submission.ErrNotFound, findGuest, loopID)
	}
	return pin, wrap("find what a loop is pinned to", err)
}
