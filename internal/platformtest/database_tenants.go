package platformtest

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// CreateTenant implements tenancy.Store.
func (d *Database) CreateTenant(ctx context.Context, name string) (tenancy.Tenant, error) {
	return put(ctx, d, Step{Op: "CreateTenant"}, func(ctx context.Context) (tenancy.Tenant, error) {
		return d.db.CreateTenant(ctx, name)
	})
}

// GetTenant implements tenancy.Store.
func (d *Database) GetTenant(ctx context.Context, name string) (tenancy.Tenant, error) {
	return ask(ctx, d, "GetTenant", func(ctx context.Context) (tenancy.Tenant, error) {
		return d.db.GetTenant(ctx, name)
	})
}

// ListTenants implements tenancy.Store.
func (d *Database) ListTenants(ctx context.Context) ([]tenancy.Tenant, error) {
	return ask(ctx, d, "ListTenants", d.db.ListTenants)
}

// SuspendTenant implements tenancy.Store.
func (d *Database) SuspendTenant(ctx context.Context, name string, suspended bool) (tenancy.Tenant, error) {
	return put(ctx, d, Step{Op: "SuspendTenant"}, func(ctx context.Context) (tenancy.Tenant, error) {
		return d.db.SuspendTenant(ctx, name, suspended)
	})
}
