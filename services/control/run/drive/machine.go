// Package drive says how a run goes on. It is pure: it knows the definition and the records of steps, and says what is
// to be recorded and done next.
//
//	             ┌── New(definition, facts, records) ◀── records, after a change of owners
//	             ▼
//	Machine ──Next──▶ effects: Record, Do, Cancel, Say, End ──▶ the owner commits the records, then does the rest
//	   ▲                                                            │
//	   └──────────── Ended, Due, Stop ◀─────────────────────────────┘
//
// A list of steps is carried out in order. A step that fails ends its list, unless the run is to go on: what the list
// has completed is undone, the last first, and what the list is part of fails. A group, and the run itself, then have
// their catch steps, and in any case their finally steps.
//
// Invariants: equal definitions, facts and records make equal machines, which want the same, whoever made them; a step
// whose record has ended is never done again; what is to be done has a record before it, and a step of which the record
// says that it has begun is asked for with Again; everything that a step's end depends on is in its record.
package drive

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// Kinds of records that are not kinds of steps: what a foreach does for one element, a round of a repeat, a branch of a
// parallel.
const (
	KindRound  = "round"
	KindBranch = "branch"
)

// Reasons of failures that are decided here.
const (
	ReasonExpression = "expression_failed"
	ReasonTimeout    = "timeout"
	ReasonCancelled  = "cancelled"
	ReasonUnknown    = "outcome_unknown"
	ReasonTooLarge   = "output_too_large"
	ReasonFailed     = "failed"
)

// Facts are what expressions can read of a run, in the forms of JSON.
type Facts struct {
	Input any
	Run   map[string]any
	Env   map[string]any
	ID    string // of the run: what is random about it depends on this
	Last  int    // the highest Ord of its records, those included that are not read to go on
}

// Effect is what the owner has to do: Record, Do, Cancel, Say or End. Records come before what may be done because of
// them, and all that Next returns is committed together before anything else of it is done.
type Effect interface{ effect() }

// Record is to be stored, in the place of the one with its Ord.
type Record struct{ step.Record }

// Do is a step to carry out, in its present try; its end is told with Ended. Again says that an owner before may have
// begun it.
type Do struct {
	Path  string
	Ord   int
	Try   int
	Step  *workflow.Step
	Again bool
}

// Cancel is a step that is being carried out, and is to end. Its end is told with Ended.
type Cancel struct{ Path string }

// Say is a line of the run's log.
type Say struct {
	Path  string
	Ord   int
	Level workflow.Level
	Text  string
	Data  any
}

// End is the end of the run, and the last effect.
type End struct {
	State  step.State // Completed, Failed or Cancelled
	Output any
	Failed *step.Failure
}

func (Record) effect() {}
func (Do) effect()     {}
func (Cancel) effect() {}
func (Say) effect()    {}
func (End) effect()    {}

// Outcome is how a step that was to be carried out has ended.
type Outcome struct {
	State  step.State // not Skipped
	Output map[string]any
	Failed *step.Failure // unless it was completed
	Took   time.Duration // of this try
}

// Machine is a run at work. It is for one goroutine.
type Machine struct {
	ctx     context.Context // of evaluations: ends when the owner gives up
	def     *workflow.Definition
	facts   Facts
	records map[string]*step.Record
	last    int              // Ord
	active  map[string]*node // by path: carried out, or waiting for a time
	rounds  map[string]*part // by path: rounds that have a time before which the next one does not begin
	effects []Effect
	main    *block
	stopped *step.Failure // why the run has to end
	ended   bool
}

// New makes the machine of a run, as far as its records tell; none is a run that has not begun. stop is why the run has
// to end, see Stop; nil if it goes on. ctx is that of evaluations.
func New(
	ctx context.Context, def *workflow.Definition, f Facts, records []step.Record, stop *step.Failure,
) *Machine {
	m := &Machine{
		ctx: ctx, def: def, facts: f, records: map[string]*step.Record{}, active: map[string]*node{},
		rounds: map[string]*part{}, stopped: stop, last: f.Last,
	}
	for i := range records {
		r := &records[i]
		m.records[r.Path] = r
		m.last = max(m.last, r.Ord)
	}
	top := &list{m: m, vars: expr.Values{"input": f.Input, "run": f.Run, "env": f.Env}, outs: map[string]any{}}
	m.main = &block{
		m: m, outer: top, cancelled: stop != nil, main: def.Steps, catch: def.Catch, finally: def.Finally,
		done: func(b *block) { m.end(b) },
	}
	m.main.begin()
	if stop != nil {
		m.main.cancel(false)
	}
	return m
}

