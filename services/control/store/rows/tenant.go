package rows

import (
	"context"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/tenancy"
)

const tenantColumns = `tenant, created_at, suspended_at, deleting_at, deleted_at`

var (
	insertTenant = writes(`INSERT INTO tenants (tenant, created_at) VALUES ($1, {now}) ON CONFLICT DO NOTHING`)
	findTenant   = reads(`SELECT ` + tenantColumns + ` FROM tenants WHERE tenant = $1`)
	listTenants  = reads(`SELECT ` + tenantColumns + ` FROM tenants`)
	// The first suspension is the one that is remembered.
	suspendTenant = writes(`UPDATE tenants SET suspended_at = COALESCE(suspended_at, {now}) WHERE tenant = $1`)
	resumeTenant  = writes(`UPDATE tenants SET suspended_at = NULL WHERE tenant = $1 AND deleting_at IS NULL`)
)

func decodeTenant(r Row) (tenancy.Tenant, error) {
	return tenancy.Tenant{
		Name: r.text(0), CreatedAt: r.time(1), SuspendedAt: r.time(2), DeletingAt: r.time(3), DeletedAt: r.time(4),
	}, nil
}

// CreateTenant implements tenancy.Store. When its answer is lost it is done again, and finds itself: ErrExists.
func (t *Tables) CreateTenant(ctx context.Context, name string) (tenancy.Tenant, error) {
	if err := change(ctx, t.port, tenancy.ErrExists, insertTenant, name); err != nil {
		return tenancy.Tenant{}, wrap("create tenant", err)
	}
	return t.GetTenant(ctx, name)
}

// GetTenant implements tenancy.Store.
func (t *Tables) GetTenant(ctx context.Context, name string) (tenancy.Tenant, error) {
	found, err := one(ctx, t.port, decodeTenant, tenancy.ErrNotFound, findTenant, name)
	return found, wrap("get tenant", err)
}

// ListTenants implements tenancy.Store.
func (t *Tables) ListTenants(ctx context.Context) ([]tenancy.Tenant, error) {
	all, err := list(ctx, t, decodeTenant, listTenants)
	// Here, because each database has a collation of its own.
	slices.SortFunc(all, func(a, b tenancy.Tenant) int { return strings.Compare(a.Name, b.Name) })
	return all, wrap("list tenants", err)
}

// SuspendTenant implements tenancy.Store.
func (t *Tables) SuspendTenant(ctx context.Context, name string, suspended bool) (tenancy.Tenant, error) {
	s := resumeTenant
	if suspended {
		s = suspendTenant
	}
	if _, err := t.port.Exec(ctx, s, name); err != nil {
		return tenancy.Tenant{}, wrap("suspend tenant", err)
	}
	now, err := t.GetTenant(ctx, name)
	if err == nil && !suspended && !now.DeletingAt.IsZero() {
		return tenancy.Tenant{}, wrap("resume tenant", tenancy.ErrDeleting)
	}
	return now, err
}
