package rows

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

const tokenColumns = `SELECT token_id, tenant, name, kind, agents, executor, labels, hash, created_at,
	expires_at, revoked_at, {now}, role, limits, shared,
	(SELECT n.suspended_at FROM tenants n WHERE n.tenant = tokens.tenant) FROM tokens `

var (
	// A token that is there already is this one: ids are made for one token each.
	insertToken = writes(`INSERT INTO tokens (token_id, tenant, name, kind, agents, executor, labels, hash, created_at,
		expires_at, role, limits, shared) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, {now},
		CASE WHEN CAST($9 AS bigint) > 0 THEN {after $9} END, $10, $11, $12)
		ON CONFLICT (token_id) DO NOTHING`)
	findToken = reads(tokenColumns + `WHERE hash = $1`)
	getToken  = reads(tokenColumns + `WHERE token_id = $1 AND ($2 = '' OR tenant || '' = $2)`)
	// The order of ids finds a page at once, see listSessions.
	listTokens = reads(tokenColumns + `WHERE ($1 = '' OR tenant || '' = $1) AND token_id < $2
		ORDER BY token_id DESC LIMIT $3`)
	// The first revocation is the one that is remembered.
	revokeToken = writes(`UPDATE tokens SET revoked_at = COALESCE(revoked_at, {now})
		WHERE token_id = $1 AND tenant = $2`)
	extendToken = writes(`UPDATE tokens SET expires_at = {after $2} WHERE token_id = $1`)
)

// token decodes a row of tokenColumns. What a token is limited to is never guessed: one whose limits cannot be read
// lets nobody in.
func token(r Row) (auth.Token, error) {
	t := auth.Token{
		ID: r.text(0), Tenant: r.text(1), Name: r.text(2), Kind: auth.Kind(r.text(3)), Executor: r.text(5),
		Hash: r.blob(7), CreatedAt: r.time(8), ExpiresAt: r.time(9), RevokedAt: r.time(10),
		Role: auth.Role(r.text(12)), Shared: r.bool(14), Suspended: !r.time(15).IsZero(),
	}
	if t.Kind == auth.Client {
		t.Role = cmp.Or(t.Role, auth.User) // one that was made before there were roles
	}
	if !t.ExpiresAt.IsZero() {
		t.Left = t.ExpiresAt.Sub(r.time(11))
	}
	if err := r.json(13, &t.Limits); err != nil {
		return auth.Token{}, fmt.Errorf("decoding the limits of token %s: %w", t.ID, err)
	}
	if err := r.json(4, &t.Limits.Agents); err != nil {
		return auth.Token{}, fmt.Errorf("decoding the agents of token %s: %w", t.ID, err)
	}
	if err := r.json(6, &t.Labels); err != nil {
		return auth.Token{}, fmt.Errorf("decoding the labels of token %s: %w", t.ID, err)
	}
	return t, nil
}

// CreateToken implements auth.Store.
func (t *Tables) CreateToken(ctx context.Context, tok auth.Token, life time.Duration) (auth.Token, error) {
	const doing = "create token"
	agents, err := jsonOr(tok.Limits.Agents, len(tok.Limits.Agents) == 0)
	if err != nil {
		return auth.Token{}, wrap(doing, err)
	}
	rest := tok.Limits
	rest.Agents = nil // they have a column of their own, which earlier versions read
	limits, err := jsonOr(rest, reflect.ValueOf(rest).IsZero())
	if err != nil {
		return auth.Token{}, wrap(doing, err)
	}
	labels, err := jsonOr(tok.Labels, len(tok.Labels) == 0)
	if err != nil {
		return auth.Token{}, wrap(doing, err)
	}
	_, err = t.port.Exec(ctx, insertToken, tok.ID, cmp.Or(tok.Tenant, session.DefaultTenant), tok.Name,
		string(tok.Kind), agents, tok.Executor, labels, tok.Hash, life.Microseconds(),
		string(tok.Role), limits, tok.Shared)
	if err != nil {
		return auth.Token{}, wrap(doing, err)
	}
	return t.FindToken(ctx, tok.Hash)
}

