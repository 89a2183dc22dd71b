package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

const (
	// fresh is how long an answer of the store is believed; a token revoked at another replica works at most this much
	// longer.
	fresh = 5 * time.Second
	// maxCached bounds what is remembered of tokens that exist, and of secrets that are nobody's.
	maxCached = 1024
	// findLimit bounds a query for a token that several may wait for.
	findLimit = 30 * time.Second
	maxExpiry = 100 * 365 * 24 * time.Hour
)

// ErrTokenInvalid refuses to make a token.
var ErrTokenInvalid = errs.New(errs.InvalidArgument, "TOKEN_INVALID", "the token wanted is not valid")

// errSuspended refuses to make a token that nobody could use.
var errSuspended = errs.New(errs.FailedPrecondition, tenancy.ErrSuspended.Reason(), "the tenant is suspended: resume "+
	"it first")

// Service makes and checks tokens.
type Service struct {
	store Store

	mu    sync.Mutex                      // guards what follows
	cache map[[sha256.Size]byte]cached    // of tokens that exist; what is not fresh is asked for again
	wrong map[[sha256.Size]byte]time.Time // of secrets that are nobody's: until when that is believed
	local map[[sha256.Size]byte]Principal
	peer  string
	// revoked counts revocations made here: an answer of the store that is older than one is not believed later.
	revoked int

	standIns   map[[sha256.Size]byte]*standIn // of tickets that were used
	standInsAt int                            // how many there are before those that ended are forgotten

	lookups  singleflight.Group // by hash and revoked
	failures *failures
	paces    *buckets // of tokens with a rate, by id
}

// NewService makes a Service on a store.
func NewService(store Store) *Service {
	return &Service{
		store: store, cache: map[[sha256.Size]byte]cached{}, wrong: map[[sha256.Size]byte]time.Time{},
		local: map[[sha256.Size]byte]Principal{}, standIns: map[[sha256.Size]byte]*standIn{}, standInsAt: minStandIns,
		failures: newFailures(), paces: newBuckets(),
	}
}

// Issue is Mint for a principal, within what it may do itself. Fails with ErrForbidden, too.
func (s *Service) Issue(
	ctx context.Context, by Principal, t Token, expiresIn time.Duration,
) (secret string, made Token, err error) {
	if t.Tenant == "" {
		t.Tenant = by.Tenant
	}
	if err := check(&t, expiresIn); err != nil {
		return "", Token{}, err
	}
	if err := by.mayMake(t, expiresIn); err != nil {
		return "", Token{}, err
	}
	of, err := s.store.GetTenant(ctx, t.Tenant)
	switch {
	case err != nil:
		return "", Token{}, err
	case !of.DeletingAt.IsZero():
		return "", Token{}, tenancy.ErrDeleting
	case !of.SuspendedAt.IsZero():
		return "", Token{}, errSuspended
	}
	return s.Mint(ctx, t, expiresIn)
}

// Mint makes a token like t and returns its secret, which exists nowhere else. ID, Hash and times are filled in;
// expiresIn 0 is never. Fails with ErrTokenInvalid or ident's ErrInvalid.
func (s *Service) Mint(ctx context.Context, t Token, expiresIn time.Duration) (secret string, made Token, err error) {
	if err := check(&t, expiresIn); err != nil {
		return "", Token{}, err
	}
	secret = newSecret(letters[t.Kind])
	hash := sha256.Sum256([]byte(secret))
	t.ID, t.Hash = ident.New(), hash[:]
	if made, err = s.store.CreateToken(ctx, t, expiresIn); err != nil {
		return "", Token{}, fmt.Errorf("storing the token: %w", err)
	}
	return secret, made, nil
}

func check(t *Token, expiresIn time.Duration) error {
	if t.Tenant == "" {
		t.Tenant = session.DefaultTenant
	}
	if t.Name != "" { // it may have none
		if err := ident.CheckText("a token's name", t.Name, 255); err != nil {
			return err
		}
	}
	switch {
	case expiresIn < 0:
		return ErrTokenInvalid.With("a token cannot expire in the past")
	case expiresIn > maxExpiry:
		return ErrTokenInvalid.With("a token expires within 100 years, or never")
	}
	switch t.Kind {
	case Operator:
		t.Executor, t.Shared, t.Labels, t.Role, t.Limits = "", false, nil, "", Limits{}
	case Client:
		t.Executor, t.Shared, t.Labels = "", false, nil
		if t.Role = cmp.Or(t.Role, User); !slices.Contains(Roles, t.Role) {
			return ErrTokenInvalid.With("there is no role %.64q", t.Role)
		}
		return t.Limits.check()
	case Executor:
		t.Role, t.Limits = "", Limits{}
		if err := ident.CheckExecutor(t.Executor); err != nil {
			return err
		}
		return t.Labels.check()
	default:
		return ErrTokenInvalid.With("a token is for an operator, a client or an executor")
	}
	return nil
}

// Local makes a secret that stands for p in this process only and is stored nowhere: for what runs inside it.
func (s *Service) Local(p Principal) string {
	if p.Tenant == "" {
		p.Tenant = session.DefaultTenant
	}
	secret := newSecret(letters[p.Kind])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.local[sha256.Sum256([]byte(secret))] = p
	return secret
}

