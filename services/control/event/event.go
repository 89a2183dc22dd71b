// Package event is streams: ordered logs that clients tail and resume.
//
// Every session has one. Its events are appended by the owner of the session's lane only, in the same transaction as
// the facts that they tell, and published to watchers after the commit, so that a cursor never points past the log.
//
//	started (text|thinking|restarted|model_waiting|model_switched|entry|steered|tool_started|tool_waiting|
//	         tool_output|tool_progress|tool_finished|tools_changed|compaction_started|compaction_finished|
//	         approval_requested|approval_decided)* settled
//
// per submission, and between those two, for each sub-agent that works for it, the same between
//
//	task_started … task_finished
//
// with the Loop that they are of. Loops that work at the same time have their events mixed.
//
// A run of a workflow has a stream, too. Its lane is no conversation, and its submissions are attempts:
//
//	run_started (run_resumed|step_started|step_paused|step_ended|log|tool_…|approval_…|task_started … task_finished)*
//	settled
//
// A commit's events are a segment of the log. Later the log is thinned out: compaction deletes segments of nothing but
// deltas whose message is an entry by now, retention deletes all that is older than it allows. Entries stay.
//
// Invariants: seq is dense from 1 when it is written, and what is deleted leaves a hole; every reader sees the same
// events in the same order; a reader that is told nothing has missed nothing but what was compacted: a cursor below the
// floor, up to which retention has deleted, is refused; a slow reader never slows the writer.
package event

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Event is one item of a stream. Seq is its position; the stored form leaves it out, as it leaves out Entry and
// Settlement.Text, which are read from the session's entries.
// It has a field for each thing that some type of event tells.
type Event struct {
	Seq          int64          `json:"-"`
	Time         time.Time      `json:"t"`
	SubmissionID string         `json:"s,omitempty"` // of the loop: a sub-agent's own
	Loop         *Loop          `json:"l,omitempty"` // nil for the root
	Turn         int            `json:"n,omitempty"`
	Type         Type           `json:"e"`
	EntrySeq     int64          `json:"q,omitempty"` // in the conversation of the loop
	Entry        *session.Entry `json:"-"`
	Text         string         `json:"x,omitempty"`
	// Pieces are the lengths in bytes of the pieces in which the model said the Text of a delta; none is one piece.
	// They are kept of what was said while somebody watched.
	Pieces     []int       `json:"p,omitempty"`
	Reason     string      `json:"r,omitempty"`
	Joined     string      `json:"j,omitempty"` // the submission whose input the entry is
	Call       *Call       `json:"c,omitempty"`
	Output     *Output     `json:"o,omitempty"`
	Wait       *Wait       `json:"w,omitempty"`
	Task       *Task       `json:"k,omitempty"`
	Skill      *Skill      `json:"sk,omitempty"`
	Approval   *Approval   `json:"ap,omitempty"`
	Switch     *Switch     `json:"m,omitempty"`
	Settlement *Settlement `json:"z,omitempty"`
	Compaction *Compaction `json:"y,omitempty"`
	Progress   *Progress   `json:"g,omitempty"`
	Tools      *Tools      `json:"v,omitempty"`
	// Of a run of a workflow: Turn is the Ord of the step.
	Run  *Run  `json:"rn,omitempty"`
	Step *Step `json:"sp,omitempty"`
	Log  *Line `json:"lg,omitempty"`
}

// Compaction is what is told of one summary. Tokens are estimates.
type Compaction struct {
	Why      string `json:"w"` // threshold, overflow or manual
	Model    string `json:"m,omitempty"`
	From     int64  `json:"f,omitempty"` // the entries that it stands for
	To       int64  `json:"t,omitempty"`
	Tokens   int64  `json:"n,omitempty"` // of the context before
	Messages int    `json:"c,omitempty"`
	// What follows is of one that has finished.
	EntrySeq    int64         `json:"q,omitempty"` // the summary; 0 when there is none
	TokensNow   int64         `json:"nn,omitempty"`
	MessagesNow int           `json:"cn,omitempty"`
	Usage       model.Usage   `json:"u,omitzero"`
	Duration    time.Duration `json:"d,omitempty"`
	Error       string        `json:"x,omitempty"` // why there is no summary
}

