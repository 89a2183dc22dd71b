package lane

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
)

// Commit is facts about loops of an owned lane, written in one transaction or not at all.
//
// The owner merges what its loops want while a commit is under way into the next one. ID is a UUID that stays the same
// over tries: a commit that was written, with its answer lost, is recognised by it and answered as if it were written
// now.
type Commit struct {
	Fence     Fence
	Kind      Kind // of the lane; 0 is a session's
	ID        string
	Tenant    string // whose lane it is: stores let tenants take turns
	EventHead int64  // before this commit
	Steps     []Step // at most one per loop, with at least one event between them
	Executor  string // binds the lane's workspace when set
	// Continue keeps the lane when a step ends the root and another submission waits.
	Continue bool
	Park     *Park // rests the lane; not with a step that ends the root
}

// Events are the events of all steps, in order of their seqs.
func (c *Commit) Events() (all []event.Event) {
	if len(c.Steps) == 1 {
		return c.Steps[0].Events
	}
	for i := range c.Steps {
		all = append(all, c.Steps[i].Events...)
	}
	return all
}

// Ending is the settlement of the root among the steps, nil when the head goes on.
func (c *Commit) Ending(root string) *Settlement {
	for i := range c.Steps {
		if c.Steps[i].LoopID == root {
			return c.Steps[i].End
		}
	}
	return nil
}

// Step is the facts of one loop, with a field for each kind of fact.
type Step struct {
	LoopID    string
	SessionID string
	// EntryHead is the conversation's head before the step. Under a valid fence another one is a bug: it fails the
	// commit.
	EntryHead int64
	Begin     *Begin          // makes the loop
	Entries   []session.Entry // Seq = EntryHead+1, …
	Events    []event.Event   // Seqs are dense over the steps of a commit, from its EventHead+1
	Calls     []call.Call     // new ones; the store sets their times
	// Dispatches and Outcomes are of calls of the lane. An outcome is ignored where the call is terminal; one that is
	// Lost is refused there with call.ErrEnded, see Refused.
	Dispatches []call.Dispatch
	Outcomes   []call.Outcome
	// Approvals are new ones, of calls among Calls. Noted are those of which the stream tells by now what became of
	// them, or that are withdrawn; refused with approval.ErrDecided if one that is to be withdrawn has been decided, or
	// has expired, see Refused.
	Approvals []approval.Approval
	Noted     []approval.Note
	Shown     []call.Shown // how much of calls' output is in the stream by now
	// ForgetReplies says that the entries hold the replies of the calls of the loop's turn before Progress. What the
	// call came to that the loop answers itself is kept for whoever asked.
	ForgetReplies bool
	Progress      *Progress
	Spent         *model.Usage // the loop's usage by now, of a model call that came to nothing: no progress
	Model         string       // see Loop.Model; "" leaves it. It is no progress
	Turn          *Turn        // the model call that this step is the answer of
	Joins         []Join       // of the root: submissions that join it; refused with ErrNotQueued, see Refused
	// Records and Taken are of a run: what became of its steps, by Ord, in the order in which it became so, and signals
	// that steps have received. One of a step that has ended is refused with step.ErrEnded, and a signal that another
	// step has received with step.ErrTaken.
	Records []step.Record
	Taken   []step.Taken
	End     *Settlement // the loop ends; of the root: the head settles, and all open loops with it
}

// Progresses reports whether the step is progress of its loop, so that its owners' deaths before it do not count any
// more: an entry, an outcome, Progress, or a step of a run that has ended. That one begins is none: it may be what its
// owners die of.
func (s *Step) Progresses() bool {
	return len(s.Entries) > 0 || len(s.Outcomes) > 0 || s.Progress != nil ||
		slices.ContainsFunc(s.Records, func(r step.Record) bool { return r.State.Ended() })
}

// Begin makes the loop of a sub-agent, or of a guest. It is running, and at PhaseAccepted unless the step has Progress.
type Begin struct {
	RootID      string
	Key         session.Key // of its conversation
	ParentID    string      // the conversation of the loop that asked, or of the run
	ParentCall  string
	AgentDigest string
	Options     Options
	// GoesOn says that the conversation is there: an earlier loop of the lane, which has ended, has begun it. Otherwise
	// it is made, and the step's EntryHead is 0.
	GoesOn bool
}

// Join makes a queued submission part of the head that it was meant for: it leaves the queue, its input is an entry of
// the step, and it settles in the transaction that settles the head, as that does.
type Join struct {
	SubmissionID string
	InputEntry   int64
}

// Steer is a submission that waits to join the head.
type Steer struct {
	ID    string
	Seq   int64
	Input json.RawMessage // a model.Message
}

// ErrNotQueued says that a submission does not wait any more for the head that it was to join.
var ErrNotQueued = errors.New("the submission does not wait for this head any more")

// Progress moves a loop on.
type Progress struct {
	Phase      Phase
	Turn       int
	InputEntry int64 // set once; clears the loop's Input
	Usage      model.Usage
}

// Turn is the record of one model call: what replay, cost and traces read.
type Turn struct {
	Turn       int
	Model      string
	Request    []byte // digest of the request
	Prefix     []byte // digest of the system text and the tools
	PrefixBody []byte // what that is of; nil when it was stored before
	Usage      model.Usage
	Attempts   int
	FirstToken time.Duration // 0 when none came
	Duration   time.Duration
	Stop       string
	Error      string // "" when it answered
	Purpose    string // "" for an answer, PurposeSummary
}

// PurposeSummary is the purpose of a model call that sums a conversation up.
const PurposeSummary = "summary"

// Settlement ends a loop.
type Settlement struct {
	Outcome     Outcome
	Reason      string
	Message     string
	Model       string
	Usage       model.Usage
	ResultEntry int64 // the assistant entry that holds the answer, 0 for none
	// Data is the structured result, JSON; nil when there is none.
	Data json.RawMessage
	// Cancellation is set when the loop was made to end: aborted, expired or interrupted.
	Cancellation *call.Cancellation
}

// Park rests the lane in the transaction of the commit, unless mail came since Mail was read.
type Park struct {
	// Mail is the counter that the claim or the last commit returned. What the owner rests on must have been read after
	// that.
	Mail int64
	// For is how long it rests at most; Never is until mail comes, or until the head has to end.
	For time.Duration
}

// Committed answers a commit.
type Committed struct {
	Next   *Lease // see Commit.Continue; the same epoch
	Ready  bool   // the lane was handed back with submissions waiting
	Parked bool
	Mail   int64
	Ends   Ends // of the head that the commit was about; Never once that has settled
}

// Refused says that one step is at fault for a commit that was not written: the others may be sent again without it.
type Refused struct {
	LoopID string
	// Err is call.ErrEnded: read the calls that the step says lost of; ErrNotQueued: read what waits to join; or
	// approval.ErrDecided: read the approvals that the step withdraws.
	Err error
}

// Error implements error.
func (r *Refused) Error() string {
	return "a step of loop " + r.LoopID + " is refused: " + r.Err.Error()
}

// Unwrap returns the reason.
func (r *Refused) Unwrap() error { return r.Err }
