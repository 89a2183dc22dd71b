// Package runner carries out runs of workflows that this process owns.
//
//	                     package drive: what is next?
//	                        ▲  Ended, Due  │ Record, Do, Cancel, End
//	                        │              ▼
//	rows ──begin──▶ attempt ── advance: one commit of records, outcomes and events, then what follows on them
//	                  │
//	                  ├─ root: times, signals, other runs, submissions; rests the lane; settles it
//	                  └─ a strand for each step in flight: calls of tools, agents (loop.Guests), approvals, requests
//
// A run is a lane like any other (see package lane). What package drive says is done under one mutex: the state of the
// machine changes with the commit that has the records of it, and nothing is begun before.
//
// Invariants: a step is begun after the commit that says so; what a step came to is in one commit with the outcome of
// its call, so that neither is there without the other; an owner that finds a step begun attaches to its call, and says
// of what cannot be attached to, and must not be repeated, that nobody knows; a lane rests only if all steps of it
// wait; steps of the clean-up (undo, finally) go on after the run has to end, for lane.RunGrace.
package runner

import (
	"context"
	"log/slog"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/run/fetch"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/turn"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Store is what is read of runs. They are written through the lane's owner.
type Store interface {
	turn.Store
	GetRun(ctx context.Context, tenant, id string) (run.Run, error)
	OpenSteps(ctx context.Context, runID string, after, limit int) ([]step.Record, error)
	Untaken(ctx context.Context, runID string) ([]step.Signal, error)
	Unended(ctx context.Context, loopID string) (call.Unended, error)
}

// Workflows returns pinned definitions.
type Workflows interface {
	Workflow(ctx context.Context, digest string) (*workflow.Definition, error)
}

// Agents finds and pins the agents that steps name.
type Agents interface {
	submission.Agents
	loop.Definitions
}

// Runs starts and ends other runs.
type Runs interface {
	Facts(def *workflow.Definition, r run.Run) (drive.Facts, error)
	Start(ctx context.Context, in run.Input) (run.Started, error)
	Get(ctx context.Context, tenant, id string) (run.Run, error)
	Cancel(ctx context.Context, tenant, id string) (run.Run, error)
}

// Submissions gives agents' sessions messages.
type Submissions interface {
	Submit(ctx context.Context, in submission.Input) (submission.Admitted, error)
	Get(ctx context.Context, tenant, id string) (submission.Submission, error)
	Fill(ctx context.Context, sub submission.Submission) (submission.Submission, error)
	Abort(ctx context.Context, tenant, id string) (submission.Submission, error)
}

// Deps are what a Runner works with.
type Deps struct {
	Store     Store
	Calls     turn.Deps
	Workflows Workflows
	Agents    Agents
	Loops     *loop.Runner // those of agents that steps name
	HTTP      *fetch.Client
	Lookup    agent.Lookup // of the variables that secrets name
}

// Runner makes the attempts of lanes of kind run.
type Runner struct {
	Deps
	runs        Runs
	submissions Submissions
}

// New makes a Runner. Connect must follow before it is used.
func New(d Deps) *Runner { return &Runner{Deps: d} }

// Connect breaks the circle between what runs, and those who start it.
func (r *Runner) Connect(runs Runs, submissions Submissions) {
	r.runs, r.submissions = runs, submissions
}

// Begin implements lane.Runner.
func (r *Runner) Begin(o *lane.Owner, _ bool) lane.Run {
	return &attempt{
		Runner: r, Lane: turn.NewLane(r.Calls, o), works: map[string]*work{}, waits: map[string]*wait{},
		times: map[string]time.Time{},
	}
}

func (r *Runner) log() *slog.Logger {
	if r.Calls.Log != nil {
		return r.Calls.Log
	}
	return slog.Default()
}
