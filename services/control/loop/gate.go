package loop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// A gated call is pending and has an approval, see package approval: it is neither placed nor begun before that allows
// it. What became of the approval is told by the stream once, in a commit that notes so. Only then is the call let go:
// a function of control that a later owner finds let go may have run.

// waitApproval is the reason for which a gated call waits.
const waitApproval = "APPROVAL"

// maxPreview bounds what an event shows of arguments and of a diff.
const maxPreview = 8 << 10

// errRule refuses a call that rules deny.
var errRule = errs.New(errs.PermissionDenied, "APPROVAL_RULE", "the rules of the agent deny this call")

// gate is the approval that a call waits for.
type gate struct {
	approval.Approval
	until time.Time // when it expires, on this process's clock; zero for never
}

// newGate is an approval as it was made or read just now.
func newGate(a approval.Approval) *gate {
	g := &gate{Approval: a}
	if a.Timeout > 0 {
		g.until = time.Now().Add(a.Left)
	}
	return g
}

// approvalWith is the approval with an id, one of all.
func approvalWith(all []approval.Approval, id string) *approval.Approval {
	i := slices.IndexFunc(all, func(a approval.Approval) bool { return a.ID == id })
	return &all[i]
}

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

// digest is that of what a call asks for, as it would be sent.
func (l *loop) digest(a tool.Asked) ([]byte, error) {
	request, err := json.Marshal(a.Call.Request)
	if err != nil {
		return nil, fmt.Errorf("encoding a call's request: %w", err)
	}
	return approval.Digest(a.Call.Tool.Name, request, l.cwd()), nil
}

