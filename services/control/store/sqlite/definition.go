package sqlite

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/store"
)

var (
	insertDefinition = sql(`INSERT INTO definitions (digest, name, body, created_at, used_at) VALUES (?1, ?2, ?3, ?4, ?4)
		ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at`)
	selectDefinition = sql(`SELECT body FROM definitions WHERE digest = ?`)
)

// PutDefinition implements store.Definitions.
func (s *Store) PutDefinition(ctx context.Context, digest, name string, body []byte) error {
	return s.write(ctx, func(t tx) error {
		_, err := t.exec(insertDefinition, digest, name, body, t.micros())
		return err
	})
}

// GetDefinition implements store.Definitions.
func (s *Store) GetDefinition(ctx context.Context, digest string) (body []byte, err error) {
	err = s.read(ctx, func(c *conn) error {
		r, err := c.row(selectDefinition, digest)
		if err != nil {
			return err
		}
		if r == nil {
			return store.ErrDefinitionNotFound
		}
		body = r.blob(0)
		return nil
	})
	return body, err
}
