// Package run is invocations of workflows: how they are started, found, told, retried and copied.
//
//	                ┌────────── its key is free ──────────┐
//	Start ──▶ blocked                                     ▼
//	  └───────────────────────────────────────────────▶ queued ──claim──▶ active ──▶ completed
//	                                                      ▲ │           │ ▲  │    └▶ failed ┐
//	                                                      │ └─ cancel   ▼ │  └▶ cancelled,  │
//	                                                      │            parked    expired,   │
//	                                                      │                      interrupted┤
//	                                                      └───────────── Retry ─────────────┘
//
// A run is a lane of its own (see package lane) whose queue never has more than one thing: the present attempt, which
// is a submission. The run's id is that of its lane, and of the session that its events, its workspace and the
// conversations of its agents belong to. What an attempt has done is records of steps (see package step); a later
// attempt goes on from those.
//
// Invariants: a run is admitted once for each idempotency key of its workflow, and once for each instant of a schedule;
// never more runs of one key are past its gate than the key allows, and none waits while there is room; a signal is
// received by one step, once; what a run was started with never changes.
package run

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
)

// Failures of this package's operations.
var (
	ErrNotFound = errs.New(errs.NotFound, "RUN_NOT_FOUND", "no such run")
	// ErrChanged refuses what was to be done with the records of an attempt, after which another has begun.
	ErrChanged = errs.New(errs.Aborted, "RUN_CHANGED", "the run has begun another attempt meanwhile: look at it again")
	// ErrKeyBusy refuses a run where its workflow says so.
	ErrKeyBusy = errs.New(errs.Aborted, "CONCURRENCY_KEY_BUSY", "as many runs of this concurrency key as it allows "+
		"have not ended")
	// ErrEnded refuses a signal to a run that has ended, and ErrNotEnded a retry of one that has not.
	ErrEnded    = errs.New(errs.FailedPrecondition, "RUN_ENDED", "the run has ended")
	ErrNotEnded = errs.New(errs.FailedPrecondition, "RUN_NOT_ENDED", "the run has not ended")
	// ErrSignals refuses a signal to a run that has too many that it has not received.
	ErrSignals = errs.New(errs.ResourceExhausted, "SIGNALS_FULL", "too many signals wait for this run")
	// ErrNoSchedule says that a workflow has no such schedule.
	ErrNoSchedule = errs.New(errs.NotFound, "SCHEDULE_NOT_FOUND", "no such schedule")
)

// Status of a run.
type Status uint8

// Statuses, as numbered in the database.
const (
	Queued Status = iota
	Active        // it has an owner, or rests
	Completed
	Failed
	Cancelled
	Expired
	Interrupted
)

// Ended reports whether the status is final, but for a retry.
func (s Status) Ended() bool { return s >= Completed }

// StatusOf is the status of a run whose attempt has settled.
func StatusOf(o lane.Outcome) Status {
	switch o {
	case lane.Completed:
		return Completed
	case lane.Failed:
		return Failed
	case lane.Aborted:
		return Cancelled
	case lane.Expired:
		return Expired
	case lane.Interrupted:
	}
	return Interrupted
}

// String names the status as the API does.
func (s Status) String() string {
	return [...]string{"queued", "active", "completed", "failed", "cancelled", "expired", "interrupted"}[s]
}

// Run is one invocation of a workflow, with a field for each thing that is known of it.
type Run struct {
	ID           string // UUIDv7
	Tenant       string
	Workflow     string
	Digest       string          // of the definition, which stays the same
	Input        json.RawMessage // with its defaults
	Attempt      int             // from 1
	SubmissionID string          // of the present attempt
	Status       Status
	Blocked      bool // it waits for its concurrency key
	Resting      bool // it is active, and nobody has to do anything for it now
	Key          string
	Parent       *Parent
	Fired        *Fired // by a schedule; nil for none
	ForkedFrom   string
	Output       json.RawMessage // of one that has completed
	Reason       string          // why it has not
	Message      string
	Usage        model.Usage
	LastOrd      int  // the highest Ord of its records, those included that are not read to go on; 0 in lists
	Abort        bool // its cancellation was requested
	CreatedAt    time.Time
	StartedAt    time.Time
	EndedAt      time.Time
}

