// Package expr compiles and evaluates the expressions of workflows: CEL, typed when a file is loaded, and bounded when
// it is evaluated.
//
//	JSON Schemas, outputs of steps ──World──▶ types ──Scope──▶ Compile ──▶ Expr ──Eval, Values──▶ JSON
//	text with ${{ }} ──Template──▶ text, or the value of its one expression
//
// What may be absent must be guarded: Compile walks the checked expression with the facts that hold at each place of
// it, and refuses a selection of which nothing says that it is there.
//
// Invariants: evaluation depends on nothing but the expression and the values, and maps are walked in the order of
// their keys; no function allocates more than its bound says, because it looks at the sizes of its arguments first; an
// evaluation ends after MaxCost or MaxTime. Compiled programs are kept for the expressions that were used last only.
package expr

import (
	"strings"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Bounds of expressions and of what they make.
const (
	// MaxSource bounds an expression in bytes.
	MaxSource = 4 << 10
	// MaxCost bounds an evaluation in CEL's units of cost: a unit is a step, or ten bytes of text that are looked at.
	MaxCost = 5_000_000
	// MaxTime bounds an evaluation. It is looked at every interruptEvery steps of a walk over a list or a map. It
	// is far more than what MaxCost allows takes on an idle machine: a loaded one must not decide what a run comes to.
	MaxTime        = time.Second
	interruptEvery = 1000
	// MaxValue bounds a value in bytes, MaxList a list or a map in elements.
	MaxValue = 16 << 20
	MaxList  = 100_000
)

// ErrFailed is an expression that cannot be evaluated with the values that it was given. The text is for people.
var ErrFailed = errs.New(errs.FailedPrecondition, "EXPRESSION_FAILED", "the expression cannot be evaluated")

// Problem is what is wrong with an expression, and at which byte of its source.
type Problem struct {
	Offset int
	Text   string
}

// Expr is an expression that was checked. It is immutable and safe for concurrent use.
type Expr struct {
	Source string
	Type   *types.Type
	// Words are all values that it can have; nil when these are not known.
	Words []string

	scope        *Scope
	holds, fails facts // what is known where it is true, and where it is false
	secrets      []string
}

// Secrets are the names of the secrets that it uses, sorted.
func (e *Expr) Secrets() []string { return e.secrets }

// May reports whether the expression can have a value of one of these types. One of which nothing is known can.
func (e *Expr) May(be ...*types.Type) bool {
	for _, t := range be {
		if e.Type.Kind() == types.DynKind || e.Type.Kind() == t.Kind() {
			return true
		}
	}
	return false
}

// Optional reports whether the value may be none.
func Optional(t *types.Type) bool {
	return t.Kind() == types.OpaqueKind && t.TypeName() == "optional_type"
}

// Name is a type for people.
func Name(t *types.Type) string {
	switch t.Kind() {
	case types.StructKind:
		return "an object"
	case types.ListKind:
		return "a list"
	case types.MapKind:
		return "a map"
	case types.BoolKind:
		return "true or false"
	case types.IntKind, types.UintKind:
		return "a whole number"
	case types.DoubleKind:
		return "a number"
	case types.StringKind:
		return "text"
	case types.NullTypeKind:
		return "null"
	case types.TimestampKind:
		return "a timestamp"
	case types.DurationKind:
		return "a duration"
	case types.BytesKind:
		return "bytes"
	case types.DynKind:
		return "of any type"
	}
	if Optional(t) {
		return "optional"
	}
	return t.String()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
