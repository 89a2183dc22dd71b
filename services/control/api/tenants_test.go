package api_test

import (
	"strings"
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
	for tenant, reason := range map[string]string{"acme": "TENANT_SUSPENDED", "nobody": "TENANT_NOT_FOUND"} {
		_, err := pawlv1.NewTokenServiceClient(f.operator(t)).CreateToken(t.Context(), &pawlv1.CreateTokenRequest{
			Tenant: tenant, Principal: &pawlv1.CreateTokenRequest_Client{Client: &pawlv1.Client{}},
		})
		if rpc.Reason(err) != reason {
			t.Errorf("a new token of %s: %v", tenant, err)
		}
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

// Of a deleted tenant its name is left, which no other one gets. Operators are refused what would make something there.
func TestTenantIsDeleted(t *testing.T) {
	f := start(t, hello())
	operator := f.operator(t)
	tenants := pawlv1.NewTenantServiceClient(operator)
	if _, err := tenants.CreateTenant(t.Context(), &pawlv1.CreateTenantRequest{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	acme := f.as(t, auth.Token{Kind: auth.Client, Tenant: "acme"})
	remove := func(name string) (*pawlv1.Tenant, error) {
		res, err := tenants.DeleteTenant(t.Context(), &pawlv1.DeleteTenantRequest{Tenant: name})
		return res.GetTenant(), err
	}
	for name, reason := range map[string]string{"default": "TENANT_DEFAULT", "zoo": "TENANT_NOT_FOUND"} {
		if _, err := remove(name); rpc.Reason(err) != reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	first, err := remove("acme")
	if err != nil || first.GetDeletingAt() == nil || first.GetSuspendedAt() == nil {
		t.Fatalf("%v, %v", first, err)
	}
	inAcme := metadata.AppendToOutgoingContext(t.Context(), auth.TenantHeader, "acme")
	submit := func() error {
		_, err := pawlv1.NewSubmissionServiceClient(operator).Submit(inAcme, &pawlv1.SubmitRequest{
			Key: key, Message: "hi",
		})
		return err
	}
	prompt := submit()
	_, token := pawlv1.NewTokenServiceClient(operator).CreateToken(inAcme, &pawlv1.CreateTokenRequest{
		Principal: &pawlv1.CreateTokenRequest_Client{Client: &pawlv1.Client{}},
	})
	_, resumed := tenants.ResumeTenant(t.Context(), &pawlv1.ResumeTenantRequest{Tenant: "acme"})
	_, list := pawlv1.NewSessionServiceClient(acme).ListSessions(t.Context(), &pawlv1.ListSessionsRequest{})
	for what, c := range map[string]struct {
		err    error
		reason string
	}{
		"a prompt by an operator": {prompt, "SESSION_BEING_DELETED"}, "a new token": {token, "TENANT_BEING_DELETED"},
		"its resumption": {resumed, "TENANT_BEING_DELETED"}, "its client": {list, "TENANT_SUSPENDED"},
	} {
		if rpc.Reason(c.err) != c.reason {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	deletions, err := pawlv1.NewDeletionServiceClient(operator).ListDeletions(inAcme, &pawlv1.ListDeletionsRequest{})
	if err != nil || len(deletions.GetDeletions()) != 1 ||
		deletions.GetDeletions()[0].GetTenant().GetTenant() != "acme" {
		t.Fatalf("its deletion: %v, %v", deletions, err)
	}

	id := deletions.GetDeletions()[0].GetDeletionId()
	for done := false; !done; {
		if _, done, err = f.Store.SplitDeletion(t.Context(), id, 10); err != nil {
			t.Fatal(err)
		}
	}
	if gone, err := remove("acme"); err != nil || gone.GetDeletedAt() == nil {
		t.Errorf("what is left: %v, %v", gone, err)
	}
	_, err = tenants.CreateTenant(t.Context(), &pawlv1.CreateTenantRequest{Name: "acme"})
	if rpc.Reason(err) != "TENANT_EXISTS" || !strings.Contains(err.Error(), "was deleted") {
		t.Errorf("its name, again: %v", err)
	}
	if err := submit(); rpc.Reason(err) != "TENANT_NOT_FOUND" {
		t.Errorf("a prompt by an operator, to nobody: %v", err)
	}
}