// FindToken implements auth.Store.
func (t *Tables) FindToken(ctx context.Context, hash []byte) (auth.Token, error) {
	tok, err := one(tenancy.Everywhere(ctx), t.port, token, auth.ErrTokenNotFound, findToken, hash)
	return tok, wrap("find token", err)
}

// GetToken implements auth.Store.
func (t *Tables) GetToken(ctx context.Context, tenant, id string) (auth.Token, error) {
	if !ident.IsUUID(id) {
		return auth.Token{}, auth.ErrTokenNotFound
	}
	tok, err := one(ctx, t.port, token, auth.ErrTokenNotFound, getToken, id, tenant)
	return tok, wrap("get token", err)
}

// ListTokens implements auth.Store.
func (t *Tables) ListTokens(
	ctx context.Context, tenant, before string, limit int,
) (page []auth.Token, next string, err error) {
	if before == "" {
		before = afterAll
	}
	if !ident.IsUUID(before) {
		return nil, "", nil
	}
	read := 0
	page, err = list(ctx, t, func(r Row) (auth.Token, error) {
		if read++; read == limit {
			next = r.text(0)
		}
		return token(r)
	}, listTokens, tenant, before, max(limit, 0))
	return page, next, wrap("list tokens", err)
}

// RevokeToken implements auth.Store.
func (t *Tables) RevokeToken(ctx context.Context, tenant, id string) error {
	if !ident.IsUUID(id) {
		return auth.ErrTokenNotFound
	}
	return wrap("revoke token", change(ctx, t.port, auth.ErrTokenNotFound, revokeToken, id, tenant))
}

// ExtendToken implements auth.Store.
func (t *Tables) ExtendToken(ctx context.Context, id string, life time.Duration) error {
	if !ident.IsUUID(id) {
		return auth.ErrTokenNotFound
	}
	return wrap("extend token", change(ctx, t.port, auth.ErrTokenNotFound, extendToken, id,
		life.Microseconds()))
}

var (
	insertTicket = writes(`INSERT INTO tickets (hash, tenant, token_hash, expires) VALUES ($1, $2, $3, {after $4})
		ON CONFLICT (hash) DO NOTHING`)
	useTicket = writes(`DELETE FROM tickets WHERE hash = $1 RETURNING token_hash, expires, {now}`)
)

// CreateTicket implements auth.Store.
func (t *Tables) CreateTicket(ctx context.Context, k auth.Ticket, life time.Duration) error {
	_, err := t.port.Exec(ctx, insertTicket, k.Hash, cmp.Or(k.Tenant, session.DefaultTenant), k.TokenHash,
		life.Microseconds())
	return wrap("create ticket", err)
}

// UseTicket implements auth.Store. Of a ticket that was used, and whose answer was lost, nobody knows: its holder makes
// another one.
func (t *Tables) UseTicket(ctx context.Context, hash []byte) ([]byte, error) {
	token, err := one(tenancy.Everywhere(ctx), t.port, func(r Row) ([]byte, error) {
		if !r.time(1).After(r.time(2)) {
			return nil, auth.ErrTicket
		}
		return r.blob(0), nil
	}, auth.ErrTicket, useTicket, hash)
	return token, wrap("use ticket", err)
}

var (
	insertSecret = writes(`INSERT INTO secrets (name, body) VALUES ('cluster', $1) ON CONFLICT (name) DO NOTHING`)
	findSecret   = reads(`SELECT body FROM secrets WHERE name = 'cluster'`)
)

// ClusterSecret implements auth.Store.
func (t *Tables) ClusterSecret(ctx context.Context, candidate []byte) (secret []byte, err error) {
	ctx = tenancy.Everywhere(ctx)
	if _, err = t.port.Exec(ctx, insertSecret, candidate); err == nil {
		secret, err = one(ctx, t.port, firstBlob, errSecretGone, findSecret)
	}
	return secret, wrap("cluster secret", err)
}

var errSecretGone = errors.New("the secret that the replicas share was deleted from the database meanwhile")