// Next are the effects since the last call.
func (m *Machine) Next() []Effect {
	out := m.effects
	m.effects = nil
	return out
}

// Ended tells the end of a step that was to be carried out. What is told of another one is ignored.
func (m *Machine) Ended(path string, o Outcome) {
	if n := m.active[path]; n != nil && n.working {
		n.outcome(o)
	}
}

// Due tells that the time of a step's record has come, and what time it is. It is that of the last record: who waits
// for it waits for another one once Next has returned a record of the step.
func (m *Machine) Due(path string, now time.Time) {
	if n := m.active[path]; n != nil {
		n.due(now)
	} else if p := m.rounds[path]; p != nil {
		p.due()
	}
}

// Refer is the record of a step that is to be carried out, with what carries it out. It is for the caller to store; its
// Wait is what it was when the step began.
func (m *Machine) Refer(path, ref string) step.Record {
	n := m.active[path]
	n.rec.Ref = ref
	r := n.rec
	m.records[path] = &r
	return r
}

// Ref is what carries a step out, as its record says; "" is not known.
func (m *Machine) Ref(path string) string { return m.active[path].rec.Ref }

// Request is a step that is to be carried out, with its expressions evaluated. secrets are what steps may name.
func (m *Machine) Request(path string, secrets map[string]string) (any, error) {
	n := m.active[path]
	return request(m.ctx, n.def, n.list.values(), secrets)
}

// Stop makes the run end: what is carried out is cancelled, what was completed is undone, finally steps run. A run that
// has nothing left but those is not changed. A second Stop ends those, too.
func (m *Machine) Stop(why step.Failure) {
	if m.ended {
		return
	}
	again := m.stopped != nil
	if !again {
		m.stopped = &why
	}
	m.main.cancel(again)
}

// end is the end of the run's steps.
func (m *Machine) end(b *block) {
	m.ended = true
	e := End{State: step.Completed, Failed: b.failed}
	switch {
	case b.failed != nil:
		e.State = step.Failed
	case b.cut:
		e.State, e.Failed = step.Cancelled, m.stopped
	case m.def.Output != nil:
		var err error
		if e.Output, err = m.def.Output.Eval(m.ctx, b.list.values()); err != nil {
			e.State, e.Failed = step.Failed, evaluation(err)
		}
	}
	m.effects = append(m.effects, e)
}

// withdraw takes back that a step is to be carried out, if nobody was told yet.
func (m *Machine) withdraw(path string) bool {
	i := slices.IndexFunc(m.effects, func(e Effect) bool {
		do, ok := e.(Do)
		return ok && do.Path == path && !do.Again
	})
	if i < 0 {
		return false
	}
	m.effects = slices.Delete(m.effects, i, i+1)
	return true
}

// record stores a record, and remembers it.
func (m *Machine) record(r step.Record) {
	m.records[r.Path] = &r
	m.effects = append(m.effects, Record{r})
}

// make is a new record.
func (m *Machine) make(path, kind string, parent int) step.Record {
	m.last++
	return step.Record{
		Ord: m.last, Parent: parent, Path: path, Kind: kind, State: step.Started, Try: 1, Wait: step.Never,
	}
}

// evaluation is the failure of an expression.
func evaluation(err error) *step.Failure {
	return &step.Failure{Reason: ReasonExpression, Message: err.Error()}
}

// Encode is an output as a record has it, or why it cannot have it.
func Encode(v any) (json.RawMessage, *step.Failure) {
	b, err := json.Marshal(v)
	switch {
	case err != nil:
		return nil, &step.Failure{Reason: ReasonExpression, Message: "the output is no JSON: " + err.Error()}
	case len(b) > step.MaxOutput:
		return nil, &step.Failure{Reason: ReasonTooLarge, Message: "the output is larger than 16 MiB"}
	}
	return b, nil
}
