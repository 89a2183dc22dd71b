package rows

import (
	"context"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

var (
	insertDefinition = writes(`INSERT INTO definitions (digest, name, body, created_at, used_at)
		VALUES ($1, $2, $3, {now}, {now}) ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at`)
	findDefinition = reads(`SELECT body FROM definitions WHERE digest = $1`)
	findAgent      = reads(`SELECT r.agent_digest FROM submissions q
		JOIN submissions r ON r.submission_id = COALESCE(q.root_id, q.submission_id) WHERE q.submission_id = $1`)
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

// AgentOf implements store.Definitions.
func (t *Tables) AgentOf(ctx context.Context, loopID string) (string, error) {
	if !ident.IsUUID(loopID) {
		return "", submission.ErrNotFound
	}
	digest, err := one(ctx, t.port, firstText, submission.ErrNotFound, findAgent, loopID)
	return digest, wrap("find the agent of a loop", err)
}
