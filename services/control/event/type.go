package event

import "github.com/pawl-dev/pawl/services/control/session"

// Type of an event.
type Type string

// Types of event, each with the fields that it uses.
var (
	Started      = declare("started", bounds)      // EntrySeq: the input
	EntryAdded   = declare("entry", covers)        // EntrySeq
	Text         = declare("text", delta)          // Text
	Thinking     = declare("thinking", delta)      // Text
	Restarted    = declare("restarted", other)     // Reason, Text
	ModelWaiting = declare("model_waiting", other) // Wait
	// ModelSwitched voids what was streamed of an answer, as Restarted does.
	ModelSwitched = declare("model_switched", other) // Switch
	ToolStarted   = declare("tool_started", other)   // Call
	ToolWaiting   = declare("tool_waiting", other)   // Call, Wait
	ToolOutput    = declare("tool_output", delta)    // Call.ID, Output
	ToolFinished  = declare("tool_finished", other)  // Call
	ToolProgress  = declare("tool_progress", delta)  // Call, Progress
	ToolsChanged  = declare("tools_changed", other)  // Tools
	// A compaction that has started finishes, unless its submission restarts or settles before.
	CompactionStarted  = declare("compaction_started", other)  // Compaction
	CompactionFinished = declare("compaction_finished", other) // Compaction
	SkillActivated     = declare("skill_activated", other)     // EntrySeq: its instructions; Skill
	TaskStarted        = declare("task_started", other)        // EntrySeq: the prompt; Task
	TaskFinished       = declare("task_finished", other)       // Settlement; Task.Agent and Duration
	Steered            = declare("steered", other)             // EntrySeq: an input that has joined; Joined
	Settled            = declare("settled", bounds)            // Settlement
	// ApprovalRequested says that a call waits for somebody to decide, ApprovalDecided what became of that.
	ApprovalRequested = declare("approval_requested", other) // Call, Approval
	ApprovalDecided   = declare("approval_decided", other)   // Call, Approval
	// RunStarted is the first event of each attempt of a run. RunResumed says that another owner goes on with it, as
	// the one before has died.
	RunStarted = declare("run_started", bounds) // Run
	RunResumed = declare("run_resumed", other)  // Run
	// StepStarted begins a try of a step; one that has ended as it began has no such event. StepPaused ends a try that
	// another one follows, StepEnded the step.
	StepStarted = declare("step_started", other) // Step
	// StepWaiting says that all that the run does is wait, for this step and others, or what this one waits for.
	StepPaused  = declare("step_paused", other)  // Step
	StepWaiting = declare("step_waiting", other) // Step
	StepEnded   = declare("step_ended", ends)    // Step
	Logged      = declare("log", other)          // Log, Text
)

// class is what a type means to compaction.
type class uint8

const (
	other  class = iota
	delta        // a piece of what a later entry holds as a whole
	covers       // the entry that holds what deltas before it came to, unless it is a marker
	bounds       // begins or ends a submission: what no entry has covered by then, none will
	ends         // of a step that is part of no other one: its record holds what deltas before it came to
)

// classes is filled by the declarations only.
var classes = map[Type]class{}

func declare(t Type, c class) Type {
	classes[t] = c
	return t
}

// IsDelta reports whether events of the type are pieces of what an entry holds in the end.
func (t Type) IsDelta() bool { return classes[t] == delta }

// Kind of a segment, as numbered in the database, by the classes of its events.
type Kind uint8

// Kinds of segment. Deltas are covered by the entry that follows them, or by the record of a step: compaction looks at
// which of the last two kinds comes next.
const (
	Mixed  Kind = iota
	Deltas      // nothing but deltas
	Covers      // holds an entry, or the end of a step of a run's own list
	Bounds      // begins or settles a submission, without an entry that deltas before it could be in
)

// KindOf is the kind of a segment of these events. Only the root's entries cover: they come after those of the
// sub-agents whose results they hold, whereas the entry of one loop says nothing of the deltas of another.
func KindOf(events []Event) Kind {
	kind, deltas := Mixed, 0
	for i := range events {
		e := &events[i]
		switch c := classes[e.Type]; {
		case c == delta:
			deltas++
		case e.Loop != nil:
		case c == covers && !isMarker(e.Entry), c == ends && e.Step.whole():
			return Covers
		case c == bounds:
			kind = Bounds
		}
	}
	if deltas == len(events) {
		return Deltas
	}
	return kind
}

// isMarker reports whether an entry is known to be one of control's own, in which no delta is.
func isMarker(e *session.Entry) bool {
	return e != nil && (e.Kind == session.Marker || e.Kind == session.Summary || e.Kind.Beside())
}
