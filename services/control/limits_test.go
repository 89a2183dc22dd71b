package control_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
)

// Only this process may say that a call is part of a request that has been counted.
func TestACallOfAnotherProcessIsARequest(t *testing.T) {
	w := startWalk(t)
	secret, _ := w.mint(t, auth.Token{Kind: auth.Client, Limits: auth.Limits{
		Rate: auth.Rate{PerSecond: 0.001, Burst: 1},
	}}, 0)
	c := pawlv1.NewAgentServiceClient(w.conn(t, secret))
	ctx := metadata.AppendToOutgoingContext(t.Context(), rpc.PartKey, "yes")
	if _, err := c.ListAgents(ctx, &pawlv1.ListAgentsRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ListAgents(ctx, &pawlv1.ListAgentsRequest{}); rpc.Reason(err) != "RATE_LIMITED" {
		t.Errorf("%v", err)
	}
}

// An instance outside of a token's prefix is not found, whether it is there or not, over every surface, to the byte.
func TestInstancesOutsideOfThePrefixAreNotFound(t *testing.T) {
	w := startWalk(t)
	is, isNot := w.there(t).GetKey().GetInstance(), absent().GetKey().GetInstance()
	secret, _ := w.mint(t, auth.Token{Kind: auth.Client, Limits: auth.Limits{InstancePrefix: "theirs-"}}, 0)
	for _, path := range []string{
		"/agents/shell/%s", "/v1/agents/shell/instances/%s:prompt", "/v1/agents/shell/instances/%s:dispatch",
	} {
		var bodies []string
		for _, instance := range []string{is, isNot} {
			r := otherRequest(t, http.MethodPost, fmt.Sprintf(path, instance))
			r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(w.http, "http://")
			r.Header.Set("Authorization", "Bearer "+secret)
			r.Header.Set("X-Request-Id", "same")
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close() // it was read to its end
			if err != nil || res.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %s %s, %v", r.URL.Path, res.Status, body, err)
			}
			bodies = append(bodies, string(body))
		}
		if bodies[0] != bodies[1] || !strings.Contains(strings.ToUpper(bodies[0]), "INSTANCE_NOT_FOUND") {
			t.Errorf("%s: %q", path, bodies)
		}
	}
}

// The audit log tells of every agent, workflow and instance of a tenant: who is limited to some does not read it.
func TestLimitedAdminsDoNotReadTheAuditLog(t *testing.T) {
	w := startWalk(t)
	w.there(t)
	for name, l := range map[string]auth.Limits{
		"agents": {Agents: []string{"other"}}, "instances": {InstancePrefix: "theirs-"},
		"workflows":       {Workflows: []string{"w"}},
		"none but a rate": {Rate: auth.Rate{PerSecond: 100}},
	} {
		secret, _ := w.mint(t, auth.Token{Kind: auth.Client, Role: auth.Admin, Limits: l}, 0)
		c := pawlv1.NewAuditServiceClient(w.conn(t, secret))
		page, err := c.ListAuditEvents(t.Context(), &pawlv1.ListAuditEventsRequest{})
		stream, failed := c.ExportAuditEvents(t.Context(), &pawlv1.ExportAuditEventsRequest{})
		if failed == nil {
			_, failed = stream.Recv()
		}
		if name == "none but a rate" {
			if err != nil || failed != nil {
				t.Errorf("%v, %v", err, failed)
			}
			continue
		}
		if rpc.Reason(err) != "FORBIDDEN" || rpc.Reason(failed) != "FORBIDDEN" {
			t.Errorf("limited to %s: %v, %v, %v", name, page.GetEvents(), err, failed)
		}
	}
}

// A stream without a message is one all the same.
func TestEmptyStreams(t *testing.T) {
	w := startWalk(t)
	for accept, kind := range map[string]string{
		"*/*": "application/x-ndjson", "text/event-stream": "text/event-stream",
	} {
		r := otherRequest(t, http.MethodGet, "/v1/audit-events:export")
		r.URL.RawQuery = "verb=reload+agents" // which nobody has
		r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(w.http, "http://")
		r.Header.Set("Authorization", "Bearer "+w.callers["admin"].secret)
		r.Header.Set("Accept", accept)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close() // it was read to its end
		if err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != kind || len(body) > 0 {
			t.Errorf("%s: %s %v %s, %v", accept, res.Status, res.Header, body, err)
		}
	}
}

// Whoever names a tenant that is not theirs is on record, in their own tenant.
func TestNamingAnotherTenantIsOnRecord(t *testing.T) {
	w := startWalk(t)
	secret, made := w.mint(t, auth.Token{Kind: auth.Client, Role: auth.Admin}, 0)
	ctx := metadata.AppendToOutgoingContext(t.Context(), auth.TenantHeader, "elsewhere")
	_, err := pawlv1.NewAgentServiceClient(w.conn(t, secret)).ListAgents(ctx, &pawlv1.ListAgentsRequest{})
	if rpc.Reason(err) != "FORBIDDEN" {
		t.Error(err)
	}
	page, err := pawlv1.NewAuditServiceClient(w.conn(t, secret)).ListAuditEvents(t.Context(),
		&pawlv1.ListAuditEventsRequest{TokenId: made.ID})
	if err != nil || len(page.GetEvents()) != 1 {
		t.Fatalf("%v, %v", page, err)
	}
	if e := page.GetEvents()[0]; e.GetAllowed() || e.GetTenant() != "default" ||
		e.GetResource() != "tenant=elsewhere" || e.GetSource() != "127.0.0.1" ||
		e.GetMethod() != "pawl.v1.AgentService/ListAgents" {
		t.Errorf("%v", e)
	}
}
