package loop

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// offered has the tools of executors that an agent names. What a tool is like says the executor that has the workspace,
// or would get it. One that it does not offer is there all the same, and says why it cannot be called.
type offered struct {
	fleet   Fleet
	builtin string
}

func (o offered) Tools(ctx context.Context, of Offer) (tools []*tool.Tool, err error) {
	w := fleet.Wanted{
		Tenant: of.Loop.Key.Tenant, Executor: of.Executor, Builtin: o.builtin, Roughly: true,
		Tools: of.Definition.Offered(),
	}
	if s := of.Definition.Sandbox; s.Kind == agent.SandboxExecutor {
		w.Labels = s.Labels
	}
	for _, entry := range of.Definition.Tools {
		name, isOffered := strings.CutPrefix(entry, agent.Offered)
		if !isOffered {
			continue
		}
		t, err := o.find(ctx, w, name)
		if err != nil {
			return nil, err
		}
		tools = append(tools, t)
	}
	return tools, nil
}

func (o offered) find(ctx context.Context, w fleet.Wanted, name string) (*tool.Tool, error) {
	e, offer, ok, err := o.fleet.Offering(ctx, w, name)
	switch {
	case errors.Is(err, fleet.ErrNotFound):
		return tool.Absent(name, fmt.Sprintf("the executor of this session, %s, is not there any more.", w.Executor))
	case err != nil:
		return nil, fmt.Errorf("finding an executor that offers %s: %w", name, err)
	case ok:
		return offer.Tool("executor " + e.ID)
	case w.Executor != "":
		return tool.Absent(name, fmt.Sprintf("the executor of this session, %s, does not offer it.", w.Executor))
	}
	return tool.Absent(name, "no executor that this agent can have offers it.")
}
