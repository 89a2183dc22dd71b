// Package auth decides who may do what: tokens, principals and the one authorization check.
//
//	token ──Authenticate──▶ Principal ──Authorize(verb, resource)──▶ nil or an error
//
// Invariants: secrets are stored as hashes and compared in constant time; there is no path on which no token means
// open; a foreign resource is not found rather than forbidden.
package auth

import (
	"context"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// Failures of authentication and authorization.
var (
	ErrUnauthenticated = errs.New(errs.Unauthenticated, "UNAUTHENTICATED", "a valid token is needed: send it as "+
		"`authorization: Bearer TOKEN`")
	ErrForbidden     = errs.New(errs.PermissionDenied, "FORBIDDEN", "this token does not allow that")
	ErrTokenNotFound = errs.New(errs.NotFound, "TOKEN_NOT_FOUND", "no such token")
)

// errUnknownToken refuses what has the form of a token and is none here.
var errUnknownToken = ErrUnauthenticated.With("this control plane has no such token: maybe it is one of another " +
	"control plane, or of another database")

// Kind of a principal.
type Kind string

// Kinds of principal.
const (
	Operator Kind = "operator" // the installation: everything
	Client   Kind = "client"   // of one tenant, with one role
	Executor Kind = "executor" // one executor's connection
	Peer     Kind = "peer"     // another replica
)

// Role is what a client may do in its tenant.
type Role string

// Roles. Each includes the ones before it.
const (
	Viewer   Role = "viewer"   // reads
	User     Role = "user"     // prompts, starts, aborts, uses files
	Approver Role = "approver" // decides approvals
	Admin    Role = "admin"    // manages the tenant's tokens
)

// Roles are all of them, in order.
var Roles = []Role{Viewer, User, Approver, Admin}

// includes reports whether who has the role may do what the other may.
func (r Role) includes(other Role) bool { return slices.Index(Roles, r) >= slices.Index(Roles, other) }

// Token is a credential as stored.
type Token struct {
	ID        string // UUIDv7
	Tenant    string
	Name      string
	Kind      Kind
	Role      Role   // of a client
	Limits    Limits // of a client
	Executor  string // of an executor
	Shared    bool   // of an executor: it serves every tenant
	Labels    Labels // of an executor: those that it may claim
	Hash      []byte // sha256 of the secret
	CreatedAt time.Time
	ExpiresAt time.Time // zero is never
	RevokedAt time.Time // zero is not revoked
	Suspended bool      // its tenant is: it is refused, if it is a client's
	// Left is how long the token lasted yet when it was read, on the platform's clock: 0 and less when it has expired.
	// It says nothing when ExpiresAt is zero.
	Left time.Duration
}

// Ticket is a ticket as stored, see Service.Ticket.
type Ticket struct {
	Hash      []byte // sha256 of its secret
	Tenant    string
	TokenHash []byte // that of the token that it stands for
}

// Store keeps tokens and tickets.
type Store interface {
	// GetTenant returns a tenant, or tenancy.ErrNotFound.
	GetTenant(ctx context.Context, name string) (tenancy.Tenant, error)
	// CreateToken stores a token that lasts for so long from now, 0 for ever, and returns it. The times are filled in,
	// on the platform's clock. One with its id that is there already is left as it is: the answer to whoever stored it
	// was lost.
	CreateToken(ctx context.Context, t Token, life time.Duration) (Token, error)
	// FindToken returns the token with the hash, or ErrTokenNotFound; expired and revoked ones too.
	FindToken(ctx context.Context, hash []byte) (Token, error)
	// GetToken returns the tenant's token with the id, any tenant's when that is "", or ErrTokenNotFound; expired and
	// revoked ones too.
	GetToken(ctx context.Context, tenant, id string) (Token, error)
	// ListTokens returns at most limit of the tenant's tokens, of all tenants' when it is "", newest first by id: those
	// that were made before the token with the id before, "" for the newest. next is before of the next page, "" for
	// none. A page lacks the tokens that cannot be decoded.
	ListTokens(ctx context.Context, tenant, before string, limit int) (page []Token, next string, err error)
	// RevokeToken marks a token revoked, or ErrTokenNotFound.
	RevokeToken(ctx context.Context, tenant, id string) error
	// ExtendToken makes a token last for so long from now, or ErrTokenNotFound.
	ExtendToken(ctx context.Context, id string, life time.Duration) error
	// CreateTicket stores a ticket that lasts for so long from now. One that is there already is left as it is.
	CreateTicket(ctx context.Context, t Ticket, life time.Duration) error
	// UseTicket deletes the ticket with the hash and returns the hash of its token, or ErrTicket when there is none, it
	// has expired, or somebody else has used it: one of those who use it at the same time gets it.
	UseTicket(ctx context.Context, hash []byte) (tokenHash []byte, err error)
	// ClusterSecret returns the secret that the replicas of this database share, made on first use from candidate.
	ClusterSecret(ctx context.Context, candidate []byte) ([]byte, error)
}

// Authenticator finds who a secret stands for.
type Authenticator interface {
	Authenticate(ctx context.Context, secret string) (Principal, error)
	// As is the principal for a request about the named tenant, "" for its own.
	As(ctx context.Context, p Principal, tenant string) (Principal, error)
}

// Guard is an Authenticator that can also refuse at once.
type Guard interface {
	Authenticator
	// Glance refuses a secret that Authenticate would refuse, if that is known from memory.
	Glance(ctx context.Context, secret string) error
}

// Open takes for an operator whoever is not known otherwise: for listeners that only this host's users reach, when they
// asked for it. Executors and replicas still say who they are.
type Open struct {
	Known Authenticator // nil knows nobody
}

// Authenticate implements Authenticator.
func (o Open) Authenticate(ctx context.Context, secret string) (Principal, error) {
	if secret != "" && o.Known != nil {
		if p, err := o.Known.Authenticate(ctx, secret); err == nil {
			return p, nil
		}
	}
	return Principal{Kind: Operator, Tenant: session.DefaultTenant, Name: "anonymous"}, nil
}

// Glance implements Guard.
func (Open) Glance(context.Context, string) error { return nil }