// Peer returns the secret with which replicas of this database speak to each other.
func (s *Service) Peer(ctx context.Context) (string, error) {
	s.mu.Lock()
	peer := s.peer
	s.mu.Unlock()
	if peer != "" {
		return peer, nil
	}
	got, err := s.store.ClusterSecret(ctx, []byte(newSecret(letters[Peer])))
	if err != nil {
		return "", fmt.Errorf("reading the cluster's secret: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peer = secretOf(letters[Peer], sha256.Sum256(got))
	return s.peer, nil
}

// Glance refuses a secret that Authenticate would refuse without asking the store: one that cannot be a token, or was
// nobody's a moment ago, or an unknown one of a source that has shown too many. It answers from memory.
func (s *Service) Glance(ctx context.Context, secret string) error {
	if _, err := formOf(secret); err != nil {
		return err
	}
	if s.isWrong(secret) {
		return errUnknownToken
	}
	if s.knows(secret) {
		return nil
	}
	return s.failures.check(sourceOf(ctx))
}

// knows reports whether the secret has been a token's in the life of this process, as far as it remembers.
func (s *Service) knows(secret string) bool {
	hash := s.meant(sha256.Sum256([]byte(secret)))
	s.mu.Lock()
	defer s.mu.Unlock()
	_, local := s.local[hash]
	_, seen := s.cache[hash]
	return local || seen || subtle.ConstantTimeCompare([]byte(s.peer), []byte(secret)) == 1
}

// isWrong reports whether the store has said a moment ago that the secret is nobody's.
func (s *Service) isWrong(secret string) bool {
	hash := sha256.Sum256([]byte(secret))
	s.mu.Lock()
	defer s.mu.Unlock()
	until, wrong := s.wrong[hash]
	return wrong && time.Now().Before(until)
}

// Authenticate finds who a secret stands for. Fails with ErrUnauthenticated, with ErrTooManyFailures when the context's
// source has shown too many different secrets that are nobody's, or with the error of the store when it cannot tell.
func (s *Service) Authenticate(ctx context.Context, secret string) (Principal, error) {
	if err := s.Glance(ctx, secret); err != nil {
		return Principal{}, err
	}
	if secret[len(secretPrefix)] == letters[Peer] {
		return s.authenticatePeer(ctx, secret)
	}
	hash := s.meant(sha256.Sum256([]byte(secret)))
	s.mu.Lock()
	p, ok := s.local[hash]
	hit := s.cache[hash]
	s.mu.Unlock()
	if ok {
		return p, nil
	}
	if !hit.fresh() {
		var err error
		if hit, err = s.lookup(ctx, hash); err != nil {
			return Principal{}, err
		}
	}
	switch {
	case !hit.token.RevokedAt.IsZero():
		return Principal{}, ErrUnauthenticated.With("this token was revoked")
	case hit.expired():
		return Principal{}, ErrUnauthenticated.With("this token has expired")
	case hit.token.Suspended && hit.token.Kind == Client: // executors go on with what was accepted
		return Principal{}, tenancy.ErrSuspended
	}
	return s.principal(hit), nil
}

// principal is who a token stands for.
func (s *Service) principal(c cached) Principal {
	p := c.token.principal()
	p.hash = c.token.Hash
	if r := p.Limits.Rate; r != (Rate{}) {
		p.pace = s.paces.get(p.TokenID, rate.Limit(r.PerSecond), r.Burst)
	}
	if !c.token.ExpiresAt.IsZero() {
		p.ends = c.asked.Add(c.token.Left)
	}
	return p
}

func (s *Service) authenticatePeer(ctx context.Context, secret string) (Principal, error) {
	want, err := s.Peer(ctx)
	if err != nil {
		return Principal{}, err
	}
	if subtle.ConstantTimeCompare([]byte(want), []byte(secret)) != 1 {
		return Principal{}, errUnknownToken
	}
	return Principal{Kind: Peer, Tenant: session.DefaultTenant, Name: "peer"}, nil
}

// List returns a page of those of a tenant's tokens that the principal may revoke, see Store.ListTokens. Only an
// operator sees other tenants.
func (s *Service) List(
	ctx context.Context, by Principal, tenant, before string, limit int,
) (page []Token, next string, err error) {
	if by.Kind != Operator {
		tenant = by.Tenant
	}
	page, next, err = s.store.ListTokens(ctx, tenant, before, limit)
	return slices.DeleteFunc(page, func(t Token) bool { return !by.manages(t) }), next, err
}

// Revoke ends a token that the principal manages: here at once, at other replicas within seconds. Fails with
// ErrTokenNotFound.
func (s *Service) Revoke(ctx context.Context, by Principal, id string) error {
	var t Token
	var err error = ErrTokenNotFound
	if ident.IsUUID(id) {
		tenant := by.Tenant
		if by.Kind == Operator {
			tenant = ""
		}
		t, err = s.store.GetToken(ctx, tenant, id)
	}
	if err == nil && !by.manages(t) {
		err = ErrTokenNotFound
	}
	if err == nil {
		err = s.store.RevokeToken(ctx, t.Tenant, id)
	}
	if errors.Is(err, ErrTokenNotFound) {
		return ErrTokenNotFound.With("no such token: %.64q", id)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked++
	for hash, c := range s.cache {
		if c.token.ID == id {
			delete(s.cache, hash)
		}
	}
	return nil
}

// Watch returns a context that ends within seconds of the secret's end, or of its tenant's suspension, with
// ErrUnauthenticated or tenancy.ErrSuspended as its cause: for what outlives one request. stop ends the watch and waits
// for it.
func Watch(ctx context.Context, a Authenticator, secret string) (watched context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	end := await.Repeat(fresh, func() (again bool) {
		if ctx.Err() != nil {
			return false
		}
		// A store that cannot be asked ends nothing.
		err := contain.Do(func() error { _, err := a.Authenticate(ctx, secret); return err })
		if errors.Is(err, ErrUnauthenticated) || errors.Is(err, tenancy.ErrSuspended) {
			cancel(err)
			return false
		}
		if contain.Is(err) {
			slog.ErrorContext(ctx, "checking a token again failed", "error", err)
		}
		return true
	})
	return ctx, func() {
		cancel(context.Canceled)
		end()
	}
}
