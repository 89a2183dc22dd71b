package run

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/wake"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Failures of what callers ask for.
var (
	// ErrKey refuses a run whose concurrency key cannot be evaluated, or is none.
	ErrKey = errs.New(errs.FailedPrecondition, "CONCURRENCY_KEY_INVALID", "the concurrency key cannot be evaluated")
	// ErrInputTooLarge refuses an input.
	ErrInputTooLarge = errs.New(errs.InvalidArgument, "INPUT_TOO_LARGE", "").WithFacts(map[string]string{
		"field": "input",
	}, "the input has more than 4 MiB: put it into a file, and give its path")
	// ErrFilter refuses a list.
	ErrFilter = errs.New(errs.InvalidArgument, "RUN_FILTER", "runs cannot be listed like this")
	// ErrSignal refuses a signal that is none.
	ErrSignal = errs.New(errs.InvalidArgument, "SIGNAL_INVALID", "the signal is not one")
	// ErrSignalConflict refuses a signal whose message id was used with another body.
	ErrSignalConflict = errs.New(errs.AlreadyExists, "SIGNAL_CONFLICT", "this message id was used with another body: "+
		"use a new one")
	// ErrAttempt refuses to retry an attempt that is not the last one.
	ErrAttempt = errs.New(errs.FailedPrecondition, "RUN_ATTEMPT", "the run has had another attempt since")
)

// MaxInput is how large the input of a run may be, in bytes of JSON.
const MaxInput = 4 << 20

// MaxListed is how many runs or steps a page has at most.
const MaxListed = 1000

// Workflows finds and pins definitions.
type Workflows interface {
	// PinWorkflow stores the definition in force of a workflow of the tenant, and returns it with its digest. Fails
	// with the workflow package's ErrNotFound, or ErrInvalid when its file never was good.
	PinWorkflow(ctx context.Context, tenant, name string) (digest string, d *workflow.Definition, err error)
	// Workflow returns the definition that runs are pinned to by its digest.
	Workflow(ctx context.Context, digest string) (*workflow.Definition, error)
}

// Worker runs leases in this process. See submission.Worker.
type Worker interface {
	submission.Worker
	// Posted says that mail was posted to lanes, so that it arrives at once.
	Posted(ctx context.Context)
}

// Reader is what a Service needs of a database.
type Reader interface {
	Store
	// RequestAbort ends an attempt. See submission.Store.
	RequestAbort(ctx context.Context, tenant, submissionID string) (submission.Submission, error)
}

// Deps are what a Service works with.
type Deps struct {
	Store     Reader
	Workflows Workflows
	Events    *event.Service
	Worker    Worker
	Bus       *wake.Bus
	// Lookup finds the variables of this process that workflows name in env. nil finds none.
	Lookup func(name string) (value string, ok bool)
}

// Service starts runs and follows them to their ends. Its methods may be called concurrently, at any replica.
type Service struct{ Deps }

// NewService makes a Service.
func NewService(d Deps) *Service {
	if d.Lookup == nil {
		d.Lookup = func(string) (string, bool) { return "", false }
	}
	return &Service{d}
}

// Get returns the tenant's run or ErrNotFound.
func (s *Service) Get(ctx context.Context, tenant, id string) (Run, error) {
	return s.Store.GetRun(ctx, tenant, id)
}

// List returns runs without their inputs and outputs, newest first. Fails with ErrFilter.
func (s *Service) List(ctx context.Context, f Filter) ([]Run, error) {
	switch {
	case f.Limit < 1 || f.Limit > MaxListed:
		return nil, ErrFilter.With("a page has 1 to %d runs", MaxListed)
	case f.Key != "" && len(f.Workflows) != 1:
		return nil, ErrFilter.With("a concurrency key is one of a workflow: name that too")
	case f.Key != "" && len(f.Statuses) > 0, f.Parent != "" && (f.Key != "" || len(f.Statuses) > 0):
		return nil, ErrFilter.With("list by one of a parent, a concurrency key, and statuses")
	}
	f.Statuses = slices.Compact(slices.Sorted(slices.Values(f.Statuses)))
	f.Workflows = slices.Compact(slices.Sorted(slices.Values(f.Workflows)))
	return s.Store.ListRuns(ctx, f)
}

// Steps returns at most limit records of the tenant's run after one (0: from the first), in order of Ord. An answer may
// be shorter where outputs are large: the end is an empty one. ErrNotFound.
func (s *Service) Steps(ctx context.Context, tenant, id string, after, limit int) ([]step.Record, error) {
	if _, err := s.Store.GetRun(ctx, tenant, id); err != nil {
		return nil, err
	}
	return s.Store.ListSteps(ctx, id, max(after, 0), min(limit, MaxListed))
}

// Wait returns the run once it has ended, or as it is when the limit has passed; at once when the limit is not above 0.
// It fails with ctx's error when ctx ends before. Any replica can wait for any run. A run that is retried meanwhile has
// not ended.
func (s *Service) Wait(ctx context.Context, tenant, id string, limit time.Duration) (Run, error) {
	begun := time.Now()
	for {
		r, err := s.Get(ctx, tenant, id)
		if err != nil || r.Status.Ended() || limit-time.Since(begun) <= 0 {
			return r, err
		}
		if err := s.attempt(ctx, r, limit-time.Since(begun)); err != nil {
			return Run{}, err
		}
	}
}

