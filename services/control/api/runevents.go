package api

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
)

// ofRun reports whether a stream is that of a run of a workflow.
func ofRun(key session.Key) bool { return strings.HasPrefix(key.Agent, run.Name) }

// encodeRun fills in an event of a run that is not of one of its steps.
func encodeRun(e *event.Event, out *pawlv1.Event) {
	switch e.Type {
	case event.RunStarted:
		r := e.Run
		out.Event = &pawlv1.Event_RunStarted{RunStarted: &pawlv1.RunStarted{
			Workflow: r.Workflow, Digest: r.Digest, Attempt: int32(r.Attempt), Input: encodeValue(r.Input), Cut: r.Cut,
		}}
	case event.RunResumed:
		r := e.Run
		out.Event = &pawlv1.Event_RunResumed{RunResumed: &pawlv1.RunResumed{
			Workflow: r.Workflow, Digest: r.Digest, Attempt: int32(r.Attempt),
		}}
	case event.Logged:
		l := e.Log
		out.Event = &pawlv1.Event_Log{Log: &pawlv1.RunLog{
			Level: l.Level, Text: clean(e.Text), Path: l.Path, Data: encodeValue(l.Data), Cut: l.Cut,
		}}
	}
}

// encodeRunSettled is how an attempt of a run ended.
func encodeRunSettled(z *event.Settlement) *pawlv1.Event_RunSettled {
	settled := &pawlv1.RunSettled{
		Outcome: encodeOutcome(lane.Outcome(z.Outcome)), Output: encodeValue(z.Data), Cut: z.Cut,
		Usage: encodeUsage(z.Usage), Cancellation: encodeCancellation(z.Cancellation),
	}
	if lane.Outcome(z.Outcome) != lane.Completed {
		settled.Error = &pawlv1.Error{Reason: z.Reason, Message: clean(z.Message)}
	}
	return &pawlv1.Event_RunSettled{RunSettled: settled}
}

// encodeStep fills in an event of a step.
func encodeStep(e *event.Event, out *pawlv1.Event) {
	s := e.Step
	parent, try, took := int32(s.Parent), int32(s.Try), durationpb.New(s.Took)
	switch e.Type {
	case event.StepStarted:
		out.Event = &pawlv1.Event_StepStarted{StepStarted: &pawlv1.StepStarted{
			Path: s.Path, Kind: s.Kind, Parent: parent, Try: try, Wait: span(s.Wait), Ref: s.Ref,
			Args: encodeValue(s.Args), Cut: s.Cut,
		}}
	case event.StepPaused:
		out.Event = &pawlv1.Event_StepPaused{StepPaused: &pawlv1.StepPaused{
			Path: s.Path, Kind: s.Kind, Parent: parent, Try: try, Wait: span(s.Wait), Duration: took,
			Failure: encodeFailure(s.Failed),
		}}
	case event.StepWaiting:
		out.Event = &pawlv1.Event_StepWaiting{StepWaiting: &pawlv1.StepWaiting{
			Path: s.Path, Kind: s.Kind, Parent: parent, Try: try, Wait: span(s.Wait), Ref: s.Ref,
		}}
	case event.StepEnded:
		out.Event = &pawlv1.Event_StepEnded{StepEnded: &pawlv1.StepEnded{
			Path: s.Path, Kind: s.Kind, Parent: parent, Try: try, State: s.State, Duration: took, Ref: s.Ref,
			Failure: encodeFailure(s.Failed), Output: encodeValue(s.Output), Cut: s.Cut,
		}}
	}
}

func encodeFailure(f *step.Failure) *pawlv1.StepFailure {
	if f == nil {
		return nil
	}
	return &pawlv1.StepFailure{Reason: f.Reason, Message: clean(f.Message), Step: f.Step}
}

// span is a duration, unset for none.
func span(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
