package auth_test

import (
	"testing"

	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// Operators, executors and replicas cross tenants. Nobody else does, and nobody brings along what another one could.
func TestWhoCrossesTenants(t *testing.T) {
	for kind, want := range map[auth.Kind]string{
		auth.Client: "ours", auth.Operator: "", auth.Executor: "", auth.Peer: "", "unknown": "ours", "": "ours",
	} {
		p := auth.Principal{Kind: kind, Tenant: "ours"}
		for _, before := range []string{"", "theirs"} {
			ctx := auth.NewContext(tenancy.Within(t.Context(), before), p)
			if got := tenancy.Of(ctx); got != want {
				t.Errorf("%q is within %q, want %q", kind, got, want)
			}
		}
	}
}
