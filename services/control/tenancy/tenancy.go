// Package tenancy holds those that share the installation: organisations that have sessions, tokens and executors of
// their own, and see nothing of one another's.
//
//	create ──▶ active ──suspend──▶ suspended: its tokens are refused, and what it has begun goes on
//	              ▲                    │
//	              └────── resume ──────┘
//
// Invariants: session.DefaultTenant always exists and is never suspended; nothing of a suspended tenant is lost.
package tenancy

import (
	"context"
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
	ErrDefault = errs.New(errs.FailedPrecondition, "TENANT_DEFAULT", "the tenant default cannot be suspended: make "+
		"tenants for those that can be")
)

// Tenant is one of those that share the installation.
type Tenant struct {
	Name        string
	CreatedAt   time.Time
	SuspendedAt time.Time // zero while it is active
}

// Store keeps tenants. Clocks are the database's.
type Store interface {
	// CreateTenant makes a tenant, or ErrExists.
	CreateTenant(ctx context.Context, name string) (Tenant, error)
	// GetTenant returns a tenant, or ErrNotFound.
	GetTenant(ctx context.Context, name string) (Tenant, error)
	// ListTenants returns all tenants, by name.
	ListTenants(ctx context.Context) ([]Tenant, error)
	// SuspendTenant suspends a tenant, or ends its suspension, and returns it as it is then. ErrNotFound.
	SuspendTenant(ctx context.Context, name string, suspended bool) (Tenant, error)
}

// Service manages tenants.
type Service struct{ store Store }

// NewService makes a Service on a store.
func NewService(s Store) *Service { return &Service{s} }

// Create makes a tenant. Errors: INVALID_NAME, ErrExists.
func (s *Service) Create(ctx context.Context, name string) (Tenant, error) {
	if err := ident.CheckTenant(name); err != nil {
		return Tenant{}, err
	}
	return s.store.CreateTenant(ctx, name)
}

// Get returns a tenant. Errors: ErrNotFound.
func (s *Service) Get(ctx context.Context, name string) (Tenant, error) {
	if ident.CheckTenant(name) != nil {
		return Tenant{}, ErrNotFound
	}
	return s.store.GetTenant(ctx, name)
}

// List returns all tenants, by name.
func (s *Service) List(ctx context.Context) ([]Tenant, error) { return s.store.ListTenants(ctx) }

// Suspend refuses a tenant's tokens from now on, or takes them again. Errors: ErrNotFound, ErrDefault.
func (s *Service) Suspend(ctx context.Context, name string, suspended bool) (Tenant, error) {
	switch {
	case name == session.DefaultTenant && suspended:
		return Tenant{}, ErrDefault
	case ident.CheckTenant(name) != nil:
		return Tenant{}, ErrNotFound
	}
	return s.store.SuspendTenant(ctx, name, suspended)
}
