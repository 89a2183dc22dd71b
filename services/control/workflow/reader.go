package workflow

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// Bounds of a file.
const (
	maxName        = 256
	maxText        = 1024
	maxCommand     = 64 << 10
	maxExpressions = 2000
	maxSteps       = 2000
	maxDepth       = 20 // lists of steps within each other
)

// reader reads the nodes of one file.
type reader struct {
	*document.Document
	name        string   // of the file
	lines       []string // of the file
	world       *expr.World
	surrounding Surrounding
	def         *Definition
	ids         map[string]string // path of each step with an id, by id
	expressions int
	seen, depth int       // steps, and lists of steps around what is read
	agents      []mention // that the file names
}

// at reports a problem of a node.
func (r *reader) at(n *yaml.Node, format string, args ...any) {
	r.Report(document.At(n), "", "%s", fmt.Sprintf(format, args...))
}

// warn notes what is right, and may be of no use all the same.
func (r *reader) warn(n *yaml.Node, format string, args ...any) {
	r.def.warnings = append(r.def.warnings, document.At(n).In(r.name)+": "+fmt.Sprintf(format, args...))
}

// inside reports problems within a scalar. Their offsets count from a byte of its value.
func (r *reader) inside(n *yaml.Node, from int, problems []expr.Problem) {
	if len(problems) == 0 {
		return
	}
	places := document.Places(r.lines, n)
	for _, p := range problems {
		r.Report(places[min(from+p.Offset, len(places)-1)], "", "%s", p.Text)
	}
}

// is reports what is no scalar with one of some tags, and what it must be.
func (r *reader) is(n *yaml.Node, what string, tags ...string) bool {
	if n.Kind == yaml.ScalarNode && slices.Contains(tags, n.ShortTag()) {
		return true
	}
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, expr.Open) {
		r.at(n, "must be %s: there are no expressions here", what)
		return false
	}
	r.at(n, "must be %s, got %s", what, document.Kind(n))
	return false
}

// plain is a text without expressions that is not empty; "" when there is a problem.
func (r *reader) plain(n *yaml.Node, most int) string {
	if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!str" && n.ShortTag() != "!!null" {
		r.at(n, "must be text, got %s: put it in quotes", document.Kind(n))
		return ""
	}
	if !r.is(n, "text", "!!str") {
		return ""
	}
	switch i := strings.Index(n.Value, expr.Open); {
	case i >= 0:
		r.inside(n, i, []expr.Problem{{Text: "there are no expressions here"}})
	case strings.TrimSpace(n.Value) == "":
		r.at(n, "must not be empty")
	case utf8.RuneCountInString(n.Value) > most:
		r.at(n, "must have at most %d characters", most)
	case strings.ContainsFunc(n.Value, control):
		r.at(n, "must not contain control characters")
	default:
		return n.Value
	}
	return ""
}

func control(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }

// template reads a scalar with expressions.
func (r *reader) template(n *yaml.Node, sc *expr.Scope) *expr.Template {
	if n.ShortTag() != "!!str" {
		return expr.Literal(n.Value)
	}
	if !r.more(n, strings.Count(n.Value, expr.Open)) {
		return nil
	}
	t, problems := sc.Template(n.Value)
	r.inside(n, 0, problems)
	if len(problems) > 0 {
		return nil
	}
	return t
}

// more counts expressions.
func (r *reader) more(n *yaml.Node, expressions int) bool {
	before := r.expressions
	r.expressions += expressions
	if before <= maxExpressions && r.expressions > maxExpressions {
		r.at(n, "a file has at most %d expressions: make several workflows of it", maxExpressions)
	}
	return r.expressions <= maxExpressions
}

// text is a template whose value is a text.
func (r *reader) text(n *yaml.Node, sc *expr.Scope) *expr.Template {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		r.at(n, "must be text, got %s", document.Kind(n))
		return nil
	}
	t := r.template(n, sc)
	if t == nil {
		return nil
	}
	if e := t.Expr(); e != nil && !e.May(types.StringType, types.IntType, types.DoubleType, types.BoolType,
		types.TimestampType, types.DurationType, types.UintType) {
		r.inside(n, strings.Index(n.Value, expr.Open), []expr.Problem{{
			Text: "must be text, and this is " + expr.Name(e.Type) + ": write to_json(…)",
		}})
		return nil
	}
	return t
}

