package workflow

import (
	"strings"

	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// Bounds of structures.
const (
	maxParallel = 64
	maxRounds   = 10_000
	maxBranches = 64
)

func (f *Foreach) options() []Option {
	return []Option{
		{Name: "foreach", Doc: "The list: an expression, or a list that is written.", Form: Form{
			Name: "expression or list", Schema: map[string]any{"type": []any{"string", "array"}}, later: true,
		}},
		{Name: "as", Doc: "Name of the element in expressions; item if there is none.", Form: id(&f.As)},
		{
			Name: "parallel", Doc: "How many rounds run at a time; 1 if there is none.",
			Form: count(&f.Parallel, 1, maxParallel),
		},
		required(Option{Name: "do", Doc: "What is done for each element. index counts from 0.", Form: steps()}),
		{Name: "output", Doc: "What a round results in; the outputs of its steps if there is none.", Form: Form{
			Name: "value", Schema: map[string]any{}, later: true,
		}},
	}
}

func (*Foreach) outputs() []Output {
	return []Output{
		{Name: "items", Of: "list of `output`, or of {inner ids}", Doc: "of the rounds that were completed, in order"},
		{Name: "count", Type: types.IntType, Doc: "rounds in all"},
		{Name: "failed", Type: types.IntType, Doc: "rounds that failed"},
	}
}

func (f *Foreach) complete(t *typing) {
	if f.Parallel == 0 {
		f.Parallel = 1
	}
	element := f.over(t)
	if f.As == "" {
		f.As = "item"
	}
	if _, n := document.Find(t.node, "as"); t.scope.Has(f.As) || f.As == "index" || f.As == expr.Steps ||
		f.As == expr.Secrets {
		if n == nil {
			n = t.node
		}
		t.at(n, "there is a variable %s already: name the element by as", f.As)
	}
	sc := t.scope.With(map[string]*types.Type{f.As: element, "index": types.IntType}).List()
	f.Inner = sc
	f.Do = t.inner("do", sc)
	each := t.each("the round", f.Do)
	if _, n := document.Find(t.node, "output"); n != nil {
		f.Output = t.value(n, sc)
		each = f.Output.Type
	}
	t.put("items", &expr.Field{Type: types.NewListType(each)})
}

// over reads the list, and returns the type of its elements.
func (f *Foreach) over(t *typing) *types.Type {
	_, n := document.Find(t.node, "foreach")
	if n.Kind == yaml.SequenceNode {
		f.List = t.value(n, t.scope)
		return f.List.Type.Parameters()[0]
	}
	e := t.expression(n, t.scope)
	if !t.must(n, e, "a list", types.ListType) {
		return types.DynType
	}
	f.List = &Value{kind: isText, text: expr.Single(e), Type: e.Type}
	if e.Type.Kind() == types.ListKind {
		return e.Type.Parameters()[0]
	}
	return types.DynType
}

func (p *Parallel) options() []Option {
	return []Option{{Name: "parallel", Doc: "Lists of steps, by names.", Form: Form{
		Name: "map of lists of steps", later: true,
		Schema: map[string]any{
			"type": "object", "minProperties": 1, "additionalProperties": map[string]any{"$ref": StepsRef},
			"propertyNames": map[string]any{"pattern": idPattern},
		},
	}}}
}

func (*Parallel) outputs() []Output {
	return []Output{{Name: "BRANCH", Of: "{inner ids}", Doc: "for each branch, by its name"}}
}

func (p *Parallel) complete(t *typing) {
	_, n := document.Find(t.node, "parallel")
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		t.at(n, "must be a mapping of names to lists of steps, got %s", document.Kind(n))
		return
	}
	if len(n.Content)/2 > maxBranches {
		t.at(n, "has at most %d branches", maxBranches)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if !t.validID(k, k.Value) {
			continue
		}
		b := Branch{Name: k.Value}
		b.Steps = t.list(n.Content[i+1], t.scope.List(), append(t.path[:len(t.path):len(t.path)], k.Value))
		p.Branches = append(p.Branches, b)
		t.put(k.Value, &expr.Field{Type: t.each("branch "+k.Value, b.Steps)})
	}
}

func (r *Repeat) options() []Option {
	return []Option{
		{Name: "repeat", Doc: "How many rounds there are at most.", Form: count(&r.Max, 1, maxRounds)},
		{Name: "every", Doc: "How long after the beginning of a round the next one begins.", Form: length(&r.Every)},
		required(Option{Name: "until", Doc: "No round follows when this holds after one.", Form: Form{
			Name: "expression", Schema: map[string]any{"type": []any{"string", "boolean"}}, later: true,
		}}),
		required(Option{Name: "do", Doc: "What is done in each round.", Form: steps()}),
	}
}

func (*Repeat) outputs() []Output {
	return []Output{
		{Name: "rounds", Type: types.IntType},
		{Name: "done", Type: types.BoolType, Doc: "whether `until` has held"},
		{Name: "last", Of: "{inner ids}", Doc: "of the last round"},
	}
}

