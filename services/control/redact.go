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

// redactor takes the secrets of an agent's env out of replies that are recorded where nobody runs the lane.
type redactor struct {
	store  store.Pinned
	agents loop.Definitions
	lookup agent.Lookup
}

// Redact implements link's Redactor.
func (r redactor) Redact(ctx context.Context, c call.Call, reply tool.Reply) (tool.Reply, error) {
	digest, err := r.store.AgentOf(ctx, c.LoopID)
	if err != nil {
		return nil, fmt.Errorf("looking for the agent of call %s: %w", c.ID, err)
	}
	def, err := r.agents.Definition(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("reading the agent of call %s: %w", c.ID, err)
	}
	if _, err := def.Env.Expand(r.lookup); err != nil {
		return nil, err
	}
	return tool.Clean(reply, def.Secrets(r.lookup)), nil
}
