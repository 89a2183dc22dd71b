// Package submission is accepted input: admission, lanes, ownership, settlement.
//
//	             ┌────────────── release (drain) ─────────────┐
//	Admit ──▶ queued ──claim──▶ running ──Commit{Settle}──▶ settled{completed, failed, aborted, interrupted, expired}
//	             │                  ├── owner dies ──take over──▶ running, epoch+1
//	             │                  └── owner hangs past deadline or abort ──take over──▶ running, epoch+1, to end at once
//	             └── abort ──▶ settled{aborted}
//
// A lane is the queue of one session: idle ─admit▶ ready ─claim▶ running ─settle▶ ready or idle.
//
// Invariants: at most one submission of a session runs; they run in order of admission; every write of an owner carries
// the lane's epoch and is refused when the lane has another (ErrFenced), so a stale owner can change nothing; the facts
// of a step commit together; a submission settles exactly once.
package submission

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Failures of this package's operations.
var (
	ErrNotFound = errs.New(errs.NotFound, "SUBMISSION_NOT_FOUND", "no such submission")
	// ErrIdempotencyConflict: the idempotency key was used for another input.
	ErrIdempotencyConflict = errs.New(errs.AlreadyExists, "IDEMPOTENCY_CONFLICT", "this idempotency key was used "+
		"with another message; use a new key")
	// ErrFenced: the writer owns the lane no more. It must stop and forget what it knows of the session.
	ErrFenced = errs.New(errs.Aborted, "FENCED", "the session has another owner")
)

// ReceiptLife is how long an idempotency key is remembered at least.
const ReceiptLife = 7 * 24 * time.Hour

// Status of a submission.
type Status uint8

// Statuses, as numbered in the database.
const (
	Queued Status = iota
	Running
	SettledStatus
)

// Outcome is how a submission settled.
type Outcome string

// Outcomes.
const (
	Completed   Outcome = "completed"
	Failed      Outcome = "failed"
	Aborted     Outcome = "aborted"
	Interrupted Outcome = "interrupted"
	Expired     Outcome = "expired"
)

// Phase is what a running submission is at.
type Phase uint8

// Phases, as numbered in the database.
const (
	PhaseAccepted Phase = iota // the input entry is not there yet
	PhaseModel                 // the model is asked for turn Turn
	PhaseTools                 // the calls of turn Turn run
)

// Submission is one accepted input.
type Submission struct {
	ID             string // UUIDv7
	SessionID      string
	Key            session.Key
	Seq            int64 // order within the session, from 1
	IdempotencyKey string
	AgentDigest    string
	Input          json.RawMessage // a model.Message; nil once the input entry is committed
	Status         Status
	Outcome        Outcome // when settled
	Reason         string  // why not completed
	Message        string
	Phase          Phase
	Turn           int // model calls begun, from 1 once PhaseModel is reached
	InputEntry     int64
	ResultEntry    int64  // the assistant entry that holds the answer
	Text           string // of the answer; filled in by Service, never by the store
	Model          string
	Usage          model.Usage
	Attempts       int // ownership changes caused by death
	Stalls         int // consecutive ones without progress
	Timeout        time.Duration
	Deadline       time.Time // started + Timeout; zero is none
	AbortRequested bool
	Cancellation   *call.Cancellation // when settled, see Settlement
	AcceptedAt     time.Time
	StartedAt      time.Time
	SettledAt      time.Time
}

// NeverBegan settles a queued submission whose abort was requested.
func NeverBegan() Settlement {
	return Settlement{
		Outcome: Aborted, Reason: ReasonAborted, Message: "an abort was requested before it began",
		Cancellation: &call.Cancellation{Confirmed: true},
	}
}

// ReasonAborted is why a submission was aborted.
const ReasonAborted = "ABORTED"

// Admission is an input to accept.
type Admission struct {
	ID             string // chosen by the caller: UUIDv7
	Key            session.Key
	Input          json.RawMessage // a model.Message
	InputHash      []byte          // sha256 of what the client sent, compared on replay
	IdempotencyKey string          // "" is none
	AgentDigest    string
	Timeout        time.Duration
	// ReplayOnly wants the answer to an earlier admission with the same idempotency key; ErrNotFound when there is
	// none.
	ReplayOnly bool
	// Owner, when set, takes an idle lane in the same transaction: the submission is then admitted, claimed and started
	// (input entry and started event committed, PhaseModel, turn 1) at once.
	Owner string
}

// Admitted answers an admission.
type Admitted struct {
	Submission Submission
	Replayed   bool   // an earlier admission with the same idempotency key; nothing was written
	EventHead  int64  // of the session's stream before this admission: all events of the submission come after it
	Lease      *Lease // set when Owner got the lane
}

// Fence proves the ownership of a lane.
type Fence struct {
	SessionID string
	Epoch     int64
}

// Lease is a lane that a replica owns and the submission at its head.
type Lease struct {
	Fence      Fence
	Submission Submission
	EntryHead  int64
	EventHead  int64
	Executor   string // where the session's workspace is bound, "" for nowhere
	// Forced says that the submission is to end now: the owner before did not end it in time.
	Forced bool
}

