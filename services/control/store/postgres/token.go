package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	list, damaged, err := s.tokens(ctx, selectTokens+`WHERE hash = $1`, hash)
	if err == nil && damaged != nil {
		err = damaged
	} else if err == nil && len(list) == 0 {
		err = auth.ErrTokenNotFound
	}
	if err != nil {
		return auth.Token{}, wrap("find token", err)
	}
	return list[0], nil
}

// ListTokens implements auth.Store.
func (s *Store) ListTokens(ctx context.Context, tenant string) ([]auth.Token, error) {
	list, damaged, err := s.tokens(ctx, selectTokens+`WHERE tenant = $1 ORDER BY token_id DESC`, tenant)
	if damaged != nil {
		slog.ErrorContext(ctx, "rows of tokens are damaged, going on without them", "error", damaged)
	}
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

// tokens reads tokens; those whose limits cannot be read are only in damaged, for they let nobody in.
func (s *Store) tokens(ctx context.Context, sql string, args ...any) (list []auth.Token, damaged, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		list, damaged = nil, nil
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		var row tokenRow
		_, err = pgx.ForEachRow(rows, row.targets(), func() error {
			t, err := row.token()
			if err != nil {
				damaged = errors.Join(damaged, err)
				return nil
			}
			list = append(list, t)
			return nil
		})
		return err
	})
	return list, damaged, err
}

// tokenRow is a row of selectTokens.
type tokenRow struct {
	id, tenant, name string
	kind             auth.Kind
	agents           []string
	executor         string
	hash             []byte
	created          time.Time
	expires, revoked *time.Time
	labels           []byte
}

func (r *tokenRow) targets() []any {
	return []any{
		&r.id, &r.tenant, &r.name, &r.kind, &r.agents, &r.executor, &r.hash, &r.created, &r.expires, &r.revoked,
		&r.labels,
	}
}

// token makes a token of what was scanned. The next scan does not touch it.
func (r *tokenRow) token() (auth.Token, error) {
	t := auth.Token{
		ID: r.id, Tenant: r.tenant, Name: r.name, Kind: r.kind, Agents: slices.Clone(r.agents), Executor: r.executor,
		Hash: slices.Clone(r.hash), CreatedAt: r.created, ExpiresAt: value(r.expires), RevokedAt: value(r.revoked),
	}
	if r.labels != nil {
		if err := json.Unmarshal(r.labels, &t.Labels); err != nil {
			return t, fmt.Errorf("decoding the labels of token %s: %w", t.ID, err)
		}
	}
	return t, nil
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
