// Package lane is ownership: which replica runs what, and how everything that runs comes to an end.
//
// A lane is a queue with at most one thing at its head that runs, one epoch, one owner and one stream of events. A
// session has one, under the session's id. The head of a session's lane is a submission; the submission is the root of
// a tree of loops, each of which is one agent at work on one input in one conversation. Sub-agents are loops of their
// parent's lane.
//
//	          admit                claim                    commit that settles, nothing queued
//	idle(0) ────────▶ due(1) ────────────────▶ running(2) ──────────────────────────────────────▶ idle(0)
//	                    ▲   at due_at, on the     │ │ ▲ │
//	                    │   platform's clock      │ │ │ └─ owner dies: take-over, epoch+1, a stall for every open loop
//	                    │                         │ └─┴─── commit that settles and continues: next head, same epoch
//	                    └─────────────────────────┘
//	                      release (drain: at once; after an error: after a pause),
//	                      park (due later, or when mail comes), commit that settles with more queued,
//	                      force: ends_at + the kind's grace has passed, settled from rows alone, epoch+1
//
// A lane that is due later is parked: it has no owner, no goroutine and no memory. A pause after an error and a parked
// lane are the same state.
//
// Invariants: every write of an owner carries the lane's epoch and is refused (ErrFenced) when the lane has another
// one; the facts of a commit are written together or not at all; a head settles exactly once; what decides that a lane
// must end is in its row, written by the transaction that began the head, so no owner has to live or to understand the
// head for it to end; only the platform's clock decides times, and owners are told remaining durations; a wake-up is
// never lost, because a lane rests only if its mail counter is the one that its owner has read before it looked.
package lane

import (
	"encoding/json"
	"math"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// ErrFenced refuses a write of who does not own the lane any more. The writer must stop and forget what it knows of the
// lane.
var ErrFenced = errs.New(errs.Aborted, "FENCED", "the lane has another owner")

// How long after its end is due a head may go on before it is settled from rows.
const (
	// ForceGrace is that of a submission: longer than an owner needs to cancel the calls of a tree.
	ForceGrace = 30 * time.Second
	// RunGrace is that of a run, which carries out the steps that undo and finish it before it ends.
	RunGrace = 10 * time.Minute
)

// Never is the remaining time of what has no end.
const Never = time.Duration(math.MaxInt64)

// Kind of a lane, as numbered in the database.
type Kind uint8

// Kinds of lane.
const (
	KindSession Kind = 1
	KindRun     Kind = 2
)

// Grace is how long after its end is due the head of a lane of the kind may go on before it is settled from rows.
func (k Kind) Grace() time.Duration {
	if k == KindRun {
		return RunGrace
	}
	return ForceGrace
}

// Fence proves the ownership of a lane.
type Fence struct {
	LaneID string
	Epoch  int64
}

// Phase is what an open loop is at.
type Phase uint8

// Phases, as numbered in the database.
const (
	PhaseAccepted Phase = iota // the input entry is not there yet
	PhaseModel                 // the model is asked for turn Turn
	PhaseTools                 // the calls of turn Turn run
)

// Loop is one agent at work on one input in one conversation, as its row has it, with a field for each column.
type Loop struct {
	ID          string          // UUIDv7; of the root: the submission's id
	LaneID      string          // for a session's root the same as SessionID
	RootID      string          // the loop at the head of the lane; its own id if it is that
	SessionID   string          // the conversation
	Key         session.Key     // of the conversation
	Seq         int64           // order within the conversation, from 1
	ParentCall  string          // the task call that it answers, "" for the root
	AgentDigest string          // the definition that it runs with
	Input       json.RawMessage // a model.Message; nil once the input entry is committed, unless admission just did
	InputEntry  int64           // 0 before that
	EntryHead   int64           // of the conversation
	Phase       Phase
	Turn        int         // model calls begun, from 1 once PhaseModel is reached
	Usage       model.Usage // of its own model calls, and of its children whose results it has appended
	Attempts    int         // changes of ownership that deaths caused; of the root
	Stalls      int         // consecutive ones without progress of this loop, and hand-backs after an error
	StallCause  string      // the error of the last hand-back after one, in plain words
	Timeout     time.Duration
	StartedAt   time.Time // for people; nothing is decided by it
	Options     Options   // what whoever asked for it wants beside the answer
	// Model is the one that the loop goes on with, as "provider/id", once that is another than its definition names
	// first; of a loop that has ended the one that it ended with.
	Model string
}

// Root reports whether the loop is the head of its lane.
func (l *Loop) Root() bool { return l.ParentCall == "" }

// Why says what makes a head end.
type Why uint8

// Whys, as numbered in the database.
const (
	NoEnd Why = iota
	Deadline
	Abort
)

// Ends is when the head has to end. Owners count In on their monotonic clock from the answer that brought it.
type Ends struct {
	In  time.Duration // may be negative; Never
	Why Why
}

// Lease is a lane that a replica owns.
type Lease struct {
	Fence     Fence
	Kind      Kind
	Loops     []Loop // the open ones: the root first, parents before their children
	EventHead int64
	Mail      int64
	Ends      Ends
	Executor  string // where the lane's workspace is bound, "" for nowhere
	// TakenOver says that the owner before has died.
	TakenOver bool
}

// Root is the loop at the head of the lane.
func (l *Lease) Root() *Loop { return &l.Loops[0] }

// Outcome is how a loop, or the submission whose root it is, has ended.
type Outcome string

// Outcomes.
const (
	Completed   Outcome = "completed"
	Failed      Outcome = "failed"
	Aborted     Outcome = "aborted"
	Interrupted Outcome = "interrupted"
	Expired     Outcome = "expired"
)

// Reasons of endings that no owner has decided.
const (
	// ReasonAborted is why a submission was aborted.
	ReasonAborted = "ABORTED"
	// ReasonNotEnded is why a head was settled from rows: its owner did not end it in time.
	ReasonNotEnded = "NOT_ENDED_IN_TIME"
	// ReasonUnreadable is why a loop ended, or a head was settled from rows: an entry, or its row, cannot be decoded.
	ReasonUnreadable = "UNREADABLE"
	// ReasonStalled is why a loop was given up: too many owners died, or failed, with it.
	ReasonStalled = "STALLED"
)