// texts is a mapping of texts.
func (r *reader) texts(n *yaml.Node, sc *expr.Scope) map[string]*expr.Template {
	if n.Kind != yaml.MappingNode {
		r.at(n, "must be a mapping of names to texts, got %s", document.Kind(n))
		return nil
	}
	out := map[string]*expr.Template{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if strings.Contains(k.Value, expr.Open) {
			r.at(k, "there are no expressions in keys")
			continue
		}
		out[k.Value] = r.text(n.Content[i+1], sc)
		r.secrets(n.Content[i+1], out[k.Value])
	}
	return out
}

// secrets checks that those of a text are set.
func (r *reader) secrets(n *yaml.Node, t *expr.Template) {
	if t == nil || r.surrounding.Secret == nil {
		return
	}
	for _, name := range t.Secrets() {
		if !r.surrounding.Secret(name) {
			at := max(0, strings.Index(n.Value, expr.Secrets+"."+name))
			r.inside(n, at, []expr.Problem{{Offset: 0, Text: "secret " + short(name) + " is not set"}})
		}
	}
}

// value is any value. It is never nil.
func (r *reader) value(n *yaml.Node, sc *expr.Scope) *Value {
	switch n.Kind {
	case yaml.SequenceNode:
		v := &Value{kind: isList}
		item := (*types.Type)(nil)
		for _, one := range n.Content {
			of := r.value(one, sc)
			v.items = append(v.items, of)
			if item == nil {
				item = of.Type
			} else if !item.IsExactType(of.Type) {
				item = types.DynType
			}
		}
		if item == nil {
			item = types.DynType
		}
		v.Type = types.NewListType(item)
		return v
	case yaml.MappingNode:
		v := &Value{kind: isMap, fields: map[string]*Value{}}
		all := map[string]*expr.Field{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if strings.Contains(k.Value, expr.Open) {
				r.at(k, "there are no expressions in keys")
			}
			of := r.value(n.Content[i+1], sc)
			v.fields[k.Value] = of
			all[k.Value] = &expr.Field{Type: of.Type, Words: of.Words}
		}
		v.Type = r.world.Add("this object", all)
		return v
	}
	return r.scalar(n, sc)
}

func (r *reader) scalar(n *yaml.Node, sc *expr.Scope) *Value {
	if n.ShortTag() == "!!str" {
		if t := r.template(n, sc); t != nil {
			return &Value{kind: isText, text: t, Type: t.Type, Words: t.Words}
		}
		return &Value{Type: types.DynType}
	}
	v := &Value{}
	switch n.ShortTag() {
	case "!!int":
		v.Type = types.IntType
	case "!!float":
		v.Type = types.DoubleType
	case "!!bool":
		v.Type = types.BoolType
	case "!!null":
		v.Type = types.NullType
		return v
	}
	if _, ok := r.json(n); !ok || v.Type == nil { // it has told the problem
		return &Value{Type: types.DynType}
	}
	_ = n.Decode(&v.literal) //nolint:errcheck // JSON has decoded it
	if i, ok := v.literal.(int); ok {
		v.literal = int64(i)
	}
	return v
}

// json is a value as JSON, in which it may have no form.
func (r *reader) json(n *yaml.Node) (json.RawMessage, bool) {
	var strange *yaml.Node
	var find func(n *yaml.Node)
	find = func(n *yaml.Node) {
		var v any
		switch tag := n.ShortTag(); {
		case n.Kind != yaml.ScalarNode:
		case tag == "!!timestamp" || tag == "!!binary":
			strange = n
		case tag == "!!float":
			f := 0.0
			if n.Decode(&f) != nil || math.IsInf(f, 0) || math.IsNaN(f) {
				strange = n
			}
		case n.Decode(&v) != nil:
			strange = n
		}
		for _, c := range n.Content {
			find(c)
		}
	}
	if find(n); strange != nil {
		r.at(strange, "must be a value that JSON has, got %s: put it in quotes", document.Kind(strange))
		return nil, false
	}
	return r.JSON("", n)
}

