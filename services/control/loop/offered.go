package loop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

var _ Changing = offered{}

// named are the tools of executors that an agent names.
func named(d agent.Definition) (names []string) {
	for _, entry := range d.Tools {
		if name, ok := strings.CutPrefix(entry, agent.Offered); ok {
			names = append(names, name)
		}
	}
	return names
}

func (o offered) Tools(ctx context.Context, of Offer) (tools []*tool.Tool, err error) {
	names := named(of.Definition)
	if len(names) == 0 {
		return nil, nil
	}
	e, absent, err := o.executor(ctx, of)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var t *tool.Tool
		if offer, ok := e.Offers(name); ok {
			t, err = offer.Tool("executor " + e.ID)
		} else {
			of.Miss("tool " + name + " cannot be called: " + absent)
			t, err = tool.Absent(name, absent)
		}
		if err != nil {
			return nil, err
		}
		tools = append(tools, t)
	}
	return tools, nil
}

// executor is the one whose tools the loop has, and why it has not those that this one does not offer.
func (o offered) executor(ctx context.Context, of Offer) (e fleet.Executor, absent string, err error) {
	w := fleet.Wanted{
		Tenant: of.Loop.Key.Tenant, Executor: of.Executor, Builtin: o.builtin, Roughly: true,
		Tools: of.Definition.Offered(),
	}
	if s := of.Definition.Sandbox; s.Kind == agent.SandboxExecutor {
		w.Labels = s.Labels
	}
	e, ok, err := o.fleet.Offering(ctx, w)
	switch {
	case errors.Is(err, fleet.ErrNotFound):
		return e, fmt.Sprintf("the executor of this session, %s, is not there any more.", w.Executor), nil
	case err != nil:
		return e, "", fmt.Errorf("finding an executor that offers tools: %w", err)
	case w.Executor != "":
		absent = fmt.Sprintf("the executor of this session, %s, does not offer it.", w.Executor)
	case ok && slices.ContainsFunc(w.Tools, func(name string) bool { _, offers := e.Offers(name); return offers }):
		absent = fmt.Sprintf("the executor that this session would get, %s, does not offer it.", e.ID)
	default:
		absent = "no executor that this agent can have offers it."
	}
	return e, absent, nil
}

// Version implements Changing.
func (o offered) Version(ctx context.Context, of Offer) (version string, known bool, err error) {
	names := named(of.Definition)
	if len(names) == 0 {
		return "", true, nil
	}
	e, absent, err := o.executor(ctx, of)
	if err != nil {
		return "", false, err
	}
	offers := []tool.Offered{}
	for _, name := range names {
		if offer, ok := e.Offers(name); ok {
			offers = append(offers, offer)
		}
	}
	if len(offers) == len(names) {
		absent = "" // it is told of none
	}
	body, err := json.Marshal(offers)
	return absent + string(body), true, err
}
