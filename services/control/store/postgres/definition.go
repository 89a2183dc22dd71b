package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/store"
)

// PutDefinition implements store.Definitions.
func (s *Store) PutDefinition(ctx context.Context, digest, name string, body []byte) error {
	return wrap("put definition", s.retry(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.pool.Exec(ctx, `INSERT INTO definitions (digest, name, body, used_at)
			VALUES ($1, $2, $3, clock_timestamp() + $4::bigint * interval '1 microsecond')
			ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at`, digest, name, body, s.offset())
		return err
	}))
}

// GetDefinition implements store.Definitions.
func (s *Store) GetDefinition(ctx context.Context, digest string) (body []byte, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		err := s.pool.QueryRow(ctx, `SELECT body FROM definitions WHERE digest = $1`, digest).Scan(&body)
		if errors.Is(err, pgx.ErrNoRows) {
			return store.ErrDefinitionNotFound
		}
		return err
	})
	return body, wrap("get definition", err)
}
