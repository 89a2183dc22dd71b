package turn

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
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

// Digest is that of what a call asks for, as it would be sent: an approval is of it.
func (t *Strand) Digest(a tool.Asked) ([]byte, error) {
	request, err := json.Marshal(a.Call.Request)
	if err != nil {
		return nil, fmt.Errorf("encoding a call's request: %w", err)
	}
	return approval.Digest(a.Call.Tool.Name, request, t.kit.Cwd), nil
}

// requested tells of an approval that a call waits for.
func (t *Strand) requested(c call.Call, a *approval.Approval) event.Event {
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
	return t.Event(event.Event{Type: event.ApprovalRequested, Call: started(c), Approval: &told})
}

// lookAtGates reads what became of the approvals that calls of the turn wait for, and lets go or ends the calls that
// have been decided about.
func (t *Strand) lookAtGates(ctx context.Context) error {
	waits := false
	for _, c := range t.turn.calls {
		waits = waits || c.gate != nil && !c.State.Terminal()
	}
	if !waits {
		return nil
	}
	rows, err := t.lane.deps.Store.TurnApprovals(ctx, t.who.LoopID, t.user.Turn())
	if err != nil {
		return t.undecided(err)
	}
	byID := map[string]approval.Approval{}
	for _, a := range rows {
		byID[a.ID] = a
	}
	for _, c := range t.turn.calls {
		if c.gate == nil || c.State.Terminal() {
			continue
		}
		a, there := byID[c.Approval]
		if !there {
			a = c.gate.Approval
			a.State, a.Comment = approval.Withdrawn, "its record is gone"
		}
		if unread, err := t.lookAtGate(ctx, c, a); err != nil {
			return err
		} else if unread != nil {
			return t.undecided(unread)
		}
	}
	t.turn.undecided = time.Time{}
	return nil
}

// undecided says that the next look tries again. It is an error when that has lasted.
func (t *Strand) undecided(err error) error {
	t.lane.deps.Log.Warn("looking at approvals failed, trying again", "session_id", t.who.SessionID, "error", err)
	return t.fails(&t.turn.undecided, err)
}

// lookAtGate lets a call go or ends it, if it has been decided about. unread is for what the next look is to try again.
func (t *Strand) lookAtGate(ctx context.Context, c *Call, a approval.Approval) (unread, err error) {
	if t.Stopped() {
		return nil, nil // the call is withdrawn
	}
	if a.State == approval.Open && a.Timeout > 0 && a.Left <= 0 {
		if a, err = t.lane.deps.Store.ExpireApproval(ctx, a.ID); err != nil {
			return err, nil
		}
	}
	c.gate = newGate(a)
	switch {
	case a.State == approval.Open:
		return nil, nil
	case a.Allows():
		if err := t.user.Read(ctx); err != nil {
			return err, nil
		}
		return nil, t.letGo(ctx, c)
	}
	t.decided(c, false)
	return nil, t.conclude(ctx, c, call.Done, refusal(&a))
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
func (t *Strand) letGo(ctx context.Context, c *Call) error {
	a, asks := c.gate.Approval, c.gate.Told
	asked, err := t.user.Request(ctx, c)
	var digest []byte
	if err == nil {
		digest, err = t.Digest(asked)
	}
	t.decided(c, false)
	if err == nil && asked.Call.Gone() && !bytes.Equal(digest, a.Digest) {
		return t.conclude(ctx, c, call.Done, tool.Failure{Reason: "TOOL_GONE", Message: "Not run: the tool of which " +
			"this call was approved is not offered any more"})
	}
	if err != nil || !bytes.Equal(digest, a.Digest) {
		t.lane.deps.Log.Error("a call is not the one that was approved, it is not made", "call_id", c.ID, "tool",
			c.Tool, "session_id", t.who.SessionID, "approval_id", a.ID, "error", err)
		return t.conclude(ctx, c, call.Done, tool.Failure{Reason: "APPROVAL_DIGEST", Message: "Not run: what would " +
			"have been run is not what was approved"})
	}
	c.waits, c.watch.Made, c.watch.Owned = "", time.Now().Add(-a.Since), time.Now()
	if asks {
		return nil // an owner before has let it go
	}
	c.watch.Inherited = false
	return t.Flush()
}
