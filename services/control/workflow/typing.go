package workflow

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// typing reads one step, and finds out what expressions see of it.
type typing struct {
	*reader
	step   *Step
	node   *yaml.Node
	scope  *expr.Scope // of the step's own expressions: its condition holds
	path   []string
	fields map[string]*expr.Field
	absent string // why none of its outputs may be there
}

// completing is an Action that has lists of steps, or outputs whose types depend on what it does.
type completing interface{ complete(t *typing) }

// list reads a list of steps. sc is a scope of its own, which has the steps' outputs then. path is that of what the
// list is in.
func (r *reader) list(n *yaml.Node, sc *expr.Scope, path []string) []*Step {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.at(n, "must be a list of steps that is not empty")
		return nil
	}
	r.depth++
	defer func() { r.depth-- }()
	if r.depth > maxDepth {
		r.at(n, "steps are nested more than %d deep: make a workflow of the inner ones", maxDepth)
		return nil
	}
	r.announce(n, sc)
	var out []*Step
	for i, node := range n.Content {
		if r.seen++; r.seen == maxSteps+1 {
			r.at(node, "a file has at most %d steps: make several workflows of it", maxSteps)
		}
		if r.seen > maxSteps {
			return out
		}
		if s := r.one(node, sc, path, i+1); s != nil {
			out = append(out, s)
		}
	}
	return out
}

// announce makes the ids of a list known, so that a reference to a later step is told from one to none.
func (r *reader) announce(n *yaml.Node, sc *expr.Scope) {
	for _, step := range stepNodes(n) {
		_, id := document.Find(step, "id")
		if id == nil || !isID(id.Value) {
			continue
		}
		if !sc.Announce(id.Value, "step "+id.Value+" comes later, in line "+strconv.Itoa(step.Line)+
			": its outputs are not there yet") {
			r.at(id, "there is a step %s already, in this list or around it", id.Value)
		}
	}
}

// one reads a step.
func (r *reader) one(n *yaml.Node, sc *expr.Scope, path []string, number int) *Step {
	if n.Kind != yaml.MappingNode {
		r.at(n, "a step is a mapping with the key of its kind, such as shell, got %s", document.Kind(n))
		return nil
	}
	kind, ok := r.kind(n)
	if !ok {
		return nil
	}
	s := &Step{Kind: kind.name, Line: n.Line, Do: kind.make(), Retry: Retry{Attempts: 1}}
	options := append(s.options(), s.Do.options()...)
	t := &typing{reader: r, step: s, node: n, scope: sc, fields: map[string]*expr.Field{}}
	if _, c := document.Find(n, "if"); c != nil {
		s.If = r.condition(c, sc)
		t.scope = sc.Where(s.If)
		t.absent = "its step may be skipped"
	}
	s.Scope = t.scope
	options = slices.DeleteFunc(options, func(o Option) bool { return o.Name == "if" })
	required := &options[slices.IndexFunc(options, func(o Option) bool { return o.Name == kind.name })]
	required.Required = true
	r.options(n, t.scope, article(kind.name), append(options, known("if")))
	s.Key = s.ID
	if s.Key == "" {
		s.Key = kind.name + "-" + strconv.Itoa(number)
	}
	t.path = append(slices.Clone(path), s.Key)
	s.Path = strings.Join(t.path, ".")
	if s.Continue {
		t.absent = "the run goes on when its step has failed"
	}
	t.outputs()
	if s.ID != "" {
		sc.Put(s.ID, s.Output)
	}
	t.undo()
	if _, fails := s.Do.(*Fail); fails && s.If != nil && !s.Continue {
		sc.Ended(s.If)
	}
	return s
}

// kind finds the one key that names a kind.
func (r *reader) kind(n *yaml.Node) (kind, bool) {
	var found []string
	_, foreach := document.Find(n, "foreach")
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if _, is := find(k.Value); !is || k.Value == "parallel" && foreach != nil {
			continue
		}
		if found = append(found, k.Value); len(found) == 2 {
			r.at(k, "a step does one thing: %s or %s", found[0], found[1])
		}
	}
	if len(found) != 1 {
		if len(found) == 0 {
			r.at(n, "a step needs the key of its kind%s", r.meant(n))
		}
		return kind{}, false
	}
	return find(found[0])
}

