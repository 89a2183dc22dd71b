package control

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// redactor takes the secrets of an agent's env out of replies that are recorded where nobody runs the session.
type redactor struct {
	submissions submission.Store
	definitions turn.Definitions
	lookup      agent.Lookup
}

// Redact implements link's Redactor.
func (r redactor) Redact(ctx context.Context, c call.Call, reply tool.Reply) (tool.Reply, error) {
	found, err := r.submissions.ListSubmissions(ctx, c.SessionID, c.SubmissionSeq+1, 1)
	if err != nil {
		return nil, fmt.Errorf("reading the submission of call %s: %w", c.ID, err)
	}
	if len(found) == 0 || found[0].Seq != c.SubmissionSeq {
		return nil, submission.ErrNotFound
	}
	def, err := r.definitions.Definition(ctx, found[0].AgentDigest)
	if err != nil {
		return nil, fmt.Errorf("reading the agent of call %s: %w", c.ID, err)
	}
	values, err := def.Env.Expand(r.lookup)
	if err != nil {
		return nil, err
	}
	return tool.Clean(reply, values.Secrets()), nil
}
