package loop

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// errRule refuses a call that rules deny.
var errRule = errs.New(errs.PermissionDenied, "APPROVAL_RULE", "the rules of the agent deny this call")

// judge is what the rules of the loop's agent, and of all that it works for, say of a call.
func (l *loop) judge(a tool.Asked) (approval.Verdict, json.RawMessage, error) {
	if len(l.as.rules) == 0 {
		return approval.Verdict{Do: approval.DoAllow}, nil, nil
	}
	args, err := a.Call.Arguments()
	if err != nil {
		return approval.Verdict{}, nil, fmt.Errorf("encoding a call's arguments: %w", err)
	}
	t := approval.Tool{Name: a.Call.Tool.Name, Own: a.Call.Tool.Own}
	return approval.Judge(l.as.rules, t, args), args, nil
}

// deny refuses the calls of an answer that rules deny. It depends on the answer and the definition alone, so that a
// later owner refuses the same. A call that has a record was not denied.
func (l *loop) deny(asked []tool.Asked) []tool.Asked {
	if len(l.as.rules) == 0 {
		return asked
	}
	recorded := map[int]bool{}
	for _, c := range l.Calls() {
		recorded[c.Index] = true
	}
	for i, a := range asked {
		if a.Refused != nil || recorded[i] {
			continue
		}
		switch v, _, err := l.judge(a); {
		case err != nil:
			asked[i].Refused = errRule.With("Not run: whether the rules of the agent allow it cannot be told "+
				"(%v).", err)
		case v.Do == approval.DoDeny:
			asked[i].Refused = errRule.With("Not run: the rules of the agent deny this call (%s).", v.Why)
		}
	}
	return asked
}

// gateAll makes approvals for the new calls of a step about which rules ask.
func (l *loop) gateAll(ctx context.Context, s *lane.Step, asked []tool.Asked) error {
	var grants []approval.Grant
	var by []model.Speaker
	looked := false
	for i := range s.Calls {
		c := &s.Calls[i]
		v, args, err := l.judge(asked[c.Index])
		if err != nil {
			return err
		}
		if v.Do != approval.DoAsk {
			continue
		}
		if !looked {
			if grants, err = l.tree.deps.Store.LaneGrants(ctx, l.row.LaneID); err != nil {
				return fmt.Errorf("reading what is granted: %w", err)
			}
			if by, err = l.requesters(ctx); err != nil {
				return err
			}
			looked = true
		}
		if granted(grants, c.Tool, v.Asks) {
			continue
		}
		a, err := l.approvalOf(*c, asked[c.Index], args)
		if err != nil {
			return err
		}
		a.Subject.Asks, a.Subject.Requesters, a.Timeout = v.Asks, by, approval.Timeout(v.Asks)
		a.Left = a.Timeout
		c.Approval = a.ID
		for _, ask := range v.Asks {
			if ask.Failed != "" {
				l.Log().Warn("the condition of an approval rule cannot be told, asking", "agent", ask.Agent, "rule",
					ask.Number, "call_id", c.ID, "error", ask.Failed)
			}
		}
		s.Approvals = append(s.Approvals, a)
	}
	return nil
}

// granted reports whether every rule that asks has been granted for the tool. One whose condition could not be told
// asks again.
func granted(grants []approval.Grant, tool string, asks []approval.Ask) bool {
	for _, ask := range asks {
		found := false
		for _, g := range grants {
			found = found || g.Tool == tool && g.Rule == ask.Key() && ask.Failed == ""
		}
		if !found {
			return false
		}
	}
	return true
}

// approvalOf is what is asked about a call, but for the rules that ask.
func (l *loop) approvalOf(c call.Call, asked tool.Asked, args json.RawMessage) (a approval.Approval, err error) {
	digest, err := l.Digest(asked)
	if err != nil {
		return a, err
	}
	a = approval.Approval{
		ID: ident.New(), Tenant: l.tree.Key().Tenant, LaneID: l.row.LaneID, SessionID: l.row.SessionID,
		LoopID: l.row.ID, Turn: l.row.Turn, CallID: c.ID, Key: l.tree.Key(), RootID: l.row.RootID,
		Digest: digest,
		Subject: approval.Subject{
			Call: c.ID, Tool: c.Tool, Cwd: l.cwd(), Path: l.path(),
		},
	}
	diff := ""
	if p, ok := asked.Call.Request.(interface{ Preview() string }); ok {
		diff = p.Preview()
	}
	a.Subject.Show(args, diff, func(s string) string {
		return tool.Clean(tool.Answer{Text: s}, l.as.Secrets).(tool.Answer).Text
	})
	return a, nil
}

// path is the agents from the submission's own to this one. That of a guest begins with its workflow.
func (l *loop) path() []approval.Stage {
	above := []approval.Stage{{Agent: l.tree.Key().Agent}}
	switch {
	case l.root():
		return above
	case l.parent != nil:
		above = l.parent.path()
	}
	return append(above, approval.Stage{
		Agent: l.agent(), Task: l.origin.call.ID, Description: l.origin.request.Description,
	})
}

// requesters are those whose inputs the submission works on: who began it, and who has spoken since.
func (l *loop) requesters(ctx context.Context) (all []model.Speaker, err error) {
	root := l
	for root.parent != nil {
		root = root.parent
	}
	seen := map[model.Speaker]bool{}
	for after := root.row.InputEntry - 1; ; {
		page, err := l.tree.deps.Store.Entries(ctx, root.row.SessionID, after, entriesPage)
		if err != nil {
			return nil, fmt.Errorf("reading who has asked: %w", err)
		}
		for _, e := range page {
			after = e.Seq
			if from := e.Message.From; e.Kind == session.Input && from != nil && !seen[*from] {
				seen[*from] = true
				all = append(all, *from)
			}
		}
		if len(page) < entriesPage {
			return all, nil
		}
	}
}