// meant is the kind that a step's key may have been meant to be, or all kinds.
func (r *reader) meant(n *yaml.Node) string {
	common := []string{}
	for _, o := range CommonOptions() {
		common = append(common, o.Name)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i].Value; !slices.Contains(common, k) {
			if near := document.DidYouMean(k, kindNames()); near != "" {
				return near
			}
		}
	}
	return ": one of " + strings.Join(kindNames(), ", ")
}

func article(kind string) string {
	if strings.ContainsRune("aeiou", rune(kind[0])) {
		return "an " + kind + " step"
	}
	return "a " + kind + " step"
}

// outputs finds the type of what expressions see of the step.
func (t *typing) outputs() {
	for _, o := range CommonOutputs() {
		of := o.Type
		if o.Name == "error" {
			of = t.errorType()
		}
		t.fields[o.Name] = &expr.Field{Type: of, Absent: o.Absent, Words: o.Words}
	}
	for _, o := range t.step.Do.outputs() {
		if o.Type != nil {
			t.put(o.Name, &expr.Field{Type: o.Type, Absent: o.Absent, Words: o.Words})
		}
	}
	if c, ok := t.step.Do.(completing); ok {
		c.complete(t)
	}
	title := "the step"
	if t.step.ID != "" {
		title = "step " + t.step.ID
	}
	t.step.Output = t.world.Add(title, t.fields)
}

// put adds an output, which may be absent if the step is not completed.
func (t *typing) put(name string, f *expr.Field) {
	if f.Absent == "" && t.absent != "" {
		f.Absent, f.Step = t.absent, true
	}
	t.fields[name] = f
}

// result adds what a schema describes.
func (t *typing) result(s *Schema, absent string) {
	if s != nil {
		f := &expr.Field{Absent: absent}
		f.Type, f.Words = t.world.FromSchema("result", s.plain)
		t.put("result", f)
	}
}

// inner is a list of steps within this one, which option names.
func (t *typing) inner(option string, sc *expr.Scope, as ...string) []*Step {
	_, n := document.Find(t.node, option)
	if n == nil {
		return nil
	}
	return t.list(n, sc, append(slices.Clone(t.path), as...))
}

// each is the type of an object with the outputs of steps by their ids.
func (t *typing) each(title string, list []*Step) *types.Type {
	fields := map[string]*expr.Field{}
	for _, s := range list {
		if s.ID != "" {
			fields[s.ID] = &expr.Field{Type: s.Output}
		}
	}
	return t.world.Add(title, fields)
}

// undo reads the steps that undo this one. The step was completed when they run.
func (t *typing) undo() {
	if _, n := document.Find(t.node, "undo"); n == nil {
		return
	}
	sc := t.scope.List()
	if t.step.ID != "" {
		sc.Put(t.step.ID, t.step.Output)
		sc = sc.Completed(t.step.ID)
	}
	t.step.Undo = t.inner("undo", sc.List(), "undo")
}

// reserved are what steps' ids cannot be: words of expressions, and outputs that steps have.
var reserved = []string{
	"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
	"loop", "package", "namespace", "return", "var", "void", "while", "status", "attempts", "duration", "error",
	"catch", "finally", "undo",
}

// idPattern is that of ids.
const idPattern = `^[a-z][a-z0-9_]*$`

var idForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(idPattern) })

func isID(s string) bool {
	return idForm().MatchString(s) && len(s) <= 64 && !slices.Contains(reserved, s)
}

// id is the name of a step, a branch, a value or an element.
func id(to *string) Form {
	return Form{
		Name: "name", Schema: map[string]any{"type": "string", "pattern": idPattern},
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
			if s := r.plain(n, maxName); s != "" && r.validID(n, s) {
				*to = s
			}
		},
	}
}

func (r *reader) validID(n *yaml.Node, s string) bool {
	switch {
	case isID(s):
		return true
	case slices.Contains(reserved, s):
		r.at(n, "%s cannot be a name: it has a meaning of its own in expressions", s)
	default:
		r.at(n, "%q cannot be a name: it begins with a-z and has at most 64 of a-z, 0-9 and _ (in an expression, - is "+
			"a minus)", short(s))
	}
	return false
}
