package workflow

import (
	"encoding/json"
	"slices"

	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/tool/command"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// Surrounding is what a definition may name beside itself. The zero value knows everything by name and nothing of it.
type Surrounding struct {
	// Agent finds the tenants of an agent, none of which is all; nil does not check.
	Agent  func(name string) (tenants []string, ok bool)
	Agents []string // for errors
	// Tool finds a tool; nil does not check.
	Tool  func(name string) (Tool, bool)
	Tools []string // for errors
	// Skills finds the skills that an agent names, and whether it has a workspace, which may have others; ok is false
	// when there is no such agent. Nil does not check.
	Skills func(agent string) (names []string, workspace, ok bool)
	// Variable says whether a variable of control is set; nil does not check.
	Variable func(name string) bool
	// Secret says whether a secret is set; nil does not check.
	Secret func(name string) bool
	// Child finds a workflow; nil does not check, as a nil Child does not: what the workflow results in is of any type
	// then. The error says why the workflow cannot be run.
	Child func(name string) (*Child, error)
}

// Tool is what a workflow knows of a tool that it calls.
type Tool struct {
	Arguments json.RawMessage     // JSON Schema; nil takes anything
	Command   *command.Definition // of the project: whoever calls it keeps it
}

// Parse reads one definition. file is for errors only. All problems are reported together, one line each; each is an
// ErrInvalid that names file, line and column.
func Parse(name, file string, src []byte, around Surrounding) (*Definition, error) {
	r := &reader{
		Document: document.New(file), name: file, world: expr.NewWorld(), surrounding: around, ids: map[string]string{},
		def: &Definition{
			Name: name, source: string(src), Children: map[string]Child{}, Commands: map[string]command.Definition{},
		},
	}
	r.file(src)
	if err := r.Err(ErrInvalid); err != nil {
		return &Definition{Name: name, Tenants: r.def.Tenants}, err
	}
	return r.def, nil
}

// nameRule says what can be a workflow's name.
const nameRule = "a workflow's name: it must begin with a letter and have at most 64 letters, digits, _ and -"

func (r *reader) file(src []byte) {
	d := r.def
	d.Tenants = unknownTenants
	if !ValidName(d.Name) {
		r.Report(document.Whole, "", "%q cannot be %s", short(d.Name), nameRule)
		return
	}
	if !r.Check(src) {
		return
	}
	r.lines = document.Lines(d.source)
	root, ok := r.Tree("a workflow", d.source)
	switch {
	case !ok:
	case root == nil:
		r.Report(document.Top, "", "is empty: a workflow has at least steps")
	case root.Kind != yaml.MappingNode:
		r.at(root, "must be a mapping of keys to values, got %s", document.Kind(root))
	default:
		d.Tenants = nil
		r.definition(root)
		if r.Err(ErrInvalid) == nil {
			d.content = r.canonical(root)
		}
	}
}

// unknownTenants are the tenants of a definition that cannot be read so far: its problems are told to the tenant that
// every installation has.
var unknownTenants = []string{"default"}

// definition reads the root. The input and the variables are what expressions depend on, so they are read first.
func (r *reader) definition(root *yaml.Node) {
	d := r.def
	r.collect(root)
	for _, key := range []string{"input", "env"} {
		if _, v := document.Find(root, key); v != nil {
			for _, o := range d.options() {
				if o.Name == key {
					o.Form.read(r, v, nil)
				}
			}
		}
	}
	d.Scope = r.world.NewScope(r.variables(), r.reach)
	rest := slices.DeleteFunc(d.options(), func(o Option) bool { return o.Name == "input" || o.Name == "env" })
	d.Tenants = nil
	r.options(root, d.Scope, "a workflow", append(rest, known("input"), known("env")))
	if k, _ := document.Find(root, "tenants"); k != nil && len(d.Tenants) == 0 {
		d.Tenants = unknownTenants // there is a problem
	}
	slices.Sort(d.Tenants)
	slices.SortFunc(d.Expose, func(a, b agent.Surface) int {
		return slices.Index(surfaces, a) - slices.Index(surfaces, b)
	})
	r.visible(root)
	r.set(root)
	main := d.Scope.List()
	if _, v := document.Find(root, "steps"); v != nil {
		d.Steps = r.list(v, main, nil)
	}
	after := main.Unsure(own(d.Steps), "the run may have failed before this step")
	if _, v := document.Find(root, "catch"); v != nil {
		d.Catch = r.list(v, after.With(r.errorVariable()).List(), []string{"catch"})
	}
	if _, v := document.Find(root, "finally"); v != nil {
		d.Finally = r.list(v, after.List(), []string{"finally"})
	}
	if _, v := document.Find(root, "output"); v != nil {
		d.Output = r.value(v, main)
	}
}

// set checks that the variables which expressions may read are there.
func (r *reader) set(root *yaml.Node) {
	_, v := document.Find(root, "env")
	if v == nil || r.surrounding.Variable == nil {
		return
	}
	for _, item := range v.Content {
		if name := item.Value; slices.Contains(r.def.Env, name) && !r.surrounding.Variable(name) {
			r.at(item, "variable %s is not set in the environment of control", name)
		}
	}
}

// known is a key that is read elsewhere.
func known(name string) Option { return Option{Name: name, Form: Form{later: true}} }

// own are the ids of a list's steps.
func own(list []*Step) (ids []string) {
	for _, s := range list {
		if s.ID != "" {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// variables are those of all expressions of the file.
func (r *reader) variables() map[string]*types.Type {
	input := types.NewMapType(types.StringType, types.DynType)
	if r.def.Input != nil {
		input, _ = r.world.FromSchema("input", r.def.Input.plain)
	}
	env := map[string]*expr.Field{}
	for _, name := range r.def.Env {
		env[name] = &expr.Field{Type: types.StringType}
	}
	text := &expr.Field{Type: types.StringType}
	return map[string]*types.Type{
		"input": input,
		"env":   r.world.Add("env", env),
		"run": r.world.Add("run", map[string]*expr.Field{
			"id": text, "workflow": text, "key": text,
			"attempt": {Type: types.IntType},
			"started": {Type: types.TimestampType},
			"cause":   {Type: types.StringType, Words: []string{"api", "cli", "schedule", "workflow", "dispatch"}},
			"scheduled_for": {
				Type: types.TimestampType, Absent: "only runs of a schedule have it",
			},
		}),
	}
}

// errorVariable is what catch has beside other steps.
func (r *reader) errorVariable() map[string]*types.Type {
	return map[string]*types.Type{"error": r.errorType()}
}

func (r *reader) errorType() *types.Type {
	text := &expr.Field{Type: types.StringType}
	return r.world.Add("error", map[string]*expr.Field{"step": text, "reason": text, "message": text})
}

func secretVariable() map[string]*types.Type {
	return map[string]*types.Type{expr.Secrets: types.NewMapType(types.StringType, types.StringType)}
}

// options reads a mapping of which all keys are known. what names it in errors.
func (r *reader) options(n *yaml.Node, sc *expr.Scope, what string, all []Option) {
	if n.Kind != yaml.MappingNode {
		r.at(n, "must be a mapping of keys to values, got %s", document.Kind(n))
		return
	}
	names := make([]string, len(all))
	for i, o := range all {
		names[i] = o.Name
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		at := slices.Index(names, k.Value)
		switch {
		case at < 0:
			r.at(k, "%s has no key %s%s", what, short(k.Value), unlike(k.Value, names))
		case !all[at].Form.later:
			all[at].Form.read(r, v, sc)
		}
	}
	for _, o := range all {
		if k, _ := document.Find(n, o.Name); k == nil && o.Required {
			r.at(n, "%s needs %s", what, o.Name)
		}
	}
}

// unlike is what an error about an unknown key ends with: the nearest of the known, or all of them.
func unlike(name string, known []string) string {
	if near := document.DidYouMean(name, known); near != "" {
		return near
	}
	return "; it has " + listed(known)
}

// collect notes where every step with an id is, before any is read: an error can tell how to reach it.
func (r *reader) collect(n *yaml.Node) {
	var walk func(n *yaml.Node, in string)
	walk = func(n *yaml.Node, in string) {
		for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
			k, v := n.Content[i].Value, n.Content[i+1]
			if k == "input" || k == "result" {
				continue
			}
			for _, step := range stepNodes(v) {
				inner := in
				if _, id := document.Find(step, "id"); id != nil {
					inner = in + "." + id.Value
					r.ids[id.Value] = in
				}
				walk(step, inner)
			}
			if v.Kind == yaml.MappingNode {
				walk(v, in)
			}
		}
	}
	walk(n, "")
}

// stepNodes are the mappings of a list.
func stepNodes(n *yaml.Node) (out []*yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		return nil
	}
	for _, one := range n.Content {
		if one.Kind == yaml.MappingNode {
			out = append(out, one)
		}
	}
	return out
}

// reach says of a step that is not in scope where it is.
func (r *reader) reach(id string) string {
	in, ok := r.ids[id]
	switch {
	case !ok:
		return ""
	case in == "":
		return "step " + id + " cannot be seen from here: it is in another list of steps"
	}
	return "step " + id + " cannot be seen from here: it is inside of " + in[1:]
}
