package api

import (
	"context"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

type tenants struct {
	pawlv1.UnimplementedTenantServiceServer
	deps Deps
}

// CreateTenant implements TenantService.
func (t *tenants) CreateTenant(
	ctx context.Context, req *pawlv1.CreateTenantRequest,
) (*pawlv1.CreateTenantResponse, error) {
	if err := may(ctx, auth.ManageTenants, auth.Resource{}); err != nil {
		return nil, err
	}
	one, err := t.deps.Tenants.Create(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &pawlv1.CreateTenantResponse{Tenant: encodeTenant(one)}, nil
}

// ListTenants implements TenantService.
func (t *tenants) ListTenants(
	ctx context.Context, req *pawlv1.ListTenantsRequest,
) (*pawlv1.ListTenantsResponse, error) {
	if err := may(ctx, auth.ReadTenants, auth.Resource{}); err != nil {
		return nil, err
	}
	all, err := t.deps.Tenants.List(ctx)
	if err != nil {
		return nil, err
	}
	page, next, err := pageOf(all, req, func(one tenancy.Tenant) string { return one.Name })
	if err != nil {
		return nil, err
	}
	return &pawlv1.ListTenantsResponse{Tenants: encodeAll(page, encodeTenant), NextPageToken: next}, nil
}

// GetTenant implements TenantService.
func (t *tenants) GetTenant(ctx context.Context, req *pawlv1.GetTenantRequest) (*pawlv1.GetTenantResponse, error) {
	if err := may(ctx, auth.ReadTenants, auth.Resource{}); err != nil {
		return nil, err
	}
	one, err := t.deps.Tenants.Get(ctx, req.GetTenant())
	if err != nil {
		return nil, err
	}
	return &pawlv1.GetTenantResponse{Tenant: encodeTenant(one)}, nil
}

// SuspendTenant implements TenantService.
func (t *tenants) SuspendTenant(
	ctx context.Context, req *pawlv1.SuspendTenantRequest,
) (*pawlv1.SuspendTenantResponse, error) {
	one, err := t.suspend(ctx, req.GetTenant(), true)
	if err != nil {
		return nil, err
	}
	return &pawlv1.SuspendTenantResponse{Tenant: encodeTenant(one)}, nil
}

// ResumeTenant implements TenantService.
func (t *tenants) ResumeTenant(
	ctx context.Context, req *pawlv1.ResumeTenantRequest,
) (*pawlv1.ResumeTenantResponse, error) {
	one, err := t.suspend(ctx, req.GetTenant(), false)
	if err != nil {
		return nil, err
	}
	return &pawlv1.ResumeTenantResponse{Tenant: encodeTenant(one)}, nil
}

func (t *tenants) suspend(ctx context.Context, name string, suspended bool) (tenancy.Tenant, error) {
	if err := may(ctx, auth.ManageTenants, auth.Resource{}); err != nil {
		return tenancy.Tenant{}, err
	}
	return t.deps.Tenants.Suspend(ctx, name, suspended)
}

// DeleteTenant implements TenantService.
func (t *tenants) DeleteTenant(
	ctx context.Context, req *pawlv1.DeleteTenantRequest,
) (*pawlv1.DeleteTenantResponse, error) {
	if err := may(ctx, auth.ManageTenants, auth.Resource{}); err != nil {
		return nil, err
	}
	if _, err := t.deps.Deleter.DeleteTenant(ctx, req.GetTenant()); err != nil {
		return nil, err
	}
	one, err := t.deps.Tenants.Get(ctx, req.GetTenant())
	if err != nil {
		return nil, err
	}
	return &pawlv1.DeleteTenantResponse{Tenant: encodeTenant(one)}, nil
}

func encodeTenant(t tenancy.Tenant) *pawlv1.Tenant {
	return &pawlv1.Tenant{
		Name: t.Name, CreatedAt: stamp(t.CreatedAt), SuspendedAt: stamp(t.SuspendedAt),
		DeletingAt: stamp(t.DeletingAt), DeletedAt: stamp(t.DeletedAt),
	}
}
