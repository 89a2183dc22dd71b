package workflow

import (
	"context"
	"iter"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// Step is one step of a list: an Action, and what every step can have.
type Step struct {
	// ID is the name by which expressions refer to the step; "" is none.
	ID string
	// Key addresses the step within its list: ID, or the kind and the step's number from 1, such as log-3.
	Key string
	// Path addresses the step in the definition: the keys of the steps that it is in, with the names of their lists
	// where they have several, and its own, separated by dots.
	Path string
	// Line is where the step stands in the file.
	Line    int
	Name    string // for people
	Kind    string
	If      *expr.Expr // nil always runs
	Timeout Duration
	Retry   Retry
	// Continue says that the run goes on when the step fails.
	Continue bool
	// Undo runs when a later step fails and this one was completed.
	Undo []*Step
	Do   Action

	// Scope is what the step's own expressions can use. Those in lists of it have scopes of their own.
	Scope *expr.Scope
	// Output is the type of what expressions see of the step.
	Output *types.Type
}

// Retry says how often and when a step that has failed is tried again.
type Retry struct {
	Attempts int           // in all; 1 is never again
	Backoff  time.Duration // before the second attempt; twice as much before each further one
	Max      time.Duration // the longest back-off; 0 is an hour
	On       []string      // reasons; none is all that may pass
}

// Duration is a length of time: one that is written, or an expression's value.
type Duration struct {
	Fixed time.Duration
	Expr  *expr.Expr // nil: Fixed
}

// IsZero reports whether there is none.
func (d Duration) IsZero() bool { return d.Fixed == 0 && d.Expr == nil }

// Eval is the length of time. Errors are those of expr.Expr.Eval.
func (d Duration) Eval(ctx context.Context, in expr.Values) (time.Duration, error) {
	if d.Expr == nil {
		return d.Fixed, nil
	}
	v, err := d.Expr.Eval(ctx, in)
	if err != nil {
		return 0, err
	}
	s, _ := v.(string)
	length, err := time.ParseDuration(s)
	if err != nil || length < 0 {
		return 0, expr.ErrFailed.With("%s: %v is no duration of at least 0", d.Expr.Source, v)
	}
	return length, nil
}

// List is a list of steps within a step.
type List struct {
	Name  string // do, group, a branch's name, catch, finally or undo
	Steps []*Step
}

// Lists are the lists within the step, those of its action first.
func (s *Step) Lists() []List {
	lists := s.Do.lists()
	if len(s.Undo) > 0 {
		lists = append(lists, List{"undo", s.Undo})
	}
	return lists
}

// All are the steps of the workflow, each before those within it.
func (d *Definition) All() iter.Seq[*Step] {
	return func(yield func(*Step) bool) {
		for _, list := range [][]*Step{d.Steps, d.Catch, d.Finally} {
			if !visit(list, yield) {
				return
			}
		}
	}
}

func visit(list []*Step, yield func(*Step) bool) bool {
	for _, s := range list {
		if !yield(s) {
			return false
		}
		for _, inner := range s.Lists() {
			if !visit(inner.Steps, yield) {
				return false
			}
		}
	}
	return true
}

// Find is the step of a path.
func (d *Definition) Find(path string) (*Step, bool) {
	for s := range d.All() {
		if s.Path == path {
			return s, true
		}
	}
	return nil, false
}
