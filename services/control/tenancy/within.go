package tenancy

import (
	"context"

	"github.com/pawl-dev/pawl/internal/errs"
)

// ErrForeign says that a statement was about to write a row of another tenant and that the database refused it: the
// second wall has held where the first one did not.
var ErrForeign = errs.New(errs.PermissionDenied, "FOREIGN_TENANT", "this belongs to another tenant")

type withinKey struct{}

// Within returns a context in which a database that can keeps to the rows of one tenant: it shows no others, and takes
// none.
func Within(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, withinKey{}, tenant)
}

// Everywhere returns a context for what the platform does itself, on behalf of whomever: it is within no tenant.
func Everywhere(ctx context.Context) context.Context {
	if Of(ctx) == "" {
		return ctx
	}
	return context.WithValue(ctx, withinKey{}, "")
}

// Of returns the tenant that a context is within, "" for none.
func Of(ctx context.Context) string {
	tenant, _ := ctx.Value(withinKey{}).(string)
	return tenant
}
