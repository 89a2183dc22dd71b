package expr

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// Values are the variables of an evaluation by name: input, steps, run and so on, in the forms of JSON: nil, bool,
// int64, float64, string, []any and map[string]any. They are not changed and must not be while it lasts.
type Values map[string]any

// Eval is the value of an expression, in the forms of JSON. A time is a text. The error is ErrFailed, or that of ctx.
func (e *Expr) Eval(ctx context.Context, in Values) (any, error) {
	out, err := e.eval(ctx, in)
	if err != nil {
		return nil, err
	}
	left := MaxValue
	v, err := native(out, &left)
	if err != nil {
		return nil, e.failed(err)
	}
	return v, nil
}

// Holds is the value of a condition.
func (e *Expr) Holds(ctx context.Context, in Values) (bool, error) {
	out, err := e.eval(ctx, in)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, e.failed(fmt.Errorf("it is of type %s, and neither true nor false", out.Type().TypeName()))
	}
	return bool(b), nil
}

func (e *Expr) failed(err error) error {
	return ErrFailed.With("%s: %s", short(e.Source), oneLine(err.Error()))
}

// short is an expression as an error can name it.
func short(source string) string {
	source = oneLine(source)
	if len(source) > 200 {
		return source[:skip(source[:200], 190)] + "…"
	}
	return source
}

func (e *Expr) eval(ctx context.Context, in Values) (ref.Val, error) {
	p, err := programs.get(e)
	if err != nil {
		return nil, e.failed(err)
	}
	limited, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()
	out, _, err := p.ContextEval(limited, variables{e.scope, in})
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, e.failed(fmt.Errorf("it takes longer than %v", MaxTime))
	}
	if c := (interpreter.EvalCancelledError{}); errors.As(err, &c) && c.Cause == interpreter.CostLimitExceeded {
		return nil, e.failed(errors.New("it does too much: give it less, or do parts of it in steps of their own"))
	}
	return nil, e.failed(err)
}

// variables are values with the types of a scope.
type variables struct {
	scope *Scope
	in    Values
}

// ResolveName implements cel.Activation.
func (v variables) ResolveName(name string) (any, bool) {
	t := v.scope.vars[name]
	raw, ok := v.in[name]
	if t == nil || !ok {
		return nil, false
	}
	return v.scope.world.value(t, raw), true
}

// Parent implements cel.Activation.
func (v variables) Parent() cel.Activation { return nil }

// program plans a checked expression.
func (e *Expr) program() (cel.Program, error) {
	a, problems := e.scope.check(e.Source)
	if a == nil {
		return nil, errors.New(problems[0].Text) // it was checked before
	}
	env, err := e.scope.env()
	if err != nil {
		return nil, err
	}
	// CEL's own optimization would put a search that is not bounded in place of matches.
	return env.Program(a, cel.CostTracking(cost{}), cel.CostLimit(MaxCost), cel.InterruptCheckFrequency(interruptEvery),
		cel.CustomDecoratorV2(weigh))
}

// maxPrograms is how many compiled expressions are kept: each has 26 KB.
const maxPrograms = 64

// programs are those that were used last.
var programs = &cache{of: map[*Expr]*list.Element{}}

type cache struct {
	mu   sync.Mutex // guards what follows
	of   map[*Expr]*list.Element
	last list.List // of entry, the one that was used last first
}

type entry struct {
	expr    *Expr
	program cel.Program
}

// get is the program of an expression. Two callers may compile the same one: the later wins.
func (c *cache) get(e *Expr) (cel.Program, error) {
	c.mu.Lock()
	if at := c.of[e]; at != nil {
		c.last.MoveToFront(at)
		p := at.Value.(entry).program
		c.mu.Unlock()
		return p, nil
	}
	c.mu.Unlock()
	p, err := e.program()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.of[e]; at == nil {
		c.of[e] = c.last.PushFront(entry{e, p})
	}
	for c.last.Len() > maxPrograms {
		oldest := c.last.Back()
		delete(c.of, c.last.Remove(oldest).(entry).expr)
	}
	return p, nil
}
