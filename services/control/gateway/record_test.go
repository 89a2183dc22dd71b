package gateway_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

// Whoever starts a run is on record, and so is whoever is refused: for an agent, a workflow, a run, or for somebody
// that a token may not speak for.
func TestRunsAndRefusalsAreOnRecord(t *testing.T) {
	p := planetest.New(t, hello())
	trail := audit.NewLog(p.Store, nil)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- trail.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	f := withFlows(t, func(d *gateway.Deps) { d.Audit = trail })
	id := f.start(t, "echo", `{}`)
	c := invoke(t, f.Server, "echo", `{}`)
	c.rest()
	ask := func(token, request string) {
		t.Helper()
		raw(t, f.Server, request+"\nHost: localhost\nAuthorization: Bearer "+token+"\nContent-Length: 0\n\n")
	}
	ask("runner", "POST /workflows/echo HTTP/1.1")
	dial(t, f.Server, "/workflows/echo", "Authorization: Bearer runner")
	ask("runner", "GET /runs/"+id+" HTTP/1.1")
	ask("runner", "GET /runs/"+id+"/events HTTP/1.1")
	ask("runner", "GET /admin/runs/"+id+" HTTP/1.1")
	ask("op", "POST /agents/shell/i HTTP/1.1\nPawl-On-Behalf-Of: ada")
	dial(t, f.Server, "/agents/shell/i", "Pawl-On-Behalf-Of: ada")
	ask("elsewhere", "POST /agents/shell/i HTTP/1.1\nX-Pawl-Tenant: default")
	ask("elsewhere", "GET /v1/agents HTTP/1.1\nX-Pawl-Tenant: default")
	page, _, err := p.Store.ListAudit(t.Context(), audit.Filter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(page)
	var got []string
	for _, e := range page {
		how := "refused " + e.Reason
		if e.Allowed {
			how = "allowed"
		}
		text := strings.Join([]string{e.Tenant, e.Verb, e.Method, e.Resource, how}, ", ")
		got = append(got, strings.ReplaceAll(text, id, "RUN"))
	}
	want := []string{
		"default, start runs of a workflow, POST /workflows/{workflow}, workflow=echo, allowed",
		"default, start runs of a workflow, WS /workflows/{workflow}, workflow=echo, allowed",
		"default, start runs of a workflow, POST /workflows/{workflow}, workflow=echo, refused WORKFLOW_NOT_FOUND",
		"default, start runs of a workflow, WS /workflows/{workflow}, workflow=echo, refused WORKFLOW_NOT_FOUND",
		"default, read runs, GET /runs/{run}, run=RUN, refused RUN_NOT_FOUND",
		"default, read runs, GET /runs/{run}/events, run=RUN, refused RUN_NOT_FOUND",
		"default, list all agents and runs, GET /admin/runs/{run}, run=RUN, refused RUN_NOT_FOUND",
		"default, prompt an agent, POST /agents/{agent}/{instance}, session=shell/i, refused FORBIDDEN",
		"default, prompt an agent, WS /agents/{agent}/{instance}, session=shell/i, refused FORBIDDEN",
		"elsewhere, name a tenant, POST /agents/shell/i, tenant=default, refused FORBIDDEN",
		"elsewhere, name a tenant, GET /v1/agents, tenant=default, refused FORBIDDEN",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}
