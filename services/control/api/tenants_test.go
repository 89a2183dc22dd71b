package api_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// A tenant's sessions are its own. Operators name the tenant, clients have one by their token.
func TestTenantsAreApart(t *testing.T) {
	f := start(t, hello())
	operator := f.operator(t)
	tenants := pawlv1.NewTenantServiceClient(operator)
	if _, err := tenants.CreateTenant(t.Context(), &pawlv1.CreateTenantRequest{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	acme, other := f.as(t, auth.Token{Kind: auth.Client, Tenant: "acme"}), f.as(t, auth.Token{Kind: auth.Client})
	made, err := pawlv1.NewSubmissionServiceClient(acme).Submit(t.Context(), &pawlv1.SubmitRequest{
		Key: key, Message: "hi",
	})
	if err != nil {
		t.Fatal(err)
	}
	sessions := func(conn *grpc.ClientConn, tenant string) (int, string) {
		ctx := t.Context()
		if tenant != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, auth.TenantHeader, tenant)
		}
		res, err := pawlv1.NewSessionServiceClient(conn).ListSessions(ctx, &pawlv1.ListSessionsRequest{})
		return len(res.GetSessions()), rpc.Reason(err)
	}
	for name, c := range map[string]struct {
		conn   *grpc.ClientConn
		tenant string
		want   int
		reason string
	}{
		"its own":              {acme, "", 1, ""},
		"its own, named":       {acme, "acme", 1, ""},
		"another's":            {other, "", 0, ""},
		"another's, named":     {other, "acme", 0, "FORBIDDEN"},
		"the default one":      {acme, "default", 0, "FORBIDDEN"},
		"an operator":          {operator, "", 0, ""},
		"an operator, named":   {operator, "acme", 1, ""},
		"an operator, unknown": {operator, "zoo", 0, "TENANT_NOT_FOUND"},
		"an operator, no name": {operator, "A B", 0, "TENANT_NOT_FOUND"},
	} {
		if n, reason := sessions(c.conn, c.tenant); n != c.want || reason != c.reason {
			t.Errorf("%s: %d sessions, %q", name, n, reason)
		}
	}
	id := made.GetSubmission().GetSubmissionId()
	_, err = pawlv1.NewSubmissionServiceClient(other).GetSubmission(t.Context(), &pawlv1.GetSubmissionRequest{
		SubmissionId: id,
	})
	if rpc.Reason(err) != "SUBMISSION_NOT_FOUND" {
		t.Errorf("another's submission: %v", err)
	}
}

// The tokens of a suspended tenant are refused. What it has is there when it is resumed.
func TestTenantIsSuspended(t *testing.T) {
	f := start(t, hello())
	tenants := pawlv1.NewTenantServiceClient(f.operator(t))
	if _, err := tenants.CreateTenant(t.Context(), &pawlv1.CreateTenantRequest{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	if _, err := tenants.SuspendTenant(t.Context(), &pawlv1.SuspendTenantRequest{Tenant: "acme"}); err != nil {
		t.Fatal(err)
	}
	_, err := pawlv1.NewSessionServiceClient(f.as(t, auth.Token{Kind: auth.Client, Tenant: "acme"})).
		ListSessions(t.Context(), &pawlv1.ListSessionsRequest{})
	if rpc.Reason(err) != "TENANT_SUSPENDED" {
		t.Errorf("a token of a suspended tenant: %v", err)
	}
	if _, err := tenants.ResumeTenant(t.Context(), &pawlv1.ResumeTenantRequest{Tenant: "acme"}); err != nil {
		t.Fatal(err)
	}
	if _, err := pawlv1.NewSessionServiceClient(f.as(t, auth.Token{Kind: auth.Client, Tenant: "acme"})).
		ListSessions(t.Context(), &pawlv1.ListSessionsRequest{}); err != nil {
		t.Error(err)
	}
	_, err = tenants.SuspendTenant(t.Context(), &pawlv1.SuspendTenantRequest{Tenant: "default"})
	if rpc.Reason(err) != "TENANT_DEFAULT" {
		t.Errorf("the default tenant: %v", err)
	}
}
