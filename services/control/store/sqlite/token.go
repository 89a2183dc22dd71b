package sqlite

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/pawl-dev/pawl/services/control/auth"
)

const tokenColumns = `SELECT token_id, tenant, name, kind, agents, executor, hash, created_at, expires_at, revoked_at, labels
	FROM tokens `

// clusterSecret is the name of the one secret that there is.
const clusterSecret = "cluster"

var (
	insertToken = sql(`INSERT INTO tokens (token_id, tenant, name, kind, agents, executor, hash, created_at, expires_at,
		revoked_at, labels) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	selectToken  = sql(tokenColumns + `WHERE hash = ?`)
	selectTokens = sql(tokenColumns + `WHERE tenant = ? ORDER BY created_at DESC, token_id DESC`)
	// Revoking again does not move the time at which the token ended.
	revokeToken  = sql(`UPDATE tokens SET revoked_at = iif(revoked_at = 0, ?, revoked_at) WHERE token_id = ? AND tenant = ?`)
	extendToken  = sql(`UPDATE tokens SET expires_at = ? WHERE token_id = ?`)
	selectSecret = sql(`SELECT body FROM secrets WHERE name = ?`)
	insertSecret = sql(`INSERT INTO secrets (name, body) VALUES (?, ?)`)
)

func (r row) token() (t auth.Token, err error) {
	t = auth.Token{
		ID: r.text(0), Tenant: r.text(1), Name: r.text(2), Kind: auth.Kind(r.text(3)), Executor: r.text(5), Hash: r.blob(6),
		CreatedAt: r.time(7), ExpiresAt: r.time(8), RevokedAt: r.time(9),
	}
	if agents := r.text(4); agents != "" {
		if err := json.Unmarshal([]byte(agents), &t.Agents); err != nil {
			return t, fmt.Errorf("decoding the agents of token %s: %w", t.ID, err)
		}
	}
	if labels := r.text(10); labels != "" {
		if err := json.Unmarshal([]byte(labels), &t.Labels); err != nil {
			return t, fmt.Errorf("decoding the labels of token %s: %w", t.ID, err)
		}
	}
	return t, nil
}

// CreateToken implements auth.Store.
func (s *Store) CreateToken(ctx context.Context, tok auth.Token) error {
	var agents, labels any // NULL is all of them, and none
	if len(tok.Agents) > 0 {
		b, err := json.Marshal(tok.Agents)
		if err != nil {
			return fmt.Errorf("encoding the agents of token %s: %w", tok.ID, err)
		}
		agents = string(b)
	}
	if len(tok.Labels) > 0 {
		b, err := json.Marshal(tok.Labels)
		if err != nil {
			return fmt.Errorf("encoding the labels of token %s: %w", tok.ID, err)
		}
		labels = string(b)
	}
	if tok.Tenant == "" {
		tok.Tenant = defaultTenant
	}
	return s.write(ctx, func(t tx) error {
		_, err := t.exec(insertToken, tok.ID, tok.Tenant, tok.Name, string(tok.Kind), agents, tok.Executor, tok.Hash,
			micros(cmp.Or(tok.CreatedAt, t.now)), micros(tok.ExpiresAt), micros(tok.RevokedAt), labels)
		return err
	})
}

// FindToken implements auth.Store.
func (s *Store) FindToken(ctx context.Context, hash []byte) (found auth.Token, err error) {
	err = s.read(ctx, func(c *conn) error {
		r, err := c.row(selectToken, hash)
		if err == nil && r == nil {
			err = auth.ErrTokenNotFound
		}
		if err == nil {
			found, err = r.token()
		}
		return err
	})
	return found, err
}

// ListTokens implements auth.Store.
func (s *Store) ListTokens(ctx context.Context, tenant string) (found []auth.Token, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.rows(selectTokens, func(r row) (bool, error) {
			t, err := r.token()
			if err != nil { // it lets nobody in either
				slog.ErrorContext(ctx, "a token's row is damaged, going on without it", "error", err)
				return true, nil
			}
			found = append(found, t)
			return true, nil
		}, tenant)
	})
	return found, err
}

// RevokeToken implements auth.Store.
func (s *Store) RevokeToken(ctx context.Context, tenant, id string) error {
	return s.write(ctx, func(t tx) error {
		n, err := t.exec(revokeToken, t.micros(), id, tenant)
		if err == nil && n == 0 {
			return auth.ErrTokenNotFound
		}
		return err
	})
}

// ExtendToken implements auth.Store.
func (s *Store) ExtendToken(ctx context.Context, id string, expires time.Time) error {
	return s.write(ctx, func(t tx) error {
		n, err := t.exec(extendToken, micros(expires), id)
		if err == nil && n == 0 {
			return auth.ErrTokenNotFound
		}
		return err
	})
}

// ClusterSecret implements auth.Store.
func (s *Store) ClusterSecret(ctx context.Context, candidate []byte) (secret []byte, err error) {
	err = s.write(ctx, func(t tx) error {
		r, err := t.row(selectSecret, clusterSecret)
		if err != nil {
			return err
		}
		if r != nil {
			secret = r.blob(0)
			return nil
		}
		secret = candidate
		_, err = t.exec(insertSecret, clusterSecret, candidate)
		return err
	})
	return secret, err
}
