// Package tenancy holds those that share the installation: organisations that have sessions, tokens and executors of
// their own, and see nothing of one another's.
//
//	create ──▶ active ──suspend──▶ suspended: its clients are refused, and what it has begun goes on
//	             │ ▲                   │  │
//	             │ └────── resume ─────┘  │
//	             └──────── delete ────────┴──▶ being deleted: its clients are refused, and its work is aborted
//	                                              └──▶ deleted: its name is left, and the audit log
//
// Package deletion deletes.
//
// Invariants: session.DefaultTenant always exists and is never suspended; nothing of a suspended tenant is lost; no
// tenant gets the name of one that was deleted, so that it never sees anything of that one.
package tenancy

import (
	"context"
	"errors"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Failures of this package's operations.
var (
	ErrNotFound  = errs.New(errs.NotFound, "TENANT_NOT_FOUND", "no such tenant")
	ErrExists    = errs.New(errs.AlreadyExists, "TENANT_EXISTS", "there is a tenant of this name")
	ErrSuspended = errs.New(errs.PermissionDenied, "TENANT_SUSPENDED", "the tenant of this token is suspended: ask "+
		"whoever runs the installation")
	ErrDefault = errs.New(errs.FailedPrecondition, "TENANT_DEFAULT", "the tenant default can be neither suspended nor "+
		"deleted: make tenants for those that can be")
	ErrDeleting = errs.New(errs.FailedPrecondition, "TENANT_BEING_DELETED", "the tenant is being deleted")
)

// Tenant is one of those that share the installation.
type Tenant struct {
	Name        string
	CreatedAt   time.Time
	SuspendedAt time.Time // zero while it is active
	DeletingAt  time.Time // when its deletion was asked for; zero is never
	DeletedAt   time.Time // when nothing of it was left; zero is not yet
}

// Store keeps tenants. Clocks are the database's.
type Store interface {
	// CreateTenant makes a tenant, or ErrExists: there is one of this name, or was.
	CreateTenant(ctx context.Context, name string) (Tenant, error)
	// GetTenant returns a tenant, one that was deleted too, or ErrNotFound.
	GetTenant(ctx context.Context, name string) (Tenant, error)
	// ListTenants returns all tenants, by name, those that were deleted too.
	ListTenants(ctx context.Context) ([]Tenant, error)
	// SuspendTenant suspends a tenant, or ends its suspension, and returns it as it is then. ErrNotFound, and
	// ErrDeleting for the end of the suspension of one that is being deleted, or is deleted.
	SuspendTenant(ctx context.Context, name string, suspended bool) (Tenant, error)
}

// Service manages tenants.
type Service struct{ store Store }

// NewService makes a Service on a store.
func NewService(s Store) *Service { return &Service{s} }

// Create makes a tenant. Errors: INVALID_NAME, ErrExists: there is one of this name, or was.
func (s *Service) Create(ctx context.Context, name string) (Tenant, error) {
	if err := ident.CheckTenant(name); err != nil {
		return Tenant{}, err
	}
	made, err := s.store.CreateTenant(ctx, name)
	if !errors.Is(err, ErrExists) {
		return made, err
	}
	if there, of := s.store.GetTenant(ctx, name); of == nil && !there.DeletingAt.IsZero() {
		err = ErrExists.With("a tenant of this name was deleted, and no other one gets its name: choose another name")
	}
	return Tenant{}, err
}

// Get returns a tenant, one that was deleted too. Errors: ErrNotFound.
func (s *Service) Get(ctx context.Context, name string) (Tenant, error) {
	if ident.CheckTenant(name) != nil {
		return Tenant{}, ErrNotFound
	}
	return s.store.GetTenant(ctx, name)
}

// List returns all tenants, by name, those that were deleted too.
func (s *Service) List(ctx context.Context) ([]Tenant, error) { return s.store.ListTenants(ctx) }

// Suspend refuses a tenant's clients from now on, or takes them again. Errors: ErrNotFound, ErrDefault, ErrDeleting.
func (s *Service) Suspend(ctx context.Context, name string, suspended bool) (Tenant, error) {
	switch {
	case name == session.DefaultTenant && suspended:
		return Tenant{}, ErrDefault
	case ident.CheckTenant(name) != nil:
		return Tenant{}, ErrNotFound
	}
	return s.store.SuspendTenant(ctx, name, suspended)
}
