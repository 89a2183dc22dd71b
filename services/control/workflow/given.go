package workflow

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/document"
)

func (c *Call) complete(t *typing) {
	t.result(c.Result, "")
	if c.Tool == "" || t.surrounding.Tool == nil {
		return
	}
	of, ok := t.surrounding.Tool(c.Tool)
	if !ok {
		return // it has been told
	}
	if of.Command != nil {
		t.def.Commands[c.Tool] = *of.Command
	}
	t.given("call", c.With, "tool "+c.Tool, of.Arguments)
}

func (s *Skill) complete(t *typing) {
	t.worked(s.Agent, s.Result)
	agent := cmp.Or(s.Agent, t.def.Agent)
	if s.Name == "" || agent == "" || t.surrounding.Skills == nil {
		return
	}
	names, workspace, ok := t.surrounding.Skills(agent)
	if !ok || slices.Contains(names, s.Name) {
		return // that there is no such agent has been told
	}
	_, n := document.Find(t.node, "skill")
	if workspace {
		t.warn(n, "agent %s names no skill %s: the step fails unless its workspace has one%s", agent, s.Name,
			document.DidYouMean(s.Name, names))
		return
	}
	t.at(n, "agent %s has no skill %s, and no workspace that could have one%s", agent, s.Name, unlikeOf(s.Name, names))
}

// given checks what something takes, which a JSON Schema says, against what the step gives it: the option with, main if
// there is none. Parts that are constant are checked exactly, and expressions by their types. No schema takes anything.
func (t *typing) given(main string, with *Value, what string, schema json.RawMessage) {
	if schema == nil {
		return
	}
	takes, err := newSchema(schema)
	if err != nil {
		return // it was read before
	}
	g := &giving{typing: t, what: what, root: takes.plain, told: map[*yaml.Node]bool{}}
	k, n := document.Find(t.node, "with")
	if n == nil {
		k, n = document.Find(t.node, main)
		with = &Value{kind: isMap, Type: t.world.Add("nothing", nil)}
	}
	want, _ := t.world.FromSchema("input", takes.plain)
	for _, p := range t.world.Misfits(with.Type, want) {
		at := within(n, p.Path)
		g.told[at] = true
		if at == n && n.Kind == yaml.MappingNode {
			at = k
		}
		t.at(at, "%s %s", what, p.Text)
	}
	g.exact(n, with, takes.plain, nil)
}

// within is the node of a path within one, or the nearest around it.
func within(n *yaml.Node, path []string) *yaml.Node {
	for _, name := range path {
		_, v := document.Find(n, name)
		if v == nil {
			return n
		}
		n = v
	}
	return n
}

// giving checks the constant parts of one value.
type giving struct {
	*typing
	what string
	root any                 // the schema of the whole
	told map[*yaml.Node]bool // what has a problem of its type
}

// exact checks the parts of a value that are constant against what the schema says of them.
func (g *giving) exact(n *yaml.Node, v *Value, schema any, path []string) {
	s, ok := schema.(map[string]any)
	if !ok {
		return
	}
	if constant, ok := v.constant(); ok && !g.hasTold(n) {
		g.check(n, constant, s, path)
		return
	}
	switch {
	case g.told[n] && v.kind != isMap:
	case v.kind == isMap && n.Kind == yaml.MappingNode:
		properties, _ := s["properties"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(v.fields)) {
			of, named := properties[name]
			if !named {
				of = s["additionalProperties"]
			}
			_, at := document.Find(n, name)
			g.exact(at, v.fields[name], of, append(slices.Clone(path), name))
		}
	case v.kind == isList && n.Kind == yaml.SequenceNode:
		for i, item := range v.items {
			g.exact(n.Content[i], item, s["items"], append(slices.Clone(path), strconv.Itoa(i)))
		}
	}
}

// hasTold reports whether there is a problem with the type of a node, or of one within it.
func (g *giving) hasTold(n *yaml.Node) bool {
	return g.told[n] || slices.ContainsFunc(n.Content, g.hasTold)
}

// check reports what a schema, which is one within the root, says of a constant.
func (g *giving) check(n *yaml.Node, constant any, schema map[string]any, path []string) {
	part := maps.Clone(schema)
	if root, ok := g.root.(map[string]any); ok && len(path) > 0 {
		for _, definitions := range []string{"$defs", "definitions"} {
			if all, has := root[definitions]; has {
				part[definitions] = all
			}
		}
	}
	raw, err := rawjson.Encode(part)
	if err != nil {
		return // it was JSON
	}
	s, err := newSchema(raw)
	if err != nil {
		return // it refers to what is elsewhere in the root
	}
	value, err := rawjson.Encode(constant)
	if err != nil {
		return // it is text, a number, or so
	}
	_, problems := s.Fill(value)
	for _, p := range problems {
		of := strings.Join(path, ".")
		if whole, ok := strings.CutPrefix(p, "arguments: "); ok {
			p = ": " + whole
		} else if of != "" {
			p = "." + p
		}
		g.at(n, "%s takes no such input: %s", g.what, strings.TrimPrefix(of+p, ": "))
	}
}