// Parent is the step of a run that has started another one.
type Parent struct {
	RunID string
	Path  string
	// Keep leaves the child alone when the parent is cancelled.
	Keep bool
}

// Fired says which instant of which schedule has started a run.
type Fired struct {
	Index int // of the schedule in its workflow, from 0
	For   time.Time
}

// Policy is what to do with a run whose concurrency key allows no more.
type Policy uint8

// Policies.
const (
	Queue        Policy = iota // it waits, in order of its start
	Reject                     // ErrKeyBusy
	CancelOldest               // the oldest run of the key that has not ended is cancelled; it waits for its end
)

// Gate is a concurrency key and what it allows. The key "" is none.
type Gate struct {
	Key    string
	Limit  int
	Policy Policy
}

// Start is a run to admit, with a field for each thing that is known of it by then.
type Start struct {
	ID             string // UUIDv7, of the run; and of its first attempt's submission
	SubmissionID   string
	Tenant         string
	Workflow       string
	Digest         string
	Input          json.RawMessage
	InputHash      []byte // of what the caller sent; compared on replay
	IdempotencyKey string // within tenant and workflow; "" is none
	Timeout        time.Duration
	Gate           *Gate // nil is none
	Parent         *Parent
	// Wakes is the lane that rests on the end of the run; "" is none.
	Wakes string
	Fired *Fired
	Fork  *Fork
	// ReplayOnly wants the answer to an earlier start with the same idempotency key; ErrNotFound when there is none.
	ReplayOnly bool
	Owner      string // see submission.Admission
	Record     *audit.Event
}

// Fork says with whose records a run begins.
type Fork struct {
	RunID string
	Of    string // the attempt that has made the records: its submission; "" is any
	drive.Kept
}

// Started answers a start.
type Started struct {
	Run      Run
	Replayed bool
	Lease    *lane.Lease // set when Owner got the lane
}

// Retry is another attempt of a run that has ended.
type Retry struct {
	Tenant       string
	RunID        string
	Of           string // the attempt that has made the records: its submission; "" is any
	SubmissionID string // of the new attempt
	drive.Kept          // all other records of steps are taken back
	Timeout      time.Duration
	Gate         *Gate
	Owner        string
	Record       *audit.Event
}

// Filter says which runs are listed, newest first. Zero fields are no condition.
type Filter struct {
	Tenant    string
	Workflows []string
	Statuses  []Status
	Parent    string // the run that has started them
	Key       string // a concurrency key; Workflows has one name then
	Before    string // a run's id: only older ones
	Limit     int
}

// Telling is a signal to a run.
type Telling struct {
	Tenant string
	RunID  string
	step.Signal
	Record *audit.Event
}

// Schedule is one of a workflow's schedules as its row has it.
type Schedule struct {
	Tenant   string
	Workflow string
	Index    int
	Cron     string
	Zone     string
	Catchup  string
	Paused   bool
	Next     time.Time // the first instant that nobody has acted on
	Last     time.Time // the last one that has started a run; zero for none
	LastRun  string
}

// Place is where a schedule stands among those of all tenants, in the order in which they are due. The zero value is
// before the first.
type Place struct {
	next             time.Time
	tenant, workflow string
	index            int
}

// Place is where the schedule stands.
func (s Schedule) Place() Place { return Place{s.Next, s.Tenant, s.Workflow, s.Index} }

// Split is what a place is made of.
func (p Place) Split() (next time.Time, tenant, workflow string, index int) {
	return p.next, p.tenant, p.workflow, p.index
}

// Pausing is that a schedule is to pause, or to go on.
type Pausing struct {
	Tenant   string
	Workflow string
	Index    int
	Paused   bool
	// Next is when one that goes on is due first after a time, the store's now.
	Next   func(after time.Time) time.Time
	Record *audit.Event
}

// Name is what the key of a run's session begins with. No agent can have such a name.
const Name = "workflow:"

