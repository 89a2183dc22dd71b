package api_test

import (
	"strings"
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
)

func TestWorkflows(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewWorkflowServiceClient(f.as(t, auth.Token{Kind: auth.Client, Role: auth.Viewer}))
	list, err := c.ListWorkflows(t.Context(), &pawlv1.ListWorkflowsRequest{PageSize: 1})
	if err != nil || len(list.GetWorkflows()) != 1 || list.GetWorkflows()[0].GetName() != "keyed" ||
		list.GetWorkflows()[0].GetConcurrency().GetKey() != "${{ run.workflow }}-x" ||
		list.GetWorkflows()[0].GetSteps() != nil {
		t.Fatalf("%v, %v", list, err)
	}
	list, err = c.ListWorkflows(t.Context(), &pawlv1.ListWorkflowsRequest{PageToken: list.GetNextPageToken()})
	if err != nil || len(list.GetWorkflows()) != 1 || list.GetNextPageToken() != "" {
		t.Fatalf("%v, %v", list, err)
	}
	got, err := c.GetWorkflow(t.Context(), &pawlv1.GetWorkflowRequest{Workflow: "three"})
	w := got.GetWorkflow()
	if err != nil || w.GetDescription() != "Does three things." || len(w.GetSteps()) != 3 ||
		w.GetTimeout().AsDuration().Hours() != 2 || !strings.Contains(w.GetMermaid(), "shell") ||
		w.GetInputSchema().GetStructValue().GetFields()["required"] == nil || w.GetDigest() == "" {
		t.Fatalf("%v, %v", got, err)
	}
	if s := w.GetSchedules(); len(s) != 1 || s[0].GetTz() != "Europe/Berlin" || s[0].GetInput() == nil {
		t.Errorf("%v", s)
	}
	lists := w.GetSteps()[1].GetLists()
	if len(lists) != 2 || lists[0].GetName() != "group" || lists[1].GetName() != "catch" {
		t.Fatalf("%v", lists)
	}
	c1 := lists[0].GetSteps()[0]
	if c1.GetPath() != "b.c" || c1.GetCondition() != "steps.a.exit_code == 0" || c1.GetResultSchema() == nil ||
		c1.GetLine() != 11 || c1.GetAttempts() != 1 {
		t.Errorf("%v", c1)
	}
	_, err = c.GetWorkflow(t.Context(), &pawlv1.GetWorkflowRequest{Workflow: "nothing"})
	if rpc.Reason(err) != "WORKFLOW_NOT_FOUND" || !strings.Contains(err.Error(), "workflows: keyed, three") {
		t.Errorf("%v", err)
	}
}

func TestWorkflowsAreChecked(t *testing.T) {
	f := start(t, nil)
	c := pawlv1.NewWorkflowServiceClient(f.as(t, auth.Token{Kind: auth.Client, Role: auth.Viewer}))
	bad, err := c.ValidateWorkflow(t.Context(), &pawlv1.ValidateWorkflowRequest{
		Workflow: "x", Source: "steps:\n  - shell: a\n    iff: b\n  - log: ${{ steps.a.stdout }}\n",
	})
	if p := bad.GetProblems(); err != nil || len(p) != 2 || !strings.HasPrefix(p[0], "x.yaml:3:5: ") ||
		bad.GetWorkflow() != nil {
		t.Errorf("%q, %v", p, err)
	}
	good, err := c.ValidateWorkflow(t.Context(), &pawlv1.ValidateWorkflowRequest{Workflow: "x", Source: three})
	if err != nil || len(good.GetProblems()) > 0 || len(good.GetWorkflow().GetSteps()) != 3 {
		t.Errorf("%v, %v", good, err)
	}
}
