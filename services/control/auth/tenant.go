package auth

import (
	"context"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// TenantHeader is where operators name the tenant that a request is about, in HTTP and, in lower case, in gRPC.
const TenantHeader = "X-Pawl-Tenant"

// NameTenant is what whoever names a tenant that is not theirs is refused. No rule has it: operators may.
const NameTenant Verb = "name a tenant"

// As is the principal for a request about a tenant, "" for none in particular: its own. An operator may name each that
// there is. Fails with tenancy.ErrNotFound, or with ErrForbidden for whoever has one tenant and names another one.
func (s *Service) As(ctx context.Context, p Principal, name string) (Principal, error) {
	switch {
	case name == "" || name == p.Tenant:
		return p, nil
	case p.Kind != Operator:
		return Principal{}, ErrForbidden.With("this token is of one tenant: leave the header %s out", TenantHeader)
	case ident.CheckTenant(name) != nil:
		return Principal{}, tenancy.ErrNotFound
	}
	of, err := s.store.GetTenant(ctx, name)
	if err == nil && !of.DeletedAt.IsZero() {
		err = tenancy.ErrNotFound
	}
	if err != nil {
		return Principal{}, err
	}
	p.Tenant, p.named = name, true
	return p, nil
}

// As implements Authenticator.
func (o Open) As(ctx context.Context, p Principal, name string) (Principal, error) {
	switch {
	case name == "" || name == p.Tenant:
		return p, nil
	case o.Known == nil:
		return Principal{}, tenancy.ErrNotFound
	}
	return o.Known.As(ctx, p, name)
}
