package loop

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// Runner makes the runs of sessions' lanes.
type Runner struct {
	deps     Deps
	cache    *cache
	streams  *streams
	prefixes *prefixes
	images   *images
}

// NewRunner makes a Runner.
func NewRunner(deps Deps) *Runner {
	deps = deps.withDefaults()
	return &Runner{
		deps: deps, cache: newCache(), streams: newStreams(deps.Streams), prefixes: newPrefixes(), images: newImages(),
	}
}

// Calls are what calls of tools are carried out with.
func (r *Runner) Calls() turn.Deps { return r.deps.calls() }

// Begin implements lane.Runner.
func (r *Runner) Begin(o *lane.Owner, fresh bool) lane.Run { return newTree(r, o, fresh) }

// Input is what the model of a loop is asked with at its start: the conversation before an entry, and all but the
// conversation as it would be sent now. executor is the one that the lane is bound to, "" for none.
func (r *Runner) Input(ctx context.Context, row lane.Loop, before int64, executor string) (model.Request, error) {
	def, err := r.deps.Agents.Definition(ctx, row.AgentDigest)
	if err != nil {
		return model.Request{}, fmt.Errorf("reading the agent's definition: %w", err)
	}
	l := &loop{tree: &tree{Runner: r}, row: row, conversation: &conversation{}}
	l.as.def = def
	if l.as.Tools, err = r.offer(ctx, Offer{Definition: def, Loop: row, Executor: executor}); err != nil {
		return model.Request{}, err
	}
	// the first entry's time is in the prompt
	if err := l.conversation.catchUp(ctx, r.deps.Store, row.SessionID, max(before-1, 1)); err != nil {
		return model.Request{}, err
	}
	req := l.request()
	if before <= 1 {
		req.Messages = nil
	}
	return req, nil
}
