package rows

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/store"
)

var (
	insertDefinition = writes(`INSERT INTO definitions (digest, name, body, created_at, used_at)
		VALUES ($1, $2, $3, {now}, {now}) ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at`)
	findDefinition = reads(`SELECT body FROM definitions WHERE digest = $1`)
)

// PutDefinition implements store.Definitions.
func (t *Tables) PutDefinition(ctx context.Context, digest, name string, body []byte) error {
	_, err := t.port.Exec(ctx, insertDefinition, digest, name, body)
	return wrap("put definition", err)
}

// GetDefinition implements store.Definitions.
func (t *Tables) GetDefinition(ctx context.Context, digest string) ([]byte, error) {
	body, err := one(ctx, t.port, firstBlob, store.ErrDefinitionNotFound, findDefinition, digest)
	return body, wrap("get definition", err)
}
