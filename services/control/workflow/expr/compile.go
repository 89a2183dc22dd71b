package expr

import (
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// Compile checks an expression in the scope. Problems are in the order of the source; with one there is no Expr.
func (s *Scope) Compile(source string) (*Expr, []Problem) {
	if len(source) > MaxSource {
		return nil, []Problem{{0, "an expression has at most 4 KiB: give parts of it names with set"}}
	}
	if strings.TrimSpace(source) == "" {
		return nil, []Problem{{0, "an expression must not be empty"}}
	}
	a, problems := s.check(source)
	if a == nil {
		return nil, problems
	}
	root := a.NativeRep().Expr()
	e := &Expr{Source: source, Type: a.OutputType(), scope: s}
	l := &linter{scope: s, ast: a.NativeRep(), source: source, secrets: map[string]bool{}}
	l.narrowing.steps = l.isStep
	l.walk(root, s.sure)
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int { return a.Offset - b.Offset })
		return nil, l.problems
	}
	e.holds, e.fails = l.narrowing.when(root, true), l.narrowing.when(root, false)
	e.secrets = slices.Sorted(maps.Keys(l.secrets))
	if f := l.field(root); f != nil {
		e.Words = f.Words
	}
	return e, nil
}

// check parses and types an expression.
func (s *Scope) check(source string) (*cel.Ast, []Problem) {
	env, err := s.env()
	if err != nil {
		return nil, []Problem{{0, oneLine(err.Error())}}
	}
	parsed, issues := env.Parse(source)
	if issues.Err() == nil {
		sort(parsed.NativeRep())
		var checked *cel.Ast
		if checked, issues = env.Check(parsed); issues.Err() == nil {
			return checked, nil
		}
	}
	w := &wording{scope: s, source: source}
	if parsed != nil {
		w.ast = parsed.NativeRep()
	}
	var problems []Problem
	for _, e := range issues.Errors() {
		p := w.problem(e)
		if !slices.Contains(problems, p) {
			problems = append(problems, p)
		}
	}
	return nil, problems
}

// sort puts @sorted around all that is walked and may be a map.
func sort(a *ast.AST) {
	make := ast.NewExprFactory()
	next := ast.MaxID(a)
	var walks []ast.Expr
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.ComprehensionKind && e.AsComprehension().IterRange().Kind() != ast.ListKind {
			walks = append(walks, e)
		}
	}))
	for _, e := range walks {
		c := e.AsComprehension()
		next++
		if at, ok := a.SourceInfo().GetOffsetRange(c.IterRange().ID()); ok {
			a.SourceInfo().SetOffsetRange(next, at)
		}
		over := make.NewCall(next, sorting, c.IterRange())
		again := make.NewComprehension(e.ID(), over, c.IterVar(), c.AccuVar(), c.AccuInit(), c.LoopCondition(),
			c.LoopStep(), c.Result())
		if c.HasIterVar2() {
			again = make.NewComprehensionTwoVar(e.ID(), over, c.IterVar(), c.IterVar2(), c.AccuVar(), c.AccuInit(),
				c.LoopCondition(), c.LoopStep(), c.Result())
		}
		e.SetKindCase(again)
	}
}
