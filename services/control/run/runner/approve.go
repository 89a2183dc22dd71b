package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// question is what an approval of a run is about.
type question struct {
	Question string `json:"question"`
	Details  any    `json:"details,omitempty"`
}

// approving is the tool of steps that ask: its calls do nothing, but wait for an approval.
var approving = func() *tool.Tool {
	t, err := tool.Define(tool.Spec{
		Name: "approve", Source: "workflows", Safety: tool.Idempotent, Schema: json.RawMessage(`{"type":"object"}`),
		How: tool.ByControl(func(context.Context, tool.Call) (tool.Reply, error) {
			return tool.Answer{Text: "approved"}, nil
		}, func(question, tool.Answer) tool.Result { return tool.Result{Text: "approved"} }),
	})
	if err != nil {
		panic(err) // by a test that would have seen it
	}
	return t
}()

// approval prepares the call that waits for a decision.
func (w *work) approval(q drive.Approve) (err error) {
	ask := question{Question: q.Text, Details: q.Details}
	w.asked = tool.Asked{
		Block: model.Block{Type: model.ToolCallBlock, Tool: approving.Name},
		Call:  tool.Call{Tool: approving, Request: ask},
	}
	w.kit.Tools, err = tool.NewSet(approving)
	return err
}

// asks completes the step that makes the call with the approval that it waits for.
func (w *work) asks(c *call.Call, s *lane.Step) error {
	q := w.request.(drive.Approve)
	digest, err := w.Digest(w.asked)
	if err != nil {
		return err
	}
	args, err := json.Marshal(w.asked.Call.Request)
	if err != nil {
		return fmt.Errorf("encoding what is asked: %w", err)
	}
	by := run.Name + w.def.Name
	a := approval.Approval{
		ID: ident.New(), Tenant: w.row.Key.Tenant, LaneID: w.row.LaneID, SessionID: w.row.SessionID,
		LoopID: w.row.ID, Turn: w.do.Ord, CallID: c.ID, Key: w.row.Key, RootID: w.row.ID, Digest: digest,
		Timeout: q.Timeout,
		Subject: approval.Subject{
			Call: c.ID, Tool: c.Tool, Path: []approval.Stage{{Agent: by, Description: w.do.Path}},
			Asks: []approval.Ask{{Agent: by, Number: 1, Rule: approval.Rule{
				Tools: []string{c.Tool}, Do: approval.DoAsk, To: q.Step.To, Timeout: q.Timeout,
			}}},
		},
	}
	clean := tool.NewCleaner(w.kit.Secrets)
	a.Subject.Show(args, "", clean.Text)
	c.Approval, s.Approvals = a.ID, append(s.Approvals, a)
	return nil
}

// decided waits for the decision.
func (w *work) decided(ctx context.Context) (drive.Outcome, error) {
	c, err := w.calling(ctx, w.asks)
	if err != nil || c == nil {
		return stopped(), err
	}
	all, err := w.Store.TurnApprovals(ctx, w.row.ID, w.do.Ord)
	if err != nil {
		return drive.Outcome{}, fmt.Errorf("reading what was decided: %w", err)
	}
	for i := range all {
		if all[i].CallID == c.ID {
			return decisionOf(w.request.(drive.Approve).Step, &all[i]), nil
		}
	}
	return drive.Outcome{State: step.Unknown, Failed: &step.Failure{
		Reason: drive.ReasonUnknown, Message: "the record of the approval is gone: nobody knows what was decided",
	}}, nil
}

// decisionOf is what the step comes to by what became of its approval.
func decisionOf(do *workflow.Approve, a *approval.Approval) drive.Outcome {
	out := map[string]any{"at": a.DecidedAt.UTC().Format(time.RFC3339Nano)}
	if a.By != nil && a.By.Name != "" {
		out["by"] = a.By.Name
	}
	if a.Comment != "" {
		out["comment"] = a.Comment
	}
	switch a.State {
	case approval.Approved:
		out["decision"] = "approved"
	case approval.Denied:
		out["decision"] = "rejected"
	case approval.Expired:
		switch do.OnTimeout {
		case workflow.TimeoutFail:
			return drive.Outcome{State: step.Failed, Failed: &step.Failure{
				Reason: drive.ReasonTimeout, Message: fmt.Sprintf("nobody has decided within %v", a.Timeout),
			}}
		case workflow.TimeoutApprove:
			out["decision"] = "approved"
		case workflow.TimeoutReject:
			out["decision"] = "rejected"
		default:
			out["decision"] = "timeout"
		}
		out["at"] = a.ExpiresAt.UTC().Format(time.RFC3339Nano)
	case approval.Open, approval.Withdrawn:
		return stopped()
	}
	return drive.Outcome{State: step.Completed, Output: out}
}