// expression is a scalar that is one as a whole. ${{ }} may stand around it.
func (r *reader) expression(n *yaml.Node, sc *expr.Scope) *expr.Expr {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		r.at(n, "must be an expression, got %s", document.Kind(n))
		return nil
	}
	source, from := n.Value, 0
	if s := strings.TrimSpace(source); strings.HasPrefix(s, expr.Open) && strings.HasSuffix(s, expr.Close) {
		from = strings.Index(source, expr.Open) + len(expr.Open)
		source = source[from:strings.LastIndex(source, expr.Close)]
	}
	if !r.more(n, 1) {
		return nil
	}
	e, problems := sc.Compile(source)
	if i := strings.Index(source, expr.Open); i >= 0 {
		e, problems = nil, []expr.Problem{{Offset: i, Text: "the whole is an expression: leave ${{ }} out"}}
	}
	r.inside(n, from, problems)
	return e
}

// begin is where the first character of an expression stands.
func begin(n *yaml.Node, e *expr.Expr) int {
	at := max(0, strings.Index(n.Value, e.Source))
	return at + len(e.Source) - len(strings.TrimLeft(e.Source, " \t\n"))
}

// must reports an expression that has none of some types.
func (r *reader) must(n *yaml.Node, e *expr.Expr, what string, be ...*types.Type) bool {
	if e == nil {
		return false
	}
	if e.May(be...) {
		return true
	}
	text := fmt.Sprintf("must be %s, and this is %s", what, expr.Name(e.Type))
	if expr.Optional(e.Type) {
		text += ": end with .orValue(…)"
	}
	r.inside(n, begin(n, e), []expr.Problem{{Text: text}})
	return false
}

func (r *reader) condition(n *yaml.Node, sc *expr.Scope) *expr.Expr {
	e := r.expression(n, sc)
	if !r.must(n, e, "true or false", types.BoolType) {
		return nil
	}
	return e
}

// duration is one that is written, or an expression's value.
func (r *reader) duration(n *yaml.Node, sc *expr.Scope) Duration {
	if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, expr.Open) {
		return Duration{Fixed: r.fixed(n)}
	}
	e := r.expression(n, sc)
	if !r.must(n, e, "a duration", types.DurationType) {
		return Duration{}
	}
	return Duration{Expr: e}
}

func (r *reader) fixed(n *yaml.Node) time.Duration {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		r.at(n, "must be a duration, such as 90s, 2h30m or 7d, got %s", document.Kind(n))
		return 0
	}
	if i := strings.Index(n.Value, expr.Open); i >= 0 {
		r.inside(n, i, []expr.Problem{{Text: "there are no expressions here: write a duration, such as 2h30m"}})
		return 0
	}
	d, err := expr.ParseDuration(n.Value)
	if err != nil {
		r.at(n, "%q %v", short(n.Value), err)
	}
	return d
}

// word is one of some words; "" when there is a problem.
func (r *reader) word(n *yaml.Node, choices []string) string {
	s := r.plain(n, maxName)
	if s != "" && !slices.Contains(choices, s) {
		r.at(n, "%q is none of %s%s", short(s), strings.Join(choices, ", "), document.DidYouMean(s, choices))
		return ""
	}
	return s
}

// count is a whole number; the least when there is a problem.
func (r *reader) count(n *yaml.Node, least, most int64) int64 {
	var v int64
	if !r.is(n, "a whole number", "!!int") {
		return least
	}
	if n.Decode(&v) != nil || v < least || v > most {
		r.at(n, "must be %d to %d", least, most)
		return least
	}
	return v
}

// each walks a list.
func (r *reader) each(n *yaml.Node, do func(item *yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.at(n, "must be a list, got %s", document.Kind(n))
		return
	}
	if len(n.Content) == 0 {
		r.at(n, "must not be empty: leave the key out")
	}
	for _, item := range n.Content {
		do(item)
	}
}

func short(s string) string { return document.Printable(s) }
