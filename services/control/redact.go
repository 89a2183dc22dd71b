package control

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// redactor takes the secrets of agents' env and of workflows out of replies that are recorded where nobody runs the
// lane.
type redactor struct {
	store     store.Pinned
	agents    loop.Definitions
	workflows workflowPins
	lookup    agent.Lookup
}

// Redact implements link's Redactor.
func (r redactor) Redact(ctx context.Context, c call.Call, reply tool.Reply) (tool.Reply, error) {
	pin, err := r.store.PinOf(ctx, c.LoopID)
	if err != nil {
		return nil, fmt.Errorf("looking for the definitions of call %s: %w", c.ID, err)
	}
	var secrets []string
	if pin.Agent != "" {
		if secrets, err = r.ofAgent(ctx, pin.Agent); err != nil {
			return nil, fmt.Errorf("reading the agent of call %s: %w", c.ID, err)
		}
	}
	if pin.Workflow != "" {
		more, err := r.ofWorkflow(ctx, pin.Workflow)
		if err != nil {
			return nil, fmt.Errorf("reading the workflow of call %s: %w", c.ID, err)
		}
		secrets = append(secrets, more...)
	}
	return tool.Clean(reply, secrets), nil
}

func (r redactor) ofAgent(ctx context.Context, digest string) ([]string, error) {
	def, err := r.agents.Definition(ctx, digest)
	if err != nil {
		return nil, err
	}
	if _, err := def.Env.Expand(r.lookup); err != nil {
		return nil, err
	}
	return def.Secrets(r.lookup), nil
}

func (r redactor) ofWorkflow(ctx context.Context, digest string) (secrets []string, err error) {
	def, err := r.workflows.Workflow(ctx, digest)
	if err != nil {
		return nil, err
	}
	for _, name := range def.Secrets() {
		value, ok := r.lookup(name)
		if !ok {
			return nil, agent.ErrVariable.With("secrets.%s: variable %[1]s is not set", name)
		}
		secrets = append(secrets, value)
	}
	for _, c := range def.Commands {
		values, err := agent.Env(c.Env).Expand(r.lookup)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, values.Secrets()...)
	}
	return secrets, nil
}