// deny refuses the calls of an answer that rules deny. It depends on the answer and the definition alone, so that a
// later owner refuses the same. A call that has a record was not denied.
func (l *loop) deny(asked []tool.Asked) []tool.Asked {
	if len(l.as.rules) == 0 {
		return asked
	}
	recorded := map[int]bool{}
	for _, c := range l.turn.calls {
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
				l.logger().Warn("the condition of an approval rule cannot be told, asking", "agent", ask.Agent, "rule",
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
	digest, err := l.digest(asked)
	if err != nil {
		return a, err
	}
	a = approval.Approval{
		ID: ident.New(), Tenant: l.tree.key.Tenant, LaneID: l.row.LaneID, SessionID: l.row.SessionID, LoopID: l.row.ID,
		Turn: l.row.Turn, CallID: c.ID, Key: l.tree.key, RootID: l.row.RootID,
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
		return tool.Clean(tool.Answer{Text: s}, l.as.secrets).(tool.Answer).Text
	})
	return a, nil
}

// path is the agents from the submission's own to this one.
func (l *loop) path() []approval.Stage {
	if l.parent == nil {
		return []approval.Stage{{Agent: l.agent()}}
	}
	return append(l.parent.path(), approval.Stage{
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

// requested tells of an approval that a call waits for.
func (l *loop) requested(c call.Call, a *approval.Approval) event.Event {
	s := &a.Subject
	told := event.Approval{
		ID: a.ID, Digest: a.Digest, Arguments: string(s.Arguments), Diff: s.Diff, Cut: s.Cut,
		Least: approval.Least(s.Asks).String(), Other: approval.Other(s.Asks),
	}
	if a.Timeout > 0 {
		told.Until = time.Now().Add(a.Timeout)
	}
	for _, text := range []*string{&told.Arguments, &told.Diff} {
		if len(*text) > maxPreview {
			*text, told.Cut = (*text)[:clip.Floor(*text, maxPreview)], true
		}
	}
	for _, ask := range s.Asks {
		rule := ask.String()
		if ask.Failed != "" {
			rule += " (" + ask.Failed + ")"
		}
		told.Rules = append(told.Rules, rule)
	}
	for _, stage := range s.Path {
		told.Path = append(told.Path, stage.Agent)
	}
	return l.event(event.Event{Type: event.ApprovalRequested, Call: started(c), Approval: &told})
}

// lookAtGates reads what became of the approvals that calls of the turn wait for, and lets go or ends the calls that
// have been decided about.
func (l *loop) lookAtGates(ctx context.Context) error {
	waits := false
	for _, c := range l.turn.calls {
		waits = waits || c.gate != nil && !c.State.Terminal()
	}
	if !waits {
		return nil
	}
	rows, err := l.tree.deps.Store.TurnApprovals(ctx, l.row.ID, l.row.Turn)
	if err != nil {
		return l.undecided(err)
	}
	byID := map[string]approval.Approval{}
	for _, a := range rows {
		byID[a.ID] = a
	}
	for _, c := range l.turn.calls {
		if c.gate == nil || c.State.Terminal() {
			continue
		}
		a, there := byID[c.Approval]
		if !there {
			a = c.gate.Approval
			a.State, a.Comment = approval.Withdrawn, "its record is gone"
		}
		if unread, err := l.lookAtGate(ctx, c, a); err != nil {
			return err
		} else if unread != nil {
			return l.undecided(unread)
		}
	}
	l.turn.undecided = time.Time{}
	return nil
}

// undecided says that the next look tries again. It is an error when that has lasted.
func (l *loop) undecided(err error) error {
	l.tree.deps.Log.Warn("looking at approvals failed, trying again", "session_id", l.row.SessionID, "error", err)
	return l.fails(&l.turn.undecided, err)
}

// lookAtGate lets a call go or ends it, if it has been decided about. unread is for what the next look is to try again.
func (l *loop) lookAtGate(ctx context.Context, c *toolCall, a approval.Approval) (unread, err error) {
	if l.end.stop != nil {
		return nil, nil // the call is withdrawn
	}
	if a.State == approval.Open && a.Timeout > 0 && a.Left <= 0 {
		if a, err = l.tree.deps.Store.ExpireApproval(ctx, a.ID); err != nil {
			return err, nil
		}
	}
	c.gate = newGate(a)
	switch {
	case a.State == approval.Open:
		return nil, nil
	case a.Allows():
		if _, err := l.asks(ctx); err != nil {
			return err, nil
		}
		return nil, l.letGo(ctx, c)
	}
	l.decided(c, false)
	return nil, l.conclude(ctx, c, call.Done, refusal(&a))
}

// refusal is what the model is told of a call that is not made.
func refusal(a *approval.Approval) tool.Failure {
	f := tool.Failure{Reason: "DENIED", Message: "Not run: this call needed an approval, and was denied"}
	switch {
	case a.State == approval.Expired:
		f = tool.Failure{Reason: "APPROVAL_EXPIRED", Message: fmt.Sprintf(
			"Not run: this call needed an approval, and nobody gave it within %s", a.Timeout)}
	case a.State == approval.Withdrawn:
		f = tool.Failure{Reason: "APPROVAL_WITHDRAWN", Message: "Not run: this call needed an approval, which was " +
			"withdrawn"}
	case a.By != nil && a.By.Name != "":
		f.Message += " by " + a.By.Name
	}
	if a.Comment != "" {
		f.Message += ": " + a.Comment
	} else {
		f.Message += "."
	}
	return f
}

// letGo makes a call that was approved one like any other, if it is what was approved.
func (l *loop) letGo(ctx context.Context, c *toolCall) error {
	a, asks := c.gate.Approval, c.gate.Told
	asked, err := l.requestOf(ctx, c)
	var digest []byte
	if err == nil {
		digest, err = l.digest(asked)
	}
	l.decided(c, false)
	if err == nil && asked.Call.Gone() && !bytes.Equal(digest, a.Digest) {
		return l.conclude(ctx, c, call.Done, tool.Failure{Reason: "TOOL_GONE", Message: "Not run: the tool of which " +
			"this call was approved is not offered any more"})
	}
	if err != nil || !bytes.Equal(digest, a.Digest) {
		l.tree.deps.Log.Error("a call is not the one that was approved, it is not made", "call_id", c.ID, "tool",
			c.Tool, "session_id", l.row.SessionID, "approval_id", a.ID, "error", err)
		return l.conclude(ctx, c, call.Done, tool.Failure{Reason: "APPROVAL_DIGEST", Message: "Not run: what would " +
			"have been run is not what was approved"})
	}
	c.waits, c.watch.Made, c.watch.Owned = "", time.Now().Add(-a.Since), time.Now()
	if asks {
		return nil // an owner before has let it go
	}
	c.watch.Inherited = false
	return l.flush()
}