// Loop is the sub-agent that an event is of. All events of a loop may share one.
type Loop struct {
	// Task is the id of the call that asked for it, and Parent the Task of the loop that made that call, "" for the
	// root.
	Task   string `json:"t"`
	Parent string `json:"p,omitempty"`
	// Session is the id of its own conversation.
	Session string `json:"s"`
	// Root is the submission of the session that the event is in: the root of the tree of loops.
	Root string `json:"r"`
}

// Skill is one that was activated.
type Skill struct {
	Name     string `json:"n"`
	Source   string `json:"s"`           // project or workspace
	Path     string `json:"p,omitempty"` // of its files, from the working directory; "" when it has none there
	Digest   string `json:"d,omitempty"`
	ByCaller bool   `json:"c,omitempty"` // the caller has started with it, and no model has asked for it
}

// Task is what a loop was asked to do, and as whom. The prompt is the first entry of its conversation.
type Task struct {
	Agent       string `json:"a,omitempty"`
	Description string `json:"d,omitempty"`
	Cwd         string `json:"w,omitempty"`
	Model       string `json:"m,omitempty"` // provider/model
	// Duration is how long it took, once it has finished.
	Duration time.Duration `json:"t,omitempty"`
}

// Switch is that a loop goes on with another model.
type Switch struct {
	From string `json:"f"` // provider/id
	To   string `json:"t"`
	// Reason is that of the error for which the model was left, such as MODEL_UNAVAILABLE, and Message its text.
	Reason  string `json:"r"`
	Message string `json:"m,omitempty"`
}

// Root is the submission that the event belongs to, whichever loop of it the event is of.
func (e *Event) Root() string {
	if e.Loop != nil {
		return e.Loop.Root
	}
	return e.SubmissionID
}

// Weight is about how many bytes an event's content takes.
func (e *Event) Weight() int {
	n := len(e.Text) + 8*len(e.Pieces)
	if e.Entry != nil {
		n += e.Entry.Message.Weight()
	}
	if e.Output != nil {
		n += len(e.Output.Data)
	}
	if e.Settlement != nil {
		n += len(e.Settlement.Text) + len(e.Settlement.Data)
	}
	if e.Approval != nil {
		n += e.Approval.weight()
	}
	if e.Run != nil {
		n += len(e.Run.Input)
	}
	if e.Step != nil {
		n += e.Step.weight()
	}
	if e.Log != nil {
		n += len(e.Log.Data)
	}
	return n
}

// Call is what events tell of a tool call.
type Call struct {
	ID         string        `json:"id"`
	ProviderID string        `json:"pid,omitempty"`
	Tool       string        `json:"tool,omitempty"`
	Executor   string        `json:"ex,omitempty"`
	State      string        `json:"st,omitempty"`
	IsError    bool          `json:"err,omitempty"`
	Duration   time.Duration `json:"dur,omitempty"`
}

// Wait is why a tool call waits for an executor, or a call of the model for its provider.
type Wait struct {
	// Reason is NO_EXECUTOR, EXECUTOR_AWAY, EXECUTOR_GONE, EXECUTOR_BUSY or EXECUTOR_DRAINING, or of the model
	// TOOLS or a model.WaitReason.
	Reason   string            `json:"r"`
	Executor string            `json:"ex,omitempty"` // that is waited for; "" is any with the labels
	Labels   map[string]string `json:"l,omitempty"`
	Since    time.Time         `json:"t"`
	Until    time.Time         `json:"u,omitzero"` // when the wait ends, zero for no such time
	Message  string            `json:"m,omitempty"`
}

