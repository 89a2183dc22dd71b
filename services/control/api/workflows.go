package api

import (
	"context"
	"errors"
	"slices"
	"strings"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/graph"
)

type workflows struct {
	pawlv1.UnimplementedWorkflowServiceServer
	deps Deps
}

var errCheckOfAll = auth.ErrForbidden.With("this token is limited to some agents, workflows or instances, and a " +
	"check tells the names of all: use a token that is not")

// ListWorkflows implements WorkflowService.
func (w *workflows) ListWorkflows(
	ctx context.Context, req *pawlv1.ListWorkflowsRequest,
) (*pawlv1.ListWorkflowsResponse, error) {
	if err := may(ctx, auth.ReadWorkflows, auth.Resource{}); err != nil {
		return nil, err
	}
	page, next, err := pageOf(w.deps.knownWorkflows(ctx), req, func(d *workflow.Definition) string { return d.Name })
	if err != nil {
		return nil, err
	}
	return &pawlv1.ListWorkflowsResponse{Workflows: encodeAll(page, encodeWorkflow), NextPageToken: next}, nil
}

// GetWorkflow implements WorkflowService.
func (w *workflows) GetWorkflow(
	ctx context.Context, req *pawlv1.GetWorkflowRequest,
) (*pawlv1.GetWorkflowResponse, error) {
	if err := w.deps.mayWorkflow(ctx, auth.ReadWorkflows, req.GetWorkflow()); err != nil {
		return nil, err
	}
	d, err := w.deps.Workflows.Get(tenant(ctx), req.GetWorkflow())
	if err != nil {
		return nil, w.deps.withWorkflows(ctx, err)
	}
	return &pawlv1.GetWorkflowResponse{Workflow: encodeWhole(d)}, nil
}

// ValidateWorkflow implements WorkflowService.
func (w *workflows) ValidateWorkflow(
	ctx context.Context, req *pawlv1.ValidateWorkflowRequest,
) (*pawlv1.ValidateWorkflowResponse, error) {
	if err := may(ctx, auth.ReadWorkflows, auth.Resource{}); err != nil {
		return nil, err
	}
	if auth.FromContext(ctx).Limits.ToSome() {
		return nil, errCheckOfAll
	}
	d, err := w.deps.Checker.Check(tenant(ctx), req.GetWorkflow(), []byte(req.GetSource()))
	switch {
	case errors.Is(err, workflow.ErrInvalid):
		return &pawlv1.ValidateWorkflowResponse{Problems: cleaned(strings.Split(err.Error(), "\n"))}, nil
	case err != nil:
		return nil, err
	}
	return &pawlv1.ValidateWorkflowResponse{Warnings: cleaned(d.Warnings()), Workflow: encodeWhole(d)}, nil
}

// mayWorkflow is the authorization check about a workflow. One that the caller may not know of is not found.
func (d Deps) mayWorkflow(ctx context.Context, v auth.Verb, name string) error {
	return d.withWorkflows(ctx, may(ctx, v, auth.Resource{Workflow: name, Missing: workflow.Missing(name)}))
}

// withWorkflows adds to an error about an unknown workflow those that the caller may know of.
func (d Deps) withWorkflows(ctx context.Context, err error) error {
	if !errors.Is(err, workflow.ErrNotFound) {
		return err
	}
	var names []string
	for _, one := range d.knownWorkflows(ctx) {
		names = append(names, one.Name)
	}
	return workflow.WithKnown(err, names)
}

// knownWorkflows are the workflows that the caller may know of, by name.
func (d Deps) knownWorkflows(ctx context.Context) []*workflow.Definition {
	return slices.DeleteFunc(d.Workflows.List(tenant(ctx)), func(one *workflow.Definition) bool {
		return auth.Authorize(auth.FromContext(ctx), auth.ReadWorkflows, auth.Resource{Workflow: one.Name}) != nil
	})
}

// encodeWorkflow is a workflow as lists have it.
func encodeWorkflow(d *workflow.Definition) *pawlv1.Workflow {
	out := &pawlv1.Workflow{
		Name: d.Name, Description: d.Description, Digest: d.Digest(), Agent: d.Agent, Timeout: span(d.Timeout),
	}
	for _, s := range d.Expose {
		out.Expose = append(out.Expose, string(s))
	}
	if c := d.Concurrency; c != nil {
		out.Concurrency = &pawlv1.WorkflowConcurrency{
			Key: c.Key.String(), Limit: int32(c.Limit), Policy: string(c.Policy),
		}
	}
	for _, s := range d.Schedules {
		out.Schedules = append(out.Schedules, &pawlv1.WorkflowSchedule{
			Cron: s.Cron, Tz: s.Zone, Catchup: string(s.Catchup), Input: encodeValue(s.Input),
		})
	}
	return out
}

// encodeWhole is a workflow with its steps and schemas.
func encodeWhole(d *workflow.Definition) *pawlv1.Workflow {
	out := encodeWorkflow(d)
	if d.Input != nil {
		out.InputSchema = encodeValue(d.Input.JSON)
	}
	out.Steps, out.Catch = encodeAll(d.Steps, encodeDefined), encodeAll(d.Catch, encodeDefined)
	out.Finally, out.Mermaid = encodeAll(d.Finally, encodeDefined), graph.Mermaid(d)
	return out
}

// encodeDefined is a step of a definition.
func encodeDefined(s *workflow.Step) *pawlv1.WorkflowStep {
	out := &pawlv1.WorkflowStep{
		Path: s.Path, Id: s.ID, Name: s.Name, Kind: s.Kind, Line: int32(s.Line), ContinueOnError: s.Continue,
		Attempts: int32(max(s.Retry.Attempts, 1)),
	}
	if s.If != nil {
		out.Condition = s.If.Source
	}
	if schema := s.Result(); schema != nil {
		out.ResultSchema = encodeValue(schema.JSON)
	}
	for _, l := range s.Lists() {
		out.Lists = append(out.Lists, &pawlv1.WorkflowSteps{Name: l.Name, Steps: encodeAll(l.Steps, encodeDefined)})
	}
	return out
}
