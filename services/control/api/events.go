package api

import (
	"encoding/hex"
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// maxTasks is how many tasks a watch may name.
const maxTasks = 64

var (
	errChildren = errs.New(errs.InvalidArgument, "CHILDREN", "children is one of none, entries and all")
	errTasks    = errs.New(errs.InvalidArgument, "TASKS", "a watch names at most 64 tasks, each by its task_id")
)

// decodeWant is which events a watch asks for.
func decodeWant(req *pawlv1.WatchSessionRequest) (event.Want, error) {
	want := event.Want{Tasks: req.GetTasks()}
	switch req.GetChildren() {
	case pawlv1.ChildEvents_CHILD_EVENTS_UNSPECIFIED, pawlv1.ChildEvents_CHILD_EVENTS_ENTRIES:
	case pawlv1.ChildEvents_CHILD_EVENTS_NONE:
		want.Children = event.NoChildren
	case pawlv1.ChildEvents_CHILD_EVENTS_ALL:
		want.Children = event.AllOfChildren
	default:
		return event.Want{}, errChildren
	}
	notID := func(id string) bool { return !ident.IsUUID(id) }
	if len(want.Tasks) > maxTasks || slices.ContainsFunc(want.Tasks, notID) {
		return event.Want{}, errTasks
	}
	return want, nil
}

// maxStreamed is about how many bytes one message of a stream of events has. For a reader that takes nothing gRPC holds
// 64 KiB that it has queued, one message more, and one that waits.
const (
	maxStreamed = 31 << 10
	// eventFrame is about what an event takes beside its content.
	eventFrame = 128
)

// sendEvents hands a batch on, in messages of bounded size. It keeps nothing of what it has handed on: the batch is
// empty afterwards.
func sendEvents(batch []event.Event, of session.Session, send func([]*pawlv1.Event) error) error {
	for len(batch) > 0 {
		n := cut(batch, maxStreamed, func(e *event.Event) int { return e.Weight() + eventFrame })
		out := make([]*pawlv1.Event, n)
		for i := range out {
			out[i] = encodeEvent(&batch[i], of)
		}
		clear(batch[:n]) // a reader that takes nothing holds the rest
		if err := send(out); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

func encodeEvent(e *event.Event, of session.Session) *pawlv1.Event {
	out := &pawlv1.Event{Seq: e.Seq, Time: stamp(e.Time), SubmissionId: e.SubmissionID, Turn: int32(e.Turn)}
	if l := e.Loop; l != nil {
		out.Task = &pawlv1.Task{
			TaskId: l.Task, SessionId: l.Session, ParentTaskId: l.Parent, RootSubmissionId: l.Root,
		}
	}
	switch e.Type {
	case event.Started:
		out.Event = &pawlv1.Event_Started{Started: &pawlv1.SubmissionStarted{Entry: encodeEntry(e.Entry)}}
	case event.EntryAdded:
		out.Event = &pawlv1.Event_Entry{Entry: &pawlv1.EntryAppended{Entry: encodeEntry(e.Entry)}}
	case event.Steered:
		out.Event = &pawlv1.Event_Steered{Steered: &pawlv1.InputSteered{Entry: encodeEntry(e.Entry)}}
	case event.Text:
		out.Event = &pawlv1.Event_Text{Text: &pawlv1.TextDelta{Text: clean(e.Text)}}
	case event.Thinking:
		out.Event = &pawlv1.Event_Thinking{Thinking: &pawlv1.ThinkingDelta{Text: clean(e.Text)}}
	case event.Restarted:
		out.Event = &pawlv1.Event_Restarted{Restarted: &pawlv1.ResponseRestarted{
			Reason: e.Reason, Message: clean(e.Text),
		}}
	case event.ModelWaiting:
		w := e.Wait
		out.Event = &pawlv1.Event_ModelWaiting{ModelWaiting: &pawlv1.ModelWaiting{
			Reason: w.Reason, Since: stamp(w.Since), Until: stamp(w.Until), Message: clean(w.Message),
		}}
	case event.ModelSwitched:
		out.Event = &pawlv1.Event_ModelSwitched{ModelSwitched: &pawlv1.ModelSwitched{
			From: e.Switch.From, To: e.Switch.To, Reason: e.Switch.Reason, Message: clean(e.Switch.Message),
		}}
	case event.ToolStarted, event.ToolWaiting, event.ToolOutput, event.ToolProgress, event.ToolFinished:
		encodeCall(e, out)
	case event.ToolsChanged:
		out.Event = &pawlv1.Event_ToolsChanged{ToolsChanged: &pawlv1.ToolsChanged{
			Added: e.Tools.Added, Removed: e.Tools.Removed, Missing: cleaned(e.Tools.Missing),
		}}
	case event.SkillActivated:
		out.Event = encodeSkillActivated(e.Skill)
	case event.ApprovalRequested, event.ApprovalDecided:
		encodeGate(e, out)
	case event.TaskStarted, event.TaskFinished:
		encodeTask(e, out)
	case event.CompactionStarted, event.CompactionFinished:
		encodeCompaction(e, out)
	case event.Settled:
		if ofRun(of.Key) {
			out.Event = encodeRunSettled(e.Settlement)
			break
		}
		out.Event = &pawlv1.Event_Settled{Settled: &pawlv1.SubmissionSettled{Submission: encodeSettled(e, of)}}
	case event.RunStarted, event.RunResumed, event.Logged:
		encodeRun(e, out)
	case event.StepStarted, event.StepPaused, event.StepWaiting, event.StepEnded:
		encodeStep(e, out)
	}
	return out
}

// encodeCall fills in an event of a tool call.
func encodeCall(e *event.Event, out *pawlv1.Event) {
	switch e.Type {
	case event.ToolStarted:
		out.Event = &pawlv1.Event_ToolStarted{ToolStarted: &pawlv1.ToolStarted{
			CallId: e.Call.ID, ToolCallId: clean(e.Call.ProviderID), Name: clean(e.Call.Tool),
			ExecutorId: e.Call.Executor,
		}}
	case event.ToolWaiting:
		w := e.Wait
		out.Event = &pawlv1.Event_ToolWaiting{ToolWaiting: &pawlv1.ToolWaiting{
			CallId: e.Call.ID, ToolCallId: clean(e.Call.ProviderID), Name: clean(e.Call.Tool), Reason: w.Reason,
			ExecutorId: w.Executor, Labels: w.Labels, Since: stamp(w.Since), Until: stamp(w.Until),
			Message: clean(w.Message),
		}}
	case event.ToolOutput:
		stream := "stdout"
		if e.Output.Stderr {
			stream = "stderr"
		}
		out.Event = &pawlv1.Event_ToolOutput{ToolOutput: &pawlv1.ToolOutput{
			CallId: e.Call.ID, Stream: stream, Offset: e.Output.Offset, Data: e.Output.Data,
			Skipped: e.Output.Skipped,
		}}
	case event.ToolProgress:
		out.Event = &pawlv1.Event_ToolProgress{ToolProgress: &pawlv1.ToolProgress{
			CallId: e.Call.ID, ToolCallId: clean(e.Call.ProviderID), Name: clean(e.Call.Tool),
			Progress: e.Progress.Progress, Total: e.Progress.Total, Message: clean(e.Progress.Message),
		}}
	case event.ToolFinished:
		out.Event = &pawlv1.Event_ToolFinished{ToolFinished: &pawlv1.ToolFinished{
			CallId: e.Call.ID, ToolCallId: clean(e.Call.ProviderID), Name: clean(e.Call.Tool), State: e.Call.State,
			IsError: e.Call.IsError, Duration: durationpb.New(e.Call.Duration),
		}}
	}
}

// cleaned are texts that every protocol takes.
func cleaned(texts []string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = clean(text)
	}
	return out
}

// encodeGate fills in an event of an approval.
func encodeGate(e *event.Event, out *pawlv1.Event) {
	a, c := e.Approval, e.Call
	if e.Type == event.ApprovalDecided {
		out.Event = &pawlv1.Event_ApprovalDecided{ApprovalDecided: &pawlv1.ApprovalDecided{
			ApprovalId: a.ID, CallId: c.ID, ToolCallId: clean(c.ProviderID), Name: clean(c.Tool), State: a.State,
			DecidedBy: clean(a.By), Comment: clean(a.Comment), ForSession: a.Session,
		}}
		return
	}
	out.Event = &pawlv1.Event_ApprovalRequested{ApprovalRequested: &pawlv1.ApprovalRequested{
		ApprovalId: a.ID, CallId: c.ID, ToolCallId: clean(c.ProviderID), Name: clean(c.Tool),
		Digest: hex.EncodeToString(a.Digest), Arguments: clean(a.Arguments), Diff: clean(a.Diff), Cut: a.Cut,
		Rules: cleaned(a.Rules), Path: a.Path, To: a.Least, Other: a.Other, Until: stamp(a.Until),
	}}
}

// encodeTask fills in the first or the last event of a sub-agent.
func encodeTask(e *event.Event, out *pawlv1.Event) {
	t := e.Task
	if e.Type == event.TaskStarted {
		out.Event = &pawlv1.Event_TaskStarted{TaskStarted: &pawlv1.TaskStarted{
			Agent: t.Agent, Description: clean(t.Description), Cwd: clean(t.Cwd), Model: t.Model,
			Entry: encodeEntry(e.Entry),
		}}
		return
	}
	s := encodeSettled(e, session.Session{})
	out.Event = &pawlv1.Event_TaskFinished{TaskFinished: &pawlv1.TaskFinished{
		Outcome: s.GetOutcome(), Error: s.GetError(), Result: s.GetResult(), Duration: durationpb.New(t.Duration),
	}}
}

// encodeSettled is what an event says of how a submission ended.
func encodeSettled(e *event.Event, of session.Session) *pawlv1.Submission {
	z := e.Settlement
	return encodeSubmission(submission.Submission{
		Loop: lane.Loop{
			ID: e.SubmissionID, SessionID: of.ID, Key: of.Key, Usage: z.Usage, Turn: z.Turn,
			Model: z.Model,
		},
		Status:  submission.SettledStatus,
		Outcome: lane.Outcome(z.Outcome), Reason: z.Reason, Message: z.Message, Text: z.Text,
		SettledAt: e.Time, Cancellation: z.Cancellation, Data: z.Data,
	})
}
