package expr

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/pawl-dev/pawl/services/control/document"
)

// linter finds in an expression that was checked what the checker has no rules for.
type linter struct {
	scope     *Scope
	ast       *ast.AST
	source    string
	narrowing narrowing
	secrets   map[string]bool
	problems  []Problem
	said      map[string]bool // paths that a problem is known of
}

func (l *linter) report(e ast.Expr, format string, args ...any) {
	l.problems = append(l.problems, Problem{offset(l.ast, l.source, e.ID()), fmt.Sprintf(format, args...)})
}

// offset is the byte of the source at which an expression stands, that of its first operand.
func offset(a *ast.AST, source string, id int64) int {
	at, ok := a.SourceInfo().GetOffsetRange(id)
	if !ok {
		return 0
	}
	return byteOf(source, int(at.Start))
}

// byteOf is the byte at which a character stands: CEL counts these.
func byteOf(source string, character int) int { return skip(source, character) }

// isStep reports whether a path is that of a step's outputs: steps.ID, or an inner one.
func (l *linter) isStep(path string) bool {
	root, _, _ := strings.Cut(path, ".")
	return root == Steps && strings.Contains(path, ".")
}

// field is what a selection stands for, when the type of its operand is known.
func (l *linter) field(e ast.Expr) *Field {
	if e.Kind() != ast.SelectKind {
		return nil
	}
	s := e.AsSelect()
	if o := l.scope.world.Object(l.ast.GetType(s.Operand().ID())); o != nil {
		return o.Fields[s.FieldName()]
	}
	return nil
}

// start is the expression with which a chain of selections begins in the source.
func start(e ast.Expr) ast.Expr {
	for e.Kind() == ast.SelectKind {
		e = e.AsSelect().Operand()
	}
	return e
}

// walk looks at an expression where facts are known.
func (l *linter) walk(e ast.Expr, sure facts) {
	switch e.Kind() {
	case ast.SelectKind:
		l.selection(e, sure)
	case ast.CallKind:
		l.call(e.AsCall(), sure)
	case ast.ListKind:
		for _, one := range e.AsList().Elements() {
			l.walk(one, sure)
		}
	case ast.MapKind:
		for _, one := range e.AsMap().Entries() {
			l.walk(one.AsMapEntry().Key(), sure)
			l.walk(one.AsMapEntry().Value(), sure)
		}
	case ast.ComprehensionKind:
		l.loop(e.AsComprehension(), sure)
	case ast.IdentKind:
		if e.AsIdent() == Secrets && l.scope.Has(Secrets) {
			l.report(e, "write secrets.NAME: one secret, by its name")
		}
	}
}

func (l *linter) selection(e ast.Expr, sure facts) {
	s := e.AsSelect()
	of, field := path(s.Operand()), s.FieldName()
	switch {
	case of == Secrets && l.scope.Has(Secrets):
		l.secrets[field] = true
		return
	case of == Steps && l.scope.later[field] != "":
		l.once(of+"."+field, e, "%s", l.scope.later[field])
		return
	}
	l.walk(s.Operand(), sure)
	f := l.field(e)
	if f == nil || f.Absent == "" || s.IsTestOnly() {
		return
	}
	whole := of + "." + field
	if of != "" && (sure[whole] || f.Step && sure[of+all]) {
		return
	}
	if of == "" {
		l.report(start(e), "%s may be absent: %s. Write .?%s.orValue(…)", field, f.Absent, field)
		return
	}
	l.once(whole, e, "%s may be absent: %s. Guard it with has(%s), or write %s.?%s.orValue(…)", whole, f.Absent, whole,
		of, field)
}

// once reports a problem of a path once in an expression.
func (l *linter) once(path string, e ast.Expr, format string, args ...any) {
	if l.said[path] {
		return
	}
	if l.said == nil {
		l.said = map[string]bool{}
	}
	l.said[path] = true
	l.report(start(e), format, args...)
}

func (l *linter) call(c ast.CallExpr, sure facts) {
	args := c.Args()
	switch c.FunctionName() {
	case operators.LogicalAnd:
		l.walk(args[0], sure)
		l.walk(args[1], sure.and(l.narrowing.when(args[0], true)))
		return
	case operators.LogicalOr:
		l.walk(args[0], sure)
		l.walk(args[1], sure.and(l.narrowing.when(args[0], false)))
		return
	case operators.Conditional:
		l.walk(args[0], sure)
		l.walk(args[1], sure.and(l.narrowing.when(args[0], true)))
		l.walk(args[2], sure.and(l.narrowing.when(args[0], false)))
		return
	case operators.Equals, operators.NotEquals, operators.In:
		l.words(args[0], args[1])
		l.words(args[1], args[0])
	}
	if c.IsMemberFunction() {
		l.walk(c.Target(), sure)
	}
	for _, a := range args {
		l.walk(a, sure)
	}
}

// words refuses to compare an output with a text that it never is.
func (l *linter) words(e, with ast.Expr) {
	f := l.field(e)
	if f == nil || len(f.Words) == 0 {
		return
	}
	literals := []ast.Expr{with}
	if with.Kind() == ast.ListKind {
		literals = with.AsList().Elements()
	}
	for _, one := range literals {
		if one.Kind() != ast.LiteralKind {
			continue
		}
		if word, ok := one.AsLiteral().Value().(string); ok && !slices.Contains(f.Words, word) {
			l.report(one, "%s is never '%s'%s (it is %s)", path(e), document.Printable(word),
				document.DidYouMean(word, f.Words), alternatives(f.Words))
		}
	}
}

// alternatives are the first of some words.
func alternatives(words []string) string {
	const most = 12
	if len(words) > most {
		words = append(slices.Clone(words[:most]), "…")
	}
	return strings.Join(words, ", ")
}

// loop is a walk over a list or a map. The names that it binds hide others.
func (l *linter) loop(c ast.ComprehensionExpr, sure facts) {
	over := c.IterRange()
	if over.Kind() == ast.CallKind && over.AsCall().FunctionName() == sorting {
		over = over.AsCall().Args()[0]
	}
	if over.Kind() == ast.MapKind {
		l.report(over, "a map that is written here cannot be walked: write a list")
	}
	l.walk(c.IterRange(), sure)
	l.walk(c.AccuInit(), sure)
	bound := []string{c.IterVar(), c.AccuVar()}
	if c.HasIterVar2() {
		bound = append(bound, c.IterVar2())
	}
	if slices.Contains(bound, Steps) || slices.Contains(bound, Secrets) {
		l.report(over, "%s and %s cannot be names of what is walked: give it another one", Steps, Secrets)
		return
	}
	inner := sure.without(bound...)
	l.walk(c.LoopCondition(), inner)
	l.walk(c.LoopStep(), inner)
	l.walk(c.Result(), sure.without(c.AccuVar()))
}
