// Package submission is accepted input: admission, receipts, following it to its end.
//
//	             ┌──────── release, park ◀────────┐
//	Admit ──▶ queued ──claim──▶ running ──────────┴──commit──▶ settled{completed, failed, aborted, interrupted, expired}
//	             └── abort ──▶ settled{aborted}
//
// A submission is queued in the lane of its session and becomes the lane's head, the root of a tree of loops: see
// package lane, which says how it is owned and how it ends.
//
// Invariants: at most one submission of a session runs; they run in order of admission; a submission settles exactly
// once; whoever repeats an admission with its idempotency key gets the answer to the first one.
package submission

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Failures of this package's operations.
var (
	ErrNotFound = errs.New(errs.NotFound, "SUBMISSION_NOT_FOUND", "no such submission")
	// ErrIdempotencyConflict: the idempotency key was used for another input.
	ErrIdempotencyConflict = errs.New(errs.AlreadyExists, "IDEMPOTENCY_CONFLICT", "this idempotency key was used "+
		"with another request; use a new key")
	// ErrSubAgent refuses an admission to the conversation of a sub-agent.
	ErrSubAgent = errs.New(errs.FailedPrecondition, "SUB_AGENT_SESSION", "the conversation of a sub-agent takes no "+
		"prompts: prompt the session that it works for")
)

// MaxListed is how long an input may be to be in a list, in bytes.
const MaxListed = 4 << 10

// ReceiptLife is how long an idempotency key is remembered at least.
const ReceiptLife = 7 * 24 * time.Hour

// Status of a submission.
type Status uint8

// Statuses, as numbered in the database.
const (
	Queued Status = iota
	Running
	SettledStatus
	Joined // the submission that it was meant for, and settles with that
)

// WhenBusy is what to do with an input for a session that is busy, as numbered in the database.
type WhenBusy uint8

// What to do.
const (
	Queue     WhenBusy = iota // in order of admission
	Steer                     // join what runs at the end of its turn
	Interrupt                 // abort what runs, and run next
)

// ErrWhenBusy refuses what is no WhenBusy.
var ErrWhenBusy = errs.New(errs.InvalidArgument, "WHEN_BUSY", "when_busy is one of queue, steer and interrupt")

// ParseWhenBusy reads a WhenBusy as people write it, "" for Queue. Fails with ErrWhenBusy.
func ParseWhenBusy(s string) (WhenBusy, error) {
	switch s {
	case "", "queue":
		return Queue, nil
	case "steer":
		return Steer, nil
	case "interrupt":
		return Interrupt, nil
	}
	return Queue, ErrWhenBusy
}

// ErrJoined refuses to abort what has become a part of another submission.
var ErrJoined = errs.New(errs.FailedPrecondition, "SUBMISSION_JOINED", "the submission has joined another one")

// Submission is one accepted input, the root of a tree of loops, with a field for each thing that is known of it.
type Submission struct {
	lane.Loop
	IdempotencyKey string
	Status         Status
	Outcome        lane.Outcome // when settled
	Reason         string       // why not completed
	Message        string
	ResultEntry    int64           // the assistant entry that holds the answer
	Text           string          // of the answer; filled in by Service, never by the store
	Data           json.RawMessage // the structured result; nil is none
	AskedBy        *model.Speaker  // who submitted it; filled in by Service, never by the store
	AbortRequested bool
	// WhenBusy is what was done with it at admission, and Host the submission that it joins, or has aborted.
	WhenBusy     WhenBusy
	Host         string
	Cancellation *call.Cancellation // when settled, see lane.Settlement
	AcceptedAt   time.Time
	SettledAt    time.Time
}

// NeverBegan settles a queued submission whose abort was requested.
func NeverBegan() lane.Settlement {
	return lane.Settlement{
		Outcome: lane.Aborted, Reason: lane.ReasonAborted, Message: "an abort was requested before it began",
		Cancellation: &call.Cancellation{Confirmed: true},
	}
}

// Admission is an input to accept.
type Admission struct {
	ID             string // chosen by the caller: UUIDv7
	Key            session.Key
	SessionID      string          // the session that is meant, which had the Key; "" is the one that has it
	Input          json.RawMessage // a model.Message
	InputHash      []byte          // sha256 of what the client sent, the options included; compared on replay
	IdempotencyKey string          // "" is none
	AgentDigest    string
	Timeout        time.Duration
	Options        lane.Options
	WhenBusy       WhenBusy
	Images         []session.Image // that Input names
	// Wakes is a lane that rests on the end of the submission: it has mail then. "" is none.
	Wakes string
	// ReplayOnly wants the answer to an earlier admission with the same idempotency key; ErrNotFound when there is
	// none.
	ReplayOnly bool
	// Owner, when set, takes an idle lane in the same transaction: the submission is then admitted, claimed and started
	// (input entry and started event committed, PhaseModel, turn 1) at once.
	Owner string
	// Record is stored in the same transaction, unless it is there already. nil is none.
	Record *audit.Event
}

// Admitted answers an admission.
type Admitted struct {
	Submission Submission
	Replayed   bool        // an earlier admission with the same idempotency key; nothing was written
	EventHead  int64       // of the session's stream before the submission began, or, of one that waits, was admitted
	Lease      *lane.Lease // set when Owner got the lane
}

// Store keeps submissions. What runs is kept by lane.Store. Independent calls may be grouped into one transaction by
// the implementation; each gets its own answer. Clocks are the database's.
type Store interface {
	// Admit accepts an input. The session and its lane are made when missing. An idempotency key is remembered for
	// ReceiptLife, whatever becomes of the session, and for as long as its submission is there. Of one that is gone,
	// only ID, Key and that it settled are known. In a session that is busy, one that steers is marked as the running
	// head's, and one that interrupts aborts that and is next; either is counted as mail. With a SessionID nothing is
	// made: session.ErrNotFound, and session.ErrRewound unless it was admitted before. ErrIdempotencyConflict,
	// ErrSubAgent, session.ErrDeleting.
	Admit(ctx context.Context, a Admission) (Admitted, error)
	// GetSubmission returns the tenant's submission or ErrNotFound. Loops of sub-agents are no submissions.
	GetSubmission(ctx context.Context, tenant, id string) (Submission, error)
	// ListSubmissions returns at most limit submissions of a session with seq < before (0: all), newest first. They
	// lack an Input of more than MaxListed bytes.
	ListSubmissions(ctx context.Context, sessionID string, before int64, limit int) ([]Submission, error)
	// RequestAbort settles a queued submission as aborted. A running one has to end now: that is written into its
	// lane's row and counted there as mail, so that its owner hears of it and, if the owner does not end it, it is
	// settled a grace later (lane.Kind). One that has settled or joined another is left. It returns the submission.
	// ErrNotFound.
	RequestAbort(ctx context.Context, tenant, id string) (Submission, error)
	// RequestAbortSession does so with every submission of the tenant's session that has not settled. It returns how
	// many queued ones it settled, and the id of the running one, "" for none. session.ErrNotFound.
	RequestAbortSession(ctx context.Context, tenant, sessionID string) (settled int, running string, err error)
	// Steers returns at most limit submissions with seq > after that wait to join the head, in order, without those
	// that have options, which the head cannot serve.
	Steers(ctx context.Context, headID string, after int64, limit int) ([]lane.Steer, error)
	// Settled returns which of the submissions have settled. Ids that are none are left out.
	Settled(ctx context.Context, ids []string) ([]string, error)
}
