package api

import (
	"context"
	"slices"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/catalogue"
)

type agents struct {
	pawlv1.UnimplementedAgentServiceServer
	deps Deps
}

// ListAgents implements AgentService.
func (a *agents) ListAgents(ctx context.Context, req *pawlv1.ListAgentsRequest) (*pawlv1.ListAgentsResponse, error) {
	if err := may(ctx, auth.ReadAgents, auth.Resource{}); err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(a.deps.Agents.List(tenant(ctx)), func(d agent.Definition) bool {
		return auth.Authorize(auth.FromContext(ctx), auth.ReadAgents, auth.Resource{Agent: d.Name}) != nil
	})
	page, next, err := pageOf(all, req, func(d agent.Definition) string { return d.Name })
	if err != nil {
		return nil, err
	}
	return &pawlv1.ListAgentsResponse{Agents: encodeAll(page, encodeAgent), NextPageToken: next}, nil
}

// GetAgent implements AgentService.
func (a *agents) GetAgent(ctx context.Context, req *pawlv1.GetAgentRequest) (*pawlv1.GetAgentResponse, error) {
	err := may(ctx, auth.ReadAgents, auth.Resource{Agent: req.GetAgent(), Missing: agent.Missing(req.GetAgent())})
	if err != nil {
		return nil, a.deps.withKnown(ctx, err)
	}
	d, err := a.deps.Agents.Get(tenant(ctx), req.GetAgent())
	if err != nil {
		return nil, a.deps.withKnown(ctx, err)
	}
	return &pawlv1.GetAgentResponse{Agent: encodeAgent(d)}, nil
}

// ReloadAgents implements AgentService.
func (a *agents) ReloadAgents(
	ctx context.Context,
	_ *pawlv1.ReloadAgentsRequest,
) (*pawlv1.ReloadAgentsResponse, error) {
	if err := may(ctx, auth.ReloadAgents, auth.Resource{}); err != nil {
		return nil, err
	}
	change, workflows := a.deps.Reloader.Reload()
	out := &pawlv1.ReloadAgentsResponse{Added: change.Added, Changed: change.Changed, Removed: change.Removed}
	for _, p := range change.Problems {
		out.Problems = append(out.Problems, &pawlv1.AgentProblem{
			Agent: clean(p.Name), Message: clean(p.Err.Error()), Kept: p.Kept,
		})
	}
	for _, w := range change.Warnings {
		out.Warnings = append(out.Warnings, &pawlv1.AgentWarning{Agent: clean(w.Name), Message: clean(w.Message)})
	}
	out.Workflows = encodeReloaded(workflows)
	return out, nil
}

func encodeReloaded(c catalogue.Change) *pawlv1.ReloadedWorkflows {
	out := &pawlv1.ReloadedWorkflows{Added: c.Added, Changed: c.Changed, Removed: c.Removed}
	for _, p := range c.Problems {
		out.Problems = append(out.Problems, &pawlv1.WorkflowProblem{
			Workflow: clean(p.Name), Message: clean(p.Err.Error()), Kept: p.Kept,
		})
	}
	for _, w := range c.Warnings {
		out.Warnings = append(out.Warnings, &pawlv1.WorkflowWarning{
			Workflow: clean(w.Name), Message: clean(w.Message),
		})
	}
	return out
}

func encodeAgent(d agent.Definition) *pawlv1.Agent {
	out := &pawlv1.Agent{
		Name:        d.Name,
		Description: d.Description,
		Model:       d.Model.String(),
		Fallbacks:   fallbacks(d),
		Tools:       d.Tools,
		Digest:      d.Digest(),
		Skills:      d.Skills,
	}
	for _, name := range d.Plugins {
		p := d.PluginVersions[name]
		out.Plugins = append(out.Plugins, &pawlv1.AgentPlugin{
			Name: name, Version: clean(p.Version), Digest: p.Digest,
		})
	}
	for _, s := range d.Expose {
		out.Expose = append(out.Expose, string(s))
	}
	return out
}

func fallbacks(d agent.Definition) (names []string) {
	for _, ref := range d.Fallbacks {
		names = append(names, ref.String())
	}
	return names
}