// Commit is the facts of one step of the submission at the head of an owned lane. They are written in one transaction
// or not at all. EntryHead and EventHead are the heads before it: a retry after a lost answer is recognised by them and
// succeeds.
type Commit struct {
	Fence         Fence
	SubmissionSeq int64
	EntryHead     int64
	EventHead     int64
	Entries       []session.Entry // Seq = EntryHead+1, …; a new entry clears Stalls, and so does Progress
	Events        []event.Event   // at least one; Seq = EventHead+1, …
	Calls         []call.Call     // new ones
	Dispatches    []call.Dispatch
	Outcomes      []call.Outcome // as CompleteCall, ignored where the call is terminal, but see call.ErrEnded
	ForgetReplies bool           // the entries of this commit hold the replies of the turn's calls
	Progress      *Progress
	Executor      string // binds the session's workspace when set
	Settle        *Settlement
}

// Progress moves a running submission on.
type Progress struct {
	Phase      Phase
	Turn       int
	InputEntry int64 // set once; clears the submission's Input
	Usage      model.Usage
}

// Settlement ends the submission and hands the lane on.
type Settlement struct {
	Outcome     Outcome
	Reason      string
	Message     string
	Model       string
	Usage       model.Usage
	ResultEntry int64
	// Cancellation is set when the submission was made to end: aborted, expired or interrupted.
	Cancellation *call.Cancellation
	// Continue keeps the lane when another submission waits: Committed.Next is then the lease for it, same epoch.
	Continue bool
}

// Committed answers a commit.
type Committed struct {
	Next *Lease // see Settlement.Continue
	// Ready says that the lane was handed back with submissions waiting.
	Ready bool
	// AbortRequested is the submission's flag at the time of the commit.
	AbortRequested bool
}

// AbortRequest is a running submission that is to be aborted.
type AbortRequest struct{ SessionID, SubmissionID string }

// Store keeps submissions and lanes. Independent calls may be grouped into one transaction by the implementation; each
// gets its own answer. Clocks are the database's.
type Store interface {
	// Admit accepts an input. The session is made when missing. An idempotency key is remembered for ReceiptLife,
	// whatever becomes of the session, and for as long as its submission is there. Of one that is gone, only ID, Key
	// and that it settled are known. ErrIdempotencyConflict.
	Admit(ctx context.Context, a Admission) (Admitted, error)
	// Claim takes at most limit ready lanes for owner, oldest first. Half-done submissions come before later ones.
	Claim(ctx context.Context, owner string, limit int) ([]Lease, error)
	// TakeOver takes at most limit running lanes of the replicas named in dead, or, when none is named, of those whose
	// lease has expired or is gone, with epoch+1 and attempts+1, stalls+1 on the running submission.
	TakeOver(ctx context.Context, owner string, dead []string, limit int) ([]Lease, error)
	// TakeOverdue takes at most limit running lanes, whoever owns them, whose submission should have ended for more
	// than grace: its deadline has passed or an abort was requested. With epoch+1, Forced leases and nothing charged;
	// the next one may do so after another grace.
	TakeOverdue(ctx context.Context, owner string, grace time.Duration, limit int) ([]Lease, error)
	// Commit writes one step. ErrFenced when the lane has another owner or epoch, call.ErrEnded when it says lost of a
	// call whose outcome has been recorded; nothing is written then.
	Commit(ctx context.Context, c Commit) (Committed, error)
	// OwnedLanes returns the lanes that owner runs, in no order.
	OwnedLanes(ctx context.Context, owner string) ([]Fence, error)
	// Release hands an owned lane back with its half-done submission, no attempt charged. ErrFenced.
	Release(ctx context.Context, f Fence) error
	// ReleaseStalled is Release after a failure that the submission may be the cause of: it is charged as a stall.
	// ErrFenced.
	ReleaseStalled(ctx context.Context, f Fence) error
	// GetSubmission returns the tenant's submission or ErrNotFound.
	GetSubmission(ctx context.Context, tenant, id string) (Submission, error)
	// ListSubmissions returns at most limit submissions of a session with seq < before (0: all), newest first.
	ListSubmissions(ctx context.Context, sessionID string, before int64, limit int) ([]Submission, error)
	// RequestAbort settles a queued submission as aborted, marks a running one, leaves a settled one, and returns it.
	// ErrNotFound.
	RequestAbort(ctx context.Context, tenant, id string) (Submission, error)
	// RequestAbortSession does so with every submission of the tenant's session that has not settled. It returns how
	// many queued ones it settled, and the id of the running one, "" for none. session.ErrNotFound.
	RequestAbortSession(ctx context.Context, tenant, sessionID string) (settled int, running string, err error)
	// Settled returns which of the submissions have settled. Ids that are none are left out.
	Settled(ctx context.Context, ids []string) ([]string, error)
	// AbortRequests returns which of the submissions that owner runs are to be aborted.
	AbortRequests(ctx context.Context, owner string) ([]AbortRequest, error)
}