// Key is the key of a run's session.
func Key(tenant, workflow, runID string) session.Key {
	return session.Key{Tenant: tenant, Agent: Name + workflow, Instance: runID, Name: session.DefaultName}
}

// Inline is how large an input or an output may be that is stored with its row, in bytes.
const Inline = 64 << 10

// Store keeps runs. Methods may be called concurrently; times are the store's, as for lane.Store. The end of an attempt
// is written by lane.Store and by submission.Store, whose methods settle its submission: in the same transaction the
// run has its status, its concurrency key is free, and there is mail for the next run of the key and for whoever rests
// on the end. That mail arrives with lane.Store.MoveMail, as does the cancellation of runs that others have asked for:
// those that a run has started which was made to end, and the oldest one of a key.
type Store interface {
	// StartRun admits a run. The answer to one that was started under the same idempotency key is that run, Replayed.
	// submission.ErrIdempotencyConflict, ErrKeyBusy, ErrChanged.
	StartRun(ctx context.Context, s Start) (Started, error)
	// RetryRun begins another attempt. ErrNotFound, ErrNotEnded, ErrKeyBusy, ErrChanged.
	RetryRun(ctx context.Context, r Retry) (Started, error)
	// GetRun returns the tenant's run or ErrNotFound.
	GetRun(ctx context.Context, tenant, id string) (Run, error)
	// ListRuns returns runs without their inputs and outputs.
	ListRuns(ctx context.Context, f Filter) ([]Run, error)
	// OpenSteps returns at most limit records that are needed to go on, after one (0: from the first), in order of Ord.
	// An answer may be shorter where outputs are large: the end is an empty one. step.ErrUnreadable.
	OpenSteps(ctx context.Context, runID string, after, limit int) ([]step.Record, error)
	// PartsOf returns at most limit records of steps that are part of one (0: of none), after one, in order of Ord, as
	// OpenSteps does.
	PartsOf(ctx context.Context, runID string, ord, after, limit int) ([]step.Record, error)
	// ListSteps returns at most limit records of a run, after one, in order of Ord, as OpenSteps does, but without
	// those that cannot be read.
	ListSteps(ctx context.Context, runID string, after, limit int) ([]step.Record, error)
	// Tell adds a signal and wakes the run. A repetition, as its message id tells, changes nothing: replayed says so,
	// and the signal is the first one. ErrNotFound, ErrEnded, ErrSignals.
	Tell(ctx context.Context, t Telling) (s step.Signal, replayed bool, err error)
	// Untaken returns the signals that no step has received, in order, at most MaxSignals.
	Untaken(ctx context.Context, runID string) ([]step.Signal, error)
	// SetSchedules makes the schedules of a workflow of a tenant these, in order. next says when one is first due after
	// a time, the store's now. One whose expression and zone are unchanged keeps what is known of it, but is due no
	// later than that. One that takes the place of another pauses if that one did.
	SetSchedules(ctx context.Context, tenant, workflow string, all []Schedule,
		next func(i int, after time.Time) time.Time) error
	// Schedules returns the schedules of a tenant, in order of workflow and index.
	Schedules(ctx context.Context, tenant string) ([]Schedule, error)
	// DueSchedules returns at most limit schedules of all tenants of which something is due, those that have been due
	// for longest first, and the store's now, which is zero if there is none. A replica that has just started may be
	// told of none until it knows the time. They come after a place, so that whoever goes on with that of the last
	// one gets past those that cannot be acted on.
	DueSchedules(ctx context.Context, after Place, limit int) (due []Schedule, now time.Time, err error)
	// Fire starts a run for each of the starts and moves the schedule on to next, in one transaction, if Next of the
	// row is still that of s: fired is false otherwise. A start that ErrKeyBusy refuses is left out, and so is one of
	// an instant for which a schedule of the same workflow, expression and zone has started a run within
	// submission.ReceiptLife. The starts have Fired, and no idempotency keys: these are of the instants.
	Fire(ctx context.Context, s Schedule, next time.Time, starts []Start) (fired bool, err error)
	// PauseSchedule pauses a schedule, or has it go on. ErrNoSchedule.
	PauseSchedule(ctx context.Context, p Pausing) (Schedule, error)
}
