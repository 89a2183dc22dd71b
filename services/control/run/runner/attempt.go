package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/turn"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// stepsAtOnce is how many records are read at once.
const stepsAtOnce = 500

// attempt is a run at work, with a field for each thing that its steps share.
type attempt struct {
	*Runner
	*turn.Lane
	ctx     context.Context // of all work
	root    *root
	row     lane.Loop // the attempt's, as it was taken
	run     run.Run
	def     *workflow.Definition
	secrets map[string]string // by name
	missing []string          // secrets that have no value here
	hidden  []string          // values of secrets, of agents too: all work on the same files
	guests  *loop.Guests
	broken  *ended // why the run can only be ended; nil if it goes on

	mu      sync.Mutex // guards what follows
	machine *drive.Machine
	ahead   error                // for which the machine is ahead of the rows: nothing is committed any more
	works   map[string]*work     // by path: steps that a strand carries out
	waits   map[string]*wait     // by path: steps that the root waits for
	times   map[string]time.Time // by path: when something of a step is due
	usage   model.Usage          // of the agents of steps
	opened  bool                 // the row says that the attempt has begun
	end     *ended               // what the run has come to
	settled bool                 // and that is committed
	stops   int                  // how often the machine was told to end
}

// ended is what a run has come to.
type ended struct {
	outcome lane.Outcome
	reason  string
	message string
	output  []byte
}

// Drive implements lane.Run.
func (a *attempt) Drive(ctx context.Context) error {
	_, err := a.Run(ctx, a.begin)
	return err
}

// begin makes the machine of the run, and the strands of the steps that owners before have begun.
func (a *attempt) begin(ctx context.Context) ([]turn.Job, error) {
	head := a.Head()
	a.ctx, a.row = ctx, *head.Root()
	a.usage, a.opened = a.row.Usage, a.row.Phase != lane.PhaseAccepted
	a.root = newRoot(a)
	a.Add(a.root.Strand)
	jobs := []turn.Job{{Strand: a.root.Strand, Work: a.root.work}}
	if err := a.load(ctx); err != nil {
		var no *brokenError
		if !errors.As(err, &no) {
			return nil, a.root.Blame(err)
		}
		a.broken = &ended{lane.Interrupted, no.reason, no.Error(), nil}
		return jobs, nil
	}
	if a.row.Exhausted() {
		a.broken = &ended{lane.Interrupted, lane.ReasonStalled, a.row.Stalled(), nil}
		return jobs, nil
	}
	more, err := a.resume(ctx)
	if err != nil {
		return nil, a.root.Blame(err)
	}
	return append(jobs, more...), nil
}

// brokenError says why nobody can go on with a run.
type brokenError struct {
	reason string
	err    error
}

// Error implements error.
func (e *brokenError) Error() string { return "the run cannot go on: " + e.err.Error() }

// Unwrap returns the reason.
func (e *brokenError) Unwrap() error { return e.err }

// load reads what the run goes on from.
func (a *attempt) load(ctx context.Context) (err error) {
	tenant := a.Key().Tenant
	if a.run, err = a.Store.GetRun(ctx, tenant, a.row.LaneID); err != nil {
		return fmt.Errorf("reading the run: %w", err)
	}
	a.def, err = a.Workflows.Workflow(ctx, a.run.Digest)
	if e, answered := errs.Public(err); answered && !lane.Outage(err) {
		return &brokenError{e.Reason(), err}
	} else if err != nil {
		return fmt.Errorf("reading the workflow's definition: %w", err)
	}
	facts, err := a.runs.Facts(a.def, a.run)
	if err != nil {
		return &brokenError{lane.ReasonUnreadable, err}
	}
	if err := a.lookup(); err != nil {
		return err
	}
	records, err := a.records(ctx)
	if errors.Is(err, step.ErrUnreadable) {
		return &brokenError{lane.ReasonUnreadable, err}
	} else if err != nil {
		return err
	}
	var stop *step.Failure
	if turn.Closed(a.Over()) {
		why := a.why()
		stop, a.stops = &why, 1
		a.root.Late()
	}
	a.machine = drive.New(ctx, a.def, facts, records, stop)
	now := time.Now()
	for i := range records {
		if r := &records[i]; !r.State.Ended() && r.Left != step.Never {
			a.times[r.Path] = now.Add(r.Left)
		}
	}
	return nil
}

