package expr

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/pawl-dev/pawl/services/control/document"
)

// wording tells the errors of CEL's parser and checker as people need them.
type wording struct {
	scope  *Scope
	source string
	ast    *ast.AST // nil when the source cannot be parsed
}

var (
	undeclared = lazily(`^undeclared reference to '([^']*)'`)
	undefined  = lazily(`^undefined field '([^']*)'`)
	overload   = lazily(`^found no matching overload for '([^']*)' applied to '(.*)'`)
	objectName = lazily(`\b` + prefix + `\d+\b`)
)

func lazily(s string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(s) })
}

func (w *wording) problem(e *common.Error) Problem {
	at := w.location(e.Location)
	message := oneLine(objectName().ReplaceAllString(e.Message, "object"))
	if m := undeclared().FindStringSubmatch(message); m != nil {
		return Problem{at, w.undeclared(m[1])}
	}
	if m := undefined().FindStringSubmatch(message); m != nil {
		if node := w.find(e.ExprID); node != nil && node.Kind() == ast.SelectKind {
			at = offset(w.ast, w.source, start(node).ID())
			return Problem{at, w.undefined(node.AsSelect(), m[1])}
		}
		return Problem{at, fmt.Sprintf("there is no field %s", m[1])}
	}
	if m := overload().FindStringSubmatch(message); m != nil {
		return Problem{at, noOverload(m[1], m[2])}
	}
	if rest, ok := strings.CutPrefix(message, "Syntax error: "); ok {
		return Problem{at, "this is no expression: " + rest}
	}
	return Problem{at, message}
}

// location is the byte of a place within the source.
func (w *wording) location(l common.Location) int {
	at := 0
	for range l.Line() - 1 {
		i := strings.IndexByte(w.source[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
	}
	return at + byteOf(w.source[at:], max(0, l.Column()))
}

func (w *wording) find(id int64) (found ast.Expr) {
	if w.ast == nil {
		return nil
	}
	ast.PostOrderVisit(w.ast.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.ID() == id {
			found = e
		}
	}))
	return found
}

func (w *wording) undeclared(name string) string {
	name, _, _ = strings.Cut(name, ".")
	names := w.scope.names()
	if name == Secrets {
		return "secrets can be used in env and headers only"
	}
	if call, ok := strings.CutPrefix(name, "@"); ok {
		return "there is no function " + call
	}
	if _, isFunction := functions()[name]; !isFunction && slices.Contains(named(), name) {
		return fmt.Sprintf("there is no function %s", name)
	}
	if near := document.Nearest(name, names); near == "" {
		if f := document.Nearest(name, named()); f != "" && w.isCall(name) {
			return fmt.Sprintf("there is no function %s: did you mean %s?", name, f)
		}
	}
	if w.isCall(name) {
		return fmt.Sprintf("there is no function %s", name)
	}
	return fmt.Sprintf("there is no %s%s (there are %s)", document.Printable(name), document.DidYouMean(name, names),
		alternatives(names))
}

// isCall reports whether the source calls a name.
func (w *wording) isCall(name string) bool {
	found := false
	if w.ast != nil {
		ast.PostOrderVisit(w.ast.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
			found = found || e.Kind() == ast.CallKind && e.AsCall().FunctionName() == name
		}))
	}
	return found
}

// functions are the functions that there are, by name.
var functions = sync.OnceValue(func() map[string]bool {
	all := map[string]bool{}
	for name := range base().Functions() {
		all[name] = true
	}
	for _, m := range base().Macros() {
		all[m.Function()] = true
	}
	return all
})

// named are the functions that have names of letters.
func named() (names []string) {
	for name := range functions() {
		if name[0] != '@' && name[0] != '_' && name[0] != '!' && name[0] != '-' {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// undefined is about a field that an object does not have.
func (w *wording) undefined(s ast.SelectExpr, field string) string {
	p := path(s.Operand())
	o := w.scope.world.Object(w.typeOf(s.Operand()))
	if o == nil {
		return fmt.Sprintf("there is no field %s", field)
	}
	names := o.names()
	if p == Steps {
		if w.scope.where != nil {
			if where := w.scope.where(field); where != "" {
				return where
			}
		}
		if len(names) == 0 {
			return fmt.Sprintf("there is no step %s: no step before has an id", field)
		}
		return fmt.Sprintf("there is no step %s%s (there are %s)", field, document.DidYouMean(field, names),
			alternatives(names))
	}
	if p == "" {
		p = o.Title
	}
	if len(names) == 0 {
		return fmt.Sprintf("%s has no %s: it has nothing", p, field)
	}
	return fmt.Sprintf("%s has no %s%s (it has %s)", p, field, document.DidYouMean(field, names), alternatives(names))
}

// typeOf is the type of a chain of selections, and of elements of lists in it: the checker tells none of what has a
// fault.
func (w *wording) typeOf(e ast.Expr) *types.Type {
	switch e.Kind() {
	case ast.IdentKind:
		return w.scope.vars[e.AsIdent()]
	case ast.SelectKind:
		if o := w.scope.world.Object(w.typeOf(e.AsSelect().Operand())); o != nil {
			if f := o.Fields[e.AsSelect().FieldName()]; f != nil {
				return f.Type
			}
		}
	case ast.CallKind:
		c := e.AsCall()
		if c.FunctionName() == operators.Index {
			if t := w.typeOf(c.Args()[0]); t != nil && t.Kind() == types.ListKind {
				return t.Parameters()[0]
			}
		}
	}
	return nil
}

// operatorNames are operators as they are written.
var operatorNames = map[string]string{
	"_+_": "+", "_-_": "-", "_*_": "*", "_/_": "/", "_%_": "%", "_==_": "==", "_!=_": "!=", "_<_": "<", "_<=_": "<=",
	"_>_": ">", "_>=_": ">=", "_&&_": "&&", "_||_": "||", "@in": "in", "_[_]": "[]", "!_": "!", "-_": "-",
	"_?_:_": "? :", "_[?_]": "[?]", "_?._": ".?",
}

// apart are the types of a list of them.
func apart(list string) (parts []string) {
	depth, from := 0, 0
	for i, c := range list {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			parts = append(parts, strings.TrimSpace(list[from:i]))
			from = i + 1
		}
	}
	return append(parts, strings.TrimSpace(list[from:]))
}

// noOverload is about an operation that there is not for its arguments.
func noOverload(function, args string) string {
	name, ok := operatorNames[function]
	args = strings.ReplaceAll(args, "dyn", "any")
	member, list, isMember := strings.Cut(args, ".(")
	list = strings.TrimSuffix(strings.TrimPrefix(list, "("), ")")
	parts := apart(strings.TrimSuffix(strings.TrimPrefix(args, "("), ")"))
	hint := ""
	switch {
	case ok && function == "_+_" && len(parts) == 2 && slices.Contains(parts, "string"):
		hint = ": write string(…) of what is no text"
	case ok && function == "_+_" || function == "_-_" || function == "_*_" || function == "_/_":
		if slices.Contains(parts, "double") && slices.Contains(parts, "int") {
			hint = ": write double(…) of the whole number"
		}
	}
	switch {
	case ok && len(parts) == 2:
		return fmt.Sprintf("there is no %s %s %s%s", parts[0], name, parts[1], hint)
	case ok:
		return fmt.Sprintf("there is no %s of %s%s", name, parts[0], hint)
	case isMember:
		return fmt.Sprintf("%s.%s(%s) is not possible", member, function, list)
	}
	return fmt.Sprintf("%s%s is not possible", function, args)
}
