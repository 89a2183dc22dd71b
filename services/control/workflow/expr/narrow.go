package expr

import (
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// path is a chain of selections, such as steps.ok.decision; "" of anything else.
func path(e ast.Expr) string {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent()
	case ast.SelectKind:
		if p := path(e.AsSelect().Operand()); p != "" && !e.AsSelect().IsTestOnly() {
			return p + "." + e.AsSelect().FieldName()
		}
	}
	return ""
}

// narrowing finds out what an expression tells of what is there.
type narrowing struct{ steps func(path string) bool }

// when is what is known where e is true, or where it is false.
func (n narrowing) when(e ast.Expr, truth bool) facts {
	switch e.Kind() {
	case ast.SelectKind:
		if s := e.AsSelect(); s.IsTestOnly() && truth {
			return n.there(path(s.Operand()), s.FieldName())
		}
		if p := path(e); truth && p != "" {
			return n.flag(p)
		}
	case ast.CallKind:
		return n.call(e.AsCall(), truth)
	}
	return nil
}

// there is what the presence of a field tells. An output of a step is there only if the step is completed.
func (n narrowing) there(of, field string) facts {
	if of == "" {
		return nil
	}
	found := facts{of + "." + field: true}
	if n.steps(of) && !Always(field) && field != "error" {
		found[of+all] = true
	}
	return found
}

// flag is what a true output tells: of a signal, received says that its result is there.
func (n narrowing) flag(p string) facts {
	if of, ok := strings.CutSuffix(p, ".received"); ok && n.steps(of) {
		return facts{of + ".result": true, of + all: true}
	}
	return nil
}

func (n narrowing) call(c ast.CallExpr, truth bool) facts {
	args := c.Args()
	switch c.FunctionName() {
	case operators.LogicalNot:
		return n.when(args[0], !truth)
	case operators.LogicalAnd, operators.LogicalOr:
		a, b := n.when(args[0], truth), n.when(args[1], truth)
		if truth == (c.FunctionName() == operators.LogicalAnd) {
			return a.and(b)
		}
		return a.both(b)
	case operators.Conditional:
		a := n.when(args[0], true).and(n.when(args[1], truth))
		return a.both(n.when(args[0], false).and(n.when(args[2], truth)))
	case operators.Equals:
		return n.equal(args, truth)
	case operators.NotEquals:
		return n.equal(args, !truth)
	}
	return nil
}

// both is what is known in either case.
func (f facts) both(other facts) facts {
	out := facts{}
	for path := range f {
		if other[path] {
			out[path] = true
		}
	}
	return out
}

// equal is what a comparison with a literal tells, where it holds or does not.
func (n narrowing) equal(args []ast.Expr, holds bool) facts {
	a, b := args[0], args[1]
	if a.Kind() == ast.LiteralKind {
		a, b = b, a
	}
	p := path(a)
	if p == "" || b.Kind() != ast.LiteralKind {
		return nil
	}
	literal := b.AsLiteral().Value()
	switch of, ok := strings.CutSuffix(p, ".status"); {
	case ok && n.steps(of) && holds && literal == "completed":
		return facts{of + all: true}
	case holds && literal == true, !holds && literal == false:
		return n.flag(p).and(n.compared(p))
	case holds:
		return n.compared(p)
	}
	return nil
}

// compared is what a comparison tells that could be made: what was compared is there, or the whole would have failed.
func (n narrowing) compared(p string) facts {
	at := strings.LastIndexByte(p, '.')
	if at < 0 {
		return nil
	}
	return n.there(p[:at], p[at+1:])
}