// records are those that are needed to go on.
func (a *attempt) records(ctx context.Context) (all []step.Record, err error) {
	for after := 0; ; after = all[len(all)-1].Ord {
		page, err := a.Store.OpenSteps(ctx, a.run.ID, after, stepsAtOnce)
		if err != nil {
			return nil, fmt.Errorf("reading the records of steps: %w", err)
		}
		if len(page) == 0 {
			return all, nil
		}
		all = append(all, page...)
	}
}

// lookup finds the values of the secrets that steps name, and of those of their tools and agents.
func (a *attempt) lookup() error {
	a.secrets = map[string]string{}
	for _, name := range a.def.Secrets() {
		if value, ok := a.Lookup(name); ok {
			a.secrets[name], a.hidden = value, append(a.hidden, value)
		} else {
			a.missing = append(a.missing, name)
		}
	}
	for _, c := range a.def.Commands {
		if values, err := agent.Env(c.Env).Expand(a.Lookup); err == nil {
			a.hidden = append(a.hidden, values.Secrets()...)
		}
	}
	known := map[string]bool{"": true}
	for s := range a.def.All() {
		name := cmp.Or(agentOf(s.Do), a.def.Agent)
		if known[name] {
			continue
		}
		known[name] = true
		def, err := a.definition(name)
		if _, answered := errs.Public(err); err != nil && (!answered || lane.Outage(err)) {
			return fmt.Errorf("reading agent %s: %w", name, err)
		} else if err == nil { // a step of one that cannot be read says so itself
			a.hidden = append(a.hidden, def.Secrets(a.Lookup)...)
		}
	}
	return nil
}

// agentOf is the agent that a step names, "" for none.
func agentOf(do workflow.Action) string {
	switch do := do.(type) {
	case *workflow.Prompt:
		return do.Agent
	case *workflow.Skill:
		return do.Agent
	case *workflow.Call:
		return do.Agent
	}
	return ""
}

// resume makes the strands of steps that were begun, and the loops of their agents. What else the machine wants waits
// for the root.
func (a *attempt) resume(ctx context.Context) ([]turn.Job, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var rest []drive.Effect
	var works []*work
	for _, e := range a.machine.Next() {
		do, ok := e.(drive.Do)
		if !ok || !do.Again {
			rest = append(rest, e)
			continue
		}
		w, failed, err := a.take(do)
		switch {
		case err != nil:
			return nil, err
		case failed != nil:
			works = append(works, a.givenUp(do, *failed))
		case w != nil:
			works = append(works, w)
		}
	}
	a.root.effects = rest
	var jobs []turn.Job
	for _, w := range works {
		if err := w.Inherit(ctx); err != nil {
			return nil, err
		}
		a.Add(w.Strand)
		jobs = append(jobs, w.job())
	}
	a.guests = a.Loops.Guests(a.Lane, limits(a.def.Limits))
	agents, err := a.guests.Recover(ctx, a.hostOf)
	return append(jobs, agents...), err
}

// why is the failure by which the machine is told that the run has to end.
func (a *attempt) why() step.Failure {
	if a.Owner().Why() == lane.Abort {
		return step.Failure{Reason: drive.ReasonCancelled, Message: "the run was cancelled"}
	}
	return step.Failure{
		Reason: drive.ReasonTimeout, Message: fmt.Sprintf("the run took longer than its timeout of %v", a.row.Timeout),
	}
}

// event fills in what all events of the run have in common. Turn is that of its step already.
func (a *attempt) event(e event.Event) event.Event {
	e.Time, e.SubmissionID = time.Now(), a.row.ID
	return e
}

// begins is the event of the beginning of the attempt.
func (a *attempt) begins() event.Event {
	return a.event(event.RunBegins(a.run.Workflow, a.run.Digest, a.run.Attempt, a.run.Input))
}

// progress moves the attempt's row on, which clears its stalls.
func (a *attempt) progress() *lane.Progress {
	return &lane.Progress{Phase: lane.PhaseModel, Turn: 1, Usage: a.usage}
}