// attempt returns when the present attempt of a run has ended, or is not the present one any more, or when the limit
// has passed.
func (s *Service) attempt(ctx context.Context, r Run, limit time.Duration) error {
	begun := time.Now()
	waiter := s.Events.Waiter(r.ID, r.SubmissionID)
	defer waiter.Close()
	for of := r.SubmissionID; ; {
		r, err := s.Get(ctx, r.Tenant, r.ID) // what has changed before there was a waiter
		left := limit - time.Since(begun)
		if err != nil || r.Status.Ended() || r.SubmissionID != of || left <= 0 {
			return err
		}
		if err := waiter.Wait(ctx, r.Status == Active, left); err != nil {
			return err
		}
	}
}

// Cancel asks that a run end and returns it as it is now. One that is queued ends at once; one that is active ends
// through its owner, wherever that is, and its children with it. One that has ended is left as it is. ErrNotFound.
func (s *Service) Cancel(ctx context.Context, tenant, id string) (Run, error) {
	r, err := s.Get(ctx, tenant, id)
	if err != nil || r.Status.Ended() {
		return r, err
	}
	ctx = context.WithoutCancel(ctx) // a client that leaves must not keep others from hearing of it
	if _, err := s.Store.RequestAbort(ctx, tenant, r.SubmissionID); err != nil {
		return Run{}, err
	}
	s.Worker.Posted(ctx) // runs that wait for its key may go on
	s.Bus.Publish(wake.Lane(id))
	s.Bus.Announce(id)
	s.Ready() // it may have rested
	return s.Get(ctx, tenant, id)
}

// Signalling is a signal that somebody gives to a run.
type Signalling struct {
	Tenant    string
	RunID     string
	Name      string
	MessageID string          // tells repetitions of one signal; "" is none
	Body      json.RawMessage // nil is null
	By        string          // for people
	Record    *audit.Record   // nil is none. It is stored with the signal, but not of a replay or with an error
}

// Signal gives a run a signal, which a step receives, once, now or later. It is durable when Signal returns. A
// repetition, as its message id tells, changes nothing: replayed says so. Errors: ErrNotFound, ErrEnded, ErrSignals,
// ErrSignal, ErrSignalConflict.
func (s *Service) Signal(ctx context.Context, g Signalling) (told step.Signal, replayed bool, err error) {
	t, err := g.telling()
	if err != nil {
		return told, false, err
	}
	t.Record = named(g.Record, t.RunID)
	ctx = context.WithoutCancel(ctx) // a client that leaves must not keep a signal from arriving
	if told, replayed, err = s.Store.Tell(ctx, t); err != nil {
		return step.Signal{}, false, err
	}
	if replayed && string(canonical(told.Body)) != string(canonical(t.Body)) {
		return step.Signal{}, false, ErrSignalConflict
	}
	if !replayed && t.Record != nil {
		g.Record.Stored()
	}
	s.Worker.Posted(ctx)
	return told, replayed && g.MessageID != "", nil
}

// telling is the signal as it is stored, if it is one. Each has a message id: an answer of the database may be lost.
func (g *Signalling) telling() (Telling, error) {
	t := Telling{Tenant: g.Tenant, RunID: g.RunID}
	t.Name, t.MessageID, t.Body, t.By = g.Name, g.MessageID, g.Body, g.By
	if err := ident.CheckText("the name of a signal", g.Name, 64); err != nil {
		return t, err
	}
	if t.MessageID == "" {
		t.MessageID = ident.New()
	}
	if err := ident.CheckText("a message id", t.MessageID, 255); err != nil {
		return t, err
	}
	switch {
	case len(g.Body) > step.MaxSignalBytes:
		return t, ErrSignal.With("the body of a signal has at most 1 MiB")
	case len(g.Body) > 0 && !json.Valid(g.Body):
		return t, ErrSignal.With("the body of a signal is JSON")
	case len(g.Body) == 0:
		t.Body = nil
	}
	return t, nil
}

// Ready tells workers everywhere that there may be runs to claim.
func (s *Service) Ready() { s.Bus.PublishReady() }

// named is what is on record of a change of a run; nil is nothing.
func named(r *audit.Record, runID string) *audit.Event {
	e := r.Event()
	if e == nil {
		return nil
	}
	of := *e
	if name := "run_id=" + runID; !slices.Contains(strings.Fields(of.Resource), name) {
		of.Resource = name + " " + of.Resource
	}
	return &of
}

// begin admits an attempt, in a slot of this process if there is one, and does here what follows on that.
func (s *Service) begin(record *audit.Record, admit func(owner string) (Started, error)) (Started, error) {
	owner, reserved := s.Worker.Reserve()
	var got Started
	err := contain.Do(func() (err error) { got, err = admit(owner); return err })
	if reserved && (err != nil || got.Lease == nil) {
		s.Worker.Unreserve()
	}
	if err != nil {
		return Started{}, err
	}
	if record.Event() != nil && !got.Replayed {
		record.Stored()
	}
	switch {
	case got.Lease != nil:
		s.Worker.Start(*got.Lease)
	case !got.Replayed:
		s.Ready()
	}
	return got, nil
}
