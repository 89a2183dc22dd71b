package api

import (
	"context"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
)

type agents struct {
	pawlv1.UnimplementedAgentServiceServer
	deps Deps
}

// ListAgents implements AgentService.
func (a *agents) ListAgents(ctx context.Context, _ *pawlv1.ListAgentsRequest) (*pawlv1.ListAgentsResponse, error) {
	if err := may(ctx, auth.ReadAgents, auth.Resource{}); err != nil {
		return nil, err
	}
	out := &pawlv1.ListAgentsResponse{}
	for _, d := range a.deps.Agents.List() {
		if may(ctx, auth.ReadAgents, auth.Resource{Agent: d.Name}) == nil {
			out.Agents = append(out.Agents, encodeAgent(d))
		}
	}
	return out, nil
}

// GetAgent implements AgentService.
func (a *agents) GetAgent(ctx context.Context, req *pawlv1.GetAgentRequest) (*pawlv1.GetAgentResponse, error) {
	if err := may(ctx, auth.ReadAgents, auth.Resource{Agent: req.GetAgent(), Missing: agent.Missing(req.GetAgent())}); err != nil {
		return nil, err
	}
	d, err := a.deps.Agents.Get(req.GetAgent())
	if err != nil {
		return nil, err
	}
	return &pawlv1.GetAgentResponse{Agent: encodeAgent(d)}, nil
}

func encodeAgent(d agent.Definition) *pawlv1.Agent {
	out := &pawlv1.Agent{Name: d.Name, Description: d.Description, Model: d.Model.String(), Tools: d.Tools, Digest: d.Digest()}
	for _, s := range d.Expose {
		out.Expose = append(out.Expose, string(s))
	}
	return out
}
