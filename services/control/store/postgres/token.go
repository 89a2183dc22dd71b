package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/auth"
)

// CreateToken implements auth.Store.
func (s *Store) CreateToken(ctx context.Context, t auth.Token) error {
	labels, err := labelsJSON(t.Labels)
	if err != nil {
		return wrap("create token", err)
	}
	return wrap("create token", s.retry(ctx, func(ctx context.Context, again bool) error {
		sql := `INSERT INTO tokens (token_id, tenant, name, kind, agents, executor, hash, created_at, expires_at, revoked_at, labels)
			VALUES ($1, $2, $3, $4, $5, $6, $7, COALESCE($8, clock_timestamp()), $9, $10, $11::jsonb)`
		if again {
			sql += ` ON CONFLICT (token_id) DO NOTHING` // our own
		}
		_, err := s.pool.Exec(ctx, sql, t.ID, t.Tenant, t.Name, string(t.Kind), t.Agents, t.Executor, t.Hash,
			moment(t.CreatedAt),
			moment(t.ExpiresAt), moment(t.RevokedAt), labels)
		return err
	}))
}

const selectTokens = `SELECT token_id, tenant, name, kind, agents, executor, hash, created_at, expires_at, revoked_at, labels
  FROM tokens `

// FindToken implements auth.Store.
func (s *Store) FindToken(ctx context.Context, hash []byte) (auth.Token, error) {
	list, err := s.tokens(ctx, selectTokens+`WHERE hash = $1`, hash)
	if err == nil && len(list) == 0 {
		err = auth.ErrTokenNotFound
	}
	if err != nil {
		return auth.Token{}, wrap("find token", err)
	}
	return list[0], nil
}

// ListTokens implements auth.Store.
func (s *Store) ListTokens(ctx context.Context, tenant string) ([]auth.Token, error) {
	list, err := s.tokens(ctx, selectTokens+`WHERE tenant = $1 ORDER BY token_id DESC`, tenant)
	return list, wrap("list tokens", err)
}

// RevokeToken implements auth.Store. The first revocation is the one that is remembered.
func (s *Store) RevokeToken(ctx context.Context, tenant, id string) error {
	if !isID(id) {
		return auth.ErrTokenNotFound
	}
	return wrap("revoke token", s.retry(ctx, func(ctx context.Context, _ bool) error {
		tag, err := s.pool.Exec(ctx, `UPDATE tokens SET revoked_at = COALESCE(revoked_at, clock_timestamp())
			WHERE token_id = $1 AND tenant = $2`, id, tenant)
		if err == nil && tag.RowsAffected() == 0 {
			err = auth.ErrTokenNotFound
		}
		return err
	}))
}

// ExtendToken implements auth.Store.
func (s *Store) ExtendToken(ctx context.Context, id string, expires time.Time) error {
	if !isID(id) {
		return auth.ErrTokenNotFound
	}
	return wrap("extend token", s.retry(ctx, func(ctx context.Context, _ bool) error {
		tag, err := s.pool.Exec(ctx, `UPDATE tokens SET expires_at = $2 WHERE token_id = $1`, id, moment(expires))
		if err == nil && tag.RowsAffected() == 0 {
			err = auth.ErrTokenNotFound
		}
		return err
	}))
}

func (s *Store) tokens(ctx context.Context, sql string, args ...any) (list []auth.Token, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t auth.Token, err error) {
			var expires, revoked *time.Time
			var labels []byte
			err = row.Scan(&t.ID, &t.Tenant, &t.Name, &t.Kind, &t.Agents, &t.Executor, &t.Hash, &t.CreatedAt, &expires,
				&revoked, &labels)
			if err == nil && labels != nil {
				err = json.Unmarshal(labels, &t.Labels)
			}
			t.ExpiresAt, t.RevokedAt = value(expires), value(revoked)
			return t, err
		})
		return err
	})
	return list, err
}

// ClusterSecret implements auth.Store.
func (s *Store) ClusterSecret(ctx context.Context, candidate []byte) (secret []byte, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		// Two statements: what another replica inserts meanwhile is invisible to the snapshot of the first.
		batch := &pgx.Batch{}
		batch.Queue(`INSERT INTO secrets (name, body) VALUES ('cluster', $1) ON CONFLICT (name) DO NOTHING`, candidate)
		batch.Queue(`SELECT body FROM secrets WHERE name = 'cluster'`).QueryRow(func(row pgx.Row) error { return row.Scan(&secret) })
		return s.send(ctx, batch)
	})
	return secret, wrap("cluster secret", err)
}