// Output is a piece of a command's output.
type Output struct {
	Stderr  bool   `json:"e,omitempty"`
	Offset  int64  `json:"o,omitempty"`
	Data    []byte `json:"d"`
	Skipped int64  `json:"k,omitempty"` // bytes before Offset that could not be had
}

// Progress is how far a call is.
type Progress struct {
	Progress float64 `json:"p"`
	Total    float64 `json:"t,omitempty"` // 0 is unknown
	Message  string  `json:"m,omitempty"`
}

// Tools is how what a loop is offered has changed.
type Tools struct {
	Added   []string `json:"a,omitempty"`
	Removed []string `json:"r,omitempty"`
	Missing []string `json:"m,omitempty"` // what cannot be offered and why
}

// Settlement is how a submission or a task ended.
type Settlement struct {
	Outcome  string      `json:"outcome"`
	Reason   string      `json:"reason,omitempty"`
	Message  string      `json:"message,omitempty"`
	Model    string      `json:"model,omitempty"`
	Usage    model.Usage `json:"usage"`
	EntrySeq int64       `json:"q,omitempty"` // the assistant entry that holds the answer
	Text     string      `json:"-"`
	// Data is the structured result, nil when there is none. Cut says that more of it is with the run, see Bounded.
	Data json.RawMessage `json:"d,omitempty"`
	Cut  bool            `json:"cut,omitempty"`
	Turn int             `json:"n,omitempty"`
	// Cancellation is set when the submission was made to end.
	Cancellation *call.Cancellation `json:"c,omitempty"`
}

// ErrCursorTooOld says that events after the cursor were deleted by retention.
var ErrCursorTooOld = errs.New(errs.OutOfRange, "CURSOR_TOO_OLD", "events after the cursor have been deleted; read "+
	"the session's entries for what they told")

// TooOld is ErrCursorTooOld with where to go on.
func TooOld(after, floor int64) error {
	return ErrCursorTooOld.WithFacts(map[string]string{
		"oldest": strconv.FormatInt(floor+1, 10), "continue_from": strconv.FormatInt(floor, 10),
	}, "events up to %d have been deleted, the cursor is at %d: continue after %d; the session's entries hold what "+
		"was said before", floor, after, floor)
}

// ErrCursorAhead says that the cursor is of no event of this stream: of another session, or of a database that was
// restored since.
var ErrCursorAhead = errs.New(errs.OutOfRange, "CURSOR_AHEAD", "the cursor is beyond the head of the session's events")

// Ahead is ErrCursorAhead with where the head is.
func Ahead(after, head int64) error {
	return ErrCursorAhead.WithFacts(map[string]string{"head": strconv.FormatInt(head, 10)},
		"the cursor is at %d and the session's events end at %d: it is of another session, or of a database that was "+
			"restored since; continue after %d, or read again after 0", after, head, head)
}

// FloorOf is where ErrCursorTooOld says to continue; ok is false for other errors.
func FloorOf(err error) (floor int64, ok bool) {
	e, public := errs.Public(err)
	if !public || !e.Is(ErrCursorTooOld) {
		return 0, false
	}
	floor, parsed := strconv.ParseInt(e.Facts()["continue_from"], 10, 64)
	return floor, parsed == nil
}

// Store reads streams, each by the id of its lane. Events are appended by commits, see package lane, and deleted by
// package retention.
type Store interface {
	// Events returns events with seq > after, in order, without Entry and Settlement.Text: at most limit and about 4
	// MiB, at least one unless there is none. ErrCursorTooOld when retention has deleted any of them,
	// session.ErrNotFound when the lane is gone.
	Events(ctx context.Context, laneID string, after int64, limit int) ([]Event, error)
	// EventHeads returns the seq of the last event for each of the lanes.
	EventHeads(ctx context.Context, laneIDs []string) (map[string]int64, error)
}
