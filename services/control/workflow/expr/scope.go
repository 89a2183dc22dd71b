package expr

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// Steps is the variable that holds the outputs of steps, by their ids. Secrets is the one with secrets.
const (
	Steps   = "steps"
	Secrets = "secrets"
)

// Scope is what expressions at one place can use: the variables, and what is known of them there. It is for one
// goroutine until the definition is loaded, and read only then.
type Scope struct {
	world *World
	vars  map[string]*types.Type
	steps *Object
	later map[string]string // why a step's outputs are not there yet, by id
	sure  facts
	first facts                  // sure where the list of steps begins
	where func(id string) string // where in the file another step is, for errors

	env func() (*cel.Env, error) // made at first use
}

// NewScope has these variables and no steps. where says how a step that is not in scope can be reached, "" if there is
// none; it may be nil.
func (w *World) NewScope(vars map[string]*types.Type, where func(id string) string) *Scope {
	return (&Scope{world: w, vars: vars, later: map[string]string{}, where: where}).fresh()
}

// fresh makes the scope's environment anew.
func (s *Scope) fresh() *Scope {
	s.env = sync.OnceValues(func() (*cel.Env, error) {
		options := []cel.EnvOption{cel.CustomTypeProvider(s.world), cel.CustomTypeAdapter(s.world)}
		for _, name := range slices.Sorted(maps.Keys(s.vars)) {
			options = append(options, cel.Variable(name, s.vars[name]))
		}
		return base().Extend(options...)
	})
	return s
}

// Has reports whether there is a variable.
func (s *Scope) Has(name string) bool { return s.vars[name] != nil }

// World is where the scope's types are.
func (s *Scope) World() *World { return s.world }

// With is the scope with more variables.
func (s *Scope) With(vars map[string]*types.Type) *Scope {
	c := *s
	c.vars = maps.Clone(s.vars)
	maps.Copy(c.vars, vars)
	return c.fresh()
}

// List is the scope of a list of steps within this one: it sees the steps that s sees, and more can be added.
func (s *Scope) List() *Scope {
	fields := map[string]*Field{}
	if s.steps != nil {
		maps.Copy(fields, s.steps.Fields)
	}
	c := s.With(map[string]*types.Type{Steps: s.world.Add("steps", fields)})
	c.steps = c.world.Object(c.vars[Steps])
	c.later = maps.Clone(s.later)
	c.first = s.sure
	return c
}

// Announce makes a step known whose outputs are not there yet, and says why. It reports false when there is one of this
// id.
func (s *Scope) Announce(id, why string) bool {
	if s.steps.Fields[id] != nil {
		return false
	}
	s.steps.Fields[id] = &Field{Type: types.DynType}
	s.later[id] = why
	return true
}

// Put gives a step its outputs.
func (s *Scope) Put(id string, t *types.Type) {
	s.steps.Fields[id] = &Field{Type: t}
	delete(s.later, id)
}

// Step is the type of a step's outputs, nil when it has none here.
func (s *Scope) Step(id string) *types.Type {
	if f := s.steps.Fields[id]; f != nil && s.later[id] == "" {
		return f.Type
	}
	return nil
}

// Where is the scope in which an expression is true.
func (s *Scope) Where(e *Expr) *Scope {
	if e == nil || len(e.holds) == 0 {
		return s
	}
	c := *s
	c.sure = s.sure.and(e.holds)
	return &c
}

// Ended says that what follows in the scope is reached only where an expression is false.
func (s *Scope) Ended(e *Expr) { s.sure = s.sure.and(e.fails) }

// Completed is the scope in which a step is known to be completed.
func (s *Scope) Completed(id string) *Scope {
	c := *s
	c.sure = s.sure.and(facts{Steps + "." + id + all: true})
	return &c
}

// Unsure is the scope after some of its steps may not have been reached: each of their outputs may be absent.
func (s *Scope) Unsure(ids []string, why string) *Scope {
	c := s.List()
	c.sure, c.first = s.first, s.first
	for _, id := range ids {
		o := c.world.Object(s.Step(id))
		if o == nil {
			continue
		}
		fields := map[string]*Field{}
		for name, f := range o.Fields {
			unsure := *f
			if f.Absent == "" && !Always(name) {
				unsure.Absent, unsure.Step = why, true
			}
			fields[name] = &unsure
		}
		c.Put(id, c.world.Add(o.Title, fields))
	}
	return c
}

// Always reports whether every step has a field, whatever became of it.
func Always(field string) bool {
	return slices.Contains([]string{"status", "attempts", "duration"}, field)
}

// names are the variables, for errors.
func (s *Scope) names() []string { return slices.Sorted(maps.Keys(s.vars)) }

// all ends the path of an object whose fields of kind Step are all there.
const all = ".*"

// facts are paths, such as steps.files.stdout, that are known to be there.
type facts map[string]bool

// and is both.
func (f facts) and(more facts) facts {
	if len(more) == 0 {
		return f
	}
	out := maps.Clone(f)
	if out == nil {
		out = facts{}
	}
	maps.Copy(out, more)
	return out
}

// without leaves out what is known of a variable, for where another one has its name.
func (f facts) without(names ...string) facts {
	var out facts
	for path := range f {
		root, _, _ := strings.Cut(path, ".")
		if slices.Contains(names, root) {
			if out == nil {
				out = maps.Clone(f)
			}
			delete(out, path)
		}
	}
	if out == nil {
		return f
	}
	return out
}