func (r *Repeat) complete(t *typing) {
	sc := t.scope.With(map[string]*types.Type{"index": types.IntType}).List()
	r.Do = t.inner("do", sc)
	if _, n := document.Find(t.node, "until"); n != nil {
		r.Until = t.condition(n, sc)
	}
	t.put("last", &expr.Field{Type: t.each("the last round", r.Do)})
}

func (g *Group) options() []Option {
	return []Option{
		{Name: "group", Doc: "What is done, in order.", Form: steps()},
		{
			Name: "catch", Doc: "Steps that run when one of the group has failed. The group has failed all the same.",
			Form: steps(),
		},
		{Name: "finally", Doc: "Steps that run in any case.", Form: steps()},
	}
}

func (*Group) outputs() []Output {
	return []Output{{Name: "ID", Of: "the outputs of the step", Doc: "for each inner step with an id"}}
}

func (g *Group) complete(t *typing) {
	main := t.scope.List()
	g.Steps = t.inner("group", main)
	after := main.Unsure(own(g.Steps), "the group may have failed before this step")
	g.Catch = t.inner("catch", after.With(t.errorVariable()).List(), "catch")
	g.Finally = t.inner("finally", after.List(), "finally")
	for _, s := range g.Steps {
		if s.ID != "" {
			t.put(s.ID, &expr.Field{Type: s.Output})
		}
	}
}

func (s *Set) options() []Option {
	return []Option{{Name: "set", Doc: "The values, by names.", Form: Form{
		Name: "map of values", Schema: map[string]any{"type": "object", "minProperties": 1}, later: true,
	}}}
}

func (*Set) outputs() []Output {
	return []Output{{Name: "NAME", Of: "of the value", Doc: "for each name"}}
}

func (s *Set) complete(t *typing) {
	_, n := document.Find(t.node, "set")
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		t.at(n, "must be a mapping of names to values, got %s", document.Kind(n))
		return
	}
	s.Values = map[string]*Value{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; t.validID(k, k.Value) {
			v := t.value(n.Content[i+1], t.scope)
			s.Values[k.Value] = v
			t.put(k.Value, &expr.Field{Type: v.Type, Words: v.Words})
		}
	}
}

func (s *Shell) complete(t *typing) { t.result(s.Result, "") }
func (r *Read) complete(t *typing)  { t.result(r.Result, "") }
func (h *HTTP) complete(t *typing)  { t.result(h.Result, "") }

func (p *Prompt) complete(t *typing) {
	t.worked(p.Agent, p.Result)
	if _, n := document.Find(t.node, "images"); n != nil && p.Images != nil && p.Images.Type.Kind() != types.ListKind &&
		p.Images.Type.Kind() != types.DynKind {
		t.at(n, "must be a list of paths, and this is %s", expr.Name(p.Images.Type))
	}
}

// worked adds what expressions see of an agent that has worked.
func (t *typing) worked(agent string, result *Schema) {
	if agent == "" && t.def.Agent == "" {
		t.at(t.node, "%s needs an agent: give it one, or the workflow", article(t.step.Kind))
	}
	whole := &expr.Field{Type: types.IntType}
	t.put("usage", &expr.Field{Type: t.world.Add("usage", map[string]*expr.Field{
		"input": whole, "output": whole, "cost_usd": {Type: types.DoubleType},
	})})
	t.result(result, "")
}

func (d *Dispatch) complete(t *typing) {
	if d.Wait {
		t.put("text", &expr.Field{Type: types.StringType})
		t.result(d.Result, "")
		return
	}
	if k, _ := document.Find(t.node, "result"); k != nil {
		t.at(k, "a dispatch step has a result only with wait: true")
	}
}

func (s *Signal) complete(t *typing) {
	absent := ""
	if !t.step.Timeout.IsZero() {
		absent = "the signal may not have come in time"
	}
	t.result(s.Result, absent)
}

func (a *Approve) complete(t *typing) {
	if k, _ := document.Find(t.node, "on_timeout"); k != nil && t.step.Timeout.IsZero() {
		t.at(k, "on_timeout needs a timeout")
	}
}

func (w *Workflow) complete(t *typing) {
	_, n := document.Find(t.node, "workflow")
	out := types.DynType
	if t.surrounding.Child != nil && w.Name != "" {
		child, err := t.surrounding.Child(w.Name)
		switch {
		case err != nil:
			t.at(n, "%s", strings.Join(strings.Fields(err.Error()), " "))
		case child != nil:
			t.def.Children[w.Name] = *child
			out, _ = t.world.FromShape("the output of "+w.Name, child.Output)
			t.given("workflow", w.With, "workflow "+w.Name, child.Input)
		}
	}
	if w.Wait {
		t.put("output", &expr.Field{Type: out})
	}
}
