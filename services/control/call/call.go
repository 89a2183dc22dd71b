// Package call is the durable record of a tool call.
//
//	pending ──dispatch──▶ dispatched ──result──▶ done
//	   │                      ├──cancel, confirmed or not──▶ cancelled
//	   └──────────────────────┴──nobody can know──▶ lost ──late result──▶ lost (kept beside it)
//
// Invariants: a call is durable before it is sent (C1); the first terminal state wins; a result that comes after lost
// is kept as late and never changes the transcript; whoever receives a result may record it, owner of the session or
// not.
package call

import (
	"context"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Failures of this package's operations.
var (
	ErrNotFound = errs.New(errs.NotFound, "CALL_NOT_FOUND", "no such tool call")
	// ErrEnded refuses a commit that would call an outcome unknown which has been recorded meanwhile.
	ErrEnded = errs.New(errs.Aborted, "CALL_ENDED", "the call has an outcome already: read it")
)

// State of a call.
type State uint8

// States, as numbered in the database.
const (
	Pending State = iota
	Dispatched
	Done
	Lost
	Cancelled
)

// Terminal reports whether the state is final.
func (s State) Terminal() bool { return s >= Done }

// String names the state as events and the API do.
func (s State) String() string {
	return [...]string{"pending", "dispatched", "done", "lost", "cancelled"}[s]
}

// Call is one record, with a field for each column.
type Call struct {
	ID         string
	LaneID     string
	LoopID     string // the submission that asked for it
	Turn       int
	Index      int   // position in the assistant message's calls
	EntrySeq   int64 // the assistant entry that asked for it, which holds the arguments
	ProviderID string
	Tool       string
	Kind       uint8 // a tool.Kind: what carries it out
	Safety     tool.Safety
	ArgsHash   []byte // sha256 of what is sent to the executor
	Executor   string // that is to run it, from the time that this is known
	Approval   string // that it waits for, or has waited for, before it may be dispatched; "" for none
	Dispatch   int    // grows with every dispatch, from 1; 0 before the first
	Journal    string // id of the executor's journal at the current dispatch
	State      State
	Reply      []byte // JSON of the reply, nil once the result entry is committed
	LateReply  []byte
	Leaves     bool             // it has ended, and nobody could make sure that no process of it is left
	Shown      [2]int64         // bytes of stdout and stderr that are in the stream, see Shown
	Age        [2]time.Duration // when read: since it was made, and since its dispatch, on the platform's clock
	CreatedAt  time.Time        // for people, and for order; nothing else is decided by times
	DoneAt     time.Time
}

// Shown is how much of a call's output is in the stream, of its present dispatch. Told in both says that its end is
// there, too. It replaces what was said before.
type Shown struct {
	CallID         string
	Stdout, Stderr int64
}

// Told is what Shown says of a call whose end is in the stream.
const Told = -1

// Outcome ends a call.
type Outcome struct {
	CallID string
	State  State  // Done, Lost or Cancelled
	Reply  []byte // JSON; nil when the same commit appends the entry that holds it
	Leaves bool   // nobody could make sure that no process of it is left
}

// MaxNamed is how many calls a Cancellation names.
const MaxNamed = 20

// Unended is the calls of a tree of loops of which nobody has said that nothing of them runs any more: whose outcome is
// unknown, for which no late reply has come, or that have left processes.
type Unended struct {
	Calls []Call // the first MaxNamed, in order of their creation
	Total int
}

// Cancellation is what is known of the calls of a submission that was made to end: whether nothing of them runs any
// more.
type Cancellation struct {
	Confirmed   bool          `json:"confirmed"`
	Unconfirmed []Unconfirmed `json:"unconfirmed,omitempty"` // the calls of which that is not known, at most MaxNamed
	More        int           `json:"more,omitempty"`        // how many more there are
}

// Add names a call of which it is not known whether anything of it runs.
func (c *Cancellation) Add(u Unconfirmed) {
	if c.Confirmed = false; len(c.Unconfirmed) < MaxNamed {
		c.Unconfirmed = append(c.Unconfirmed, u)
	} else {
		c.More++
	}
}

// Words is what the message of a settlement says of a cancellation, "" of none.
func (c *Cancellation) Words() string {
	switch {
	case c == nil:
		return ""
	case c.Confirmed:
		return "; confirmed: nothing of it runs any more"
	}
	first := c.Unconfirmed[0]
	text := fmt.Sprintf("; unconfirmed: call %s (%s) may still run: %s", first.CallID, first.Tool, first.Message)
	if n := len(c.Unconfirmed) - 1 + c.More; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return text
}

// Unconfirmed tells why it is not known whether anything of a call runs: what its record says.
func (c *Call) Unconfirmed() Unconfirmed {
	u := Unconfirmed{CallID: c.ID, Tool: c.Tool, Executor: c.Executor, Reason: OutcomeLost}
	switch {
	case c.Leaves:
		u.Reason = ProcessesLeft
		u.Message = "executor " + c.Executor + " could not make sure that no process of the command is left"
	case c.Executor == "":
		u.Message = "nobody saw the call end"
	default:
		u.Message = "nobody saw the call end on executor " + c.Executor
	}
	return u
}

// Unconfirmed is a call that may still run, or may have left processes behind.
type Unconfirmed struct {
	CallID   string `json:"call_id"`
	Tool     string `json:"tool"`
	Executor string `json:"executor"`
	Reason   string `json:"reason"`
	Message  string `json:"message,omitempty"`
}

// Reasons why the end of a call is not confirmed.
const (
	ExecutorAway  = "EXECUTOR_AWAY"  // its executor is not connected
	NoAnswer      = "NO_ANSWER"      // its executor is there and did not say in time that the call has ended
	ProcessesLeft = "PROCESSES_LEFT" // its executor could not make sure that no process is left
	OutcomeLost   = "OUTCOME_LOST"   // nobody saw its end
)

// Dispatch sends a call to an executor (again), or lets it wait for one.
type Dispatch struct {
	CallID   string
	Executor string // of a call that a loop or control itself carries out: ""
	Dispatch int    // the new number; the record must have a lower one. 0: it waits for a slot of Executor, pending
	Journal  string // id of the executor's journal
}

// Store reads and completes calls. Calls are made and dispatched by the lane's owner, see lane.Commit.
type Store interface {
	// TurnCalls returns the calls of one turn of a loop, in order of Index, in any state.
	TurnCalls(ctx context.Context, loopID string, turn int) ([]Call, error)
	// LoopCalls returns at most limit calls of a loop after the one at a place in a turn, in order.
	LoopCalls(ctx context.Context, loopID string, turn, index, limit int) ([]Call, error)
	// Unended returns the calls of a loop, and if it is the root of a tree those of the whole tree, of which nobody has
	// said that nothing of them runs any more.
	Unended(ctx context.Context, loopID string) (Unended, error)
	// Cancellations returns what is known of the calls of the sub-agents of a tree, by the id of its root, that were
	// made to end and have ended, in no order.
	Cancellations(ctx context.Context, rootID string) ([]Cancellation, error)
	// Grant dispatches those of the calls that are pending and wait for this executor, with dispatch+1, and returns
	// them. None when the executor has another connection epoch by now: the statement holds the executor's row, so no
	// newer connection can begin before it ends.
	Grant(ctx context.Context, g Grant) ([]Granted, error)
	// WaitingCalls returns the calls that wait for a slot of an executor, in order of CreatedAt and CallID.
	WaitingCalls(ctx context.Context, executor string) ([]Waiting, error)
	// GetCall returns a call or ErrNotFound.
	GetCall(ctx context.Context, id string) (Call, error)
	// CompleteCall records an outcome if the call is pending or dispatched and returns the call as it is then: done or
	// cancelled before means that the outcome is a duplicate; lost before means that the reply was kept as late.
	// ErrNotFound.
	CompleteCall(ctx context.Context, o Outcome) (Call, error)
	// DispatchedCalls returns all calls that are dispatched to an executor.
	DispatchedCalls(ctx context.Context, executor string) ([]Call, error)
}
