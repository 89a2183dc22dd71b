package agent

import (
	"maps"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// Subagent is the definition that a task of the agent runs with: that of a sub-agent as it was when the agent was
// loaded, or for "" the agent's own. ok is false when the agent has no such sub-agent. The digest of the definition is
// the one that it has in the catalogue of that time.
func (d Definition) Subagent(name string) (sub Definition, ok bool) {
	if name == "" {
		return d, true
	}
	if sub, ok = d.Team[name]; !ok || !slices.Contains(d.Subagents, name) {
		return Definition{}, false
	}
	sub.Team = reach(sub.Subagents, d.Team)
	return sub, true
}

// Secrets are the strings that must be redacted wherever text of a sandbox of the agent is kept or shown: those of its
// own env, of its parts, and of all agents that it can reach, which work on the same files. An env of which a variable
// is not set has none, because no call is ever sent with it.
func (d Definition) Secrets(lookup Lookup) (secrets []string) {
	envs := d.envs()
	for _, name := range slices.Sorted(maps.Keys(d.Team)) {
		envs = append(envs, d.Team[name].envs()...)
	}
	for _, e := range envs {
		if values, err := e.Expand(lookup); err == nil {
			secrets = append(secrets, values.Secrets()...)
		}
	}
	return secrets
}

// envs are the agent's own variables, and those of its parts.
func (d Definition) envs() []Env {
	envs := []Env{d.Env}
	for _, name := range slices.Sorted(maps.Keys(d.Commands)) {
		envs = append(envs, d.Commands[name].Env)
	}
	for _, name := range slices.Sorted(maps.Keys(d.MCP)) {
		envs = append(envs, serverEnv(d.MCP[name]))
	}
	return envs
}

// serverEnv is what an MCP server is told that refers to variables.
func serverEnv(d mcp.Definition) Env {
	of := Env{}
	for key, text := range d.Templates() {
		of[key] = &text
	}
	return of
}

// ServerSecrets are the strings that must be redacted in what an MCP server says: those that it is told. There are none
// if a variable is not set, because no server is asked then.
func ServerSecrets(d mcp.Definition, lookup Lookup) []string {
	values, err := serverEnv(d).Expand(lookup)
	if err != nil {
		return nil
	}
	return values.Secrets()
}

// Task is the tool by which the agent asks its sub-agents.
func (d Definition) Task() *tool.Tool {
	agents := make([]builtin.Agent, len(d.Subagents))
	for i, name := range d.Subagents {
		agents[i] = builtin.Agent{Name: name, Description: d.Team[name].Description}
	}
	return builtin.Task(agents...)
}

// reach are the definitions of a team that can be reached from some of its names; nil when there are none.
func reach(names []string, team map[string]Definition) map[string]Definition {
	var found map[string]Definition
	for open := slices.Clone(names); len(open) > 0; open = open[1:] {
		if _, known := found[open[0]]; known {
			continue
		}
		if found == nil {
			found = map[string]Definition{}
		}
		found[open[0]] = team[open[0]]
		open = append(open, team[open[0]].Subagents...)
	}
	return found
}

// linker finds the sub-agents of definitions that were read.
type linker struct {
	read     map[string]parsed
	broken   map[string]bool       // names of which a file cannot be used
	old      map[string]Definition // good earlier ones, for those
	linked   map[string]Definition
	problems []Problem
}

// link gives every definition its team. One that names an agent that there is not, or that can reach itself, is a
// problem and left out. A sub-agent whose file cannot be used is taken as it was before.
func link(read map[string]parsed, problems []Problem, old map[string]Definition) (map[string]Definition, []Problem) {
	l := &linker{read: read, broken: map[string]bool{}, old: old, linked: map[string]Definition{}}
	for _, p := range problems {
		_, there := read[p.Name] // from another file, or built in
		l.broken[p.Name] = !there
	}
	for _, name := range slices.Sorted(maps.Keys(read)) {
		l.find(name)
	}
	return l.linked, l.problems
}

// find is the definition that a name stands for as a sub-agent.
func (l *linker) find(name string) (Definition, bool) {
	if d, ok := l.linked[name]; ok {
		return d, true
	}
	if p, ok := l.read[name]; ok && !l.broken[name] && l.link(p) {
		return l.linked[name], true
	}
	if !l.broken[name] {
		return Definition{}, false
	}
	d, ok := l.old[name]
	return d, ok
}

// link reports false when there is a problem, after it has noted it.
func (l *linker) link(p parsed) bool {
	d := p.Definition
	if circle := l.circle(d.Name, d.Name, map[string]bool{}); circle != nil {
		l.report(p, circle[0], "%s is a circle: no agent may ask itself over others",
			strings.Join(append([]string{d.Name}, circle...), " → "))
		return false
	}
	team := map[string]Definition{}
	direct := map[string]Definition{}
	for _, name := range d.Subagents {
		sub, ok := l.find(name)
		switch {
		case ok:
			if other := d.foreign(sub); other != "" {
				l.report(p, name, "agent %s is for %s only, and %s for %s too: give this one tenants as well", name,
					strings.Join(sub.Tenants, ", "), d.Name, other)
			}
			maps.Copy(team, sub.Team)
			sub.Team = nil
			direct[name] = sub
		case l.broken[name]:
			l.report(p, name, "agent %s cannot be used: its own definition has a problem", name)
		default:
			l.report(p, name, "there is no agent %s; there are %s", name,
				strings.Join(slices.Sorted(maps.Keys(l.read)), ", "))
		}
	}
	if l.broken[d.Name] {
		return false
	}
	maps.Copy(team, direct) // they are newer than what an old definition knows
	d.Team = reach(d.Subagents, team)
	l.linked[d.Name] = d
	return true
}

// foreign says whom d exists for and a sub-agent of it does not; "" is nobody.
func (d Definition) foreign(sub Definition) string {
	if len(d.Tenants) == 0 && len(sub.Tenants) > 0 {
		return "all tenants"
	}
	return strings.Join(slices.DeleteFunc(slices.Clone(d.Tenants), sub.ExistsFor), ", ")
}

// circle is the way from one agent to another over sub-agents; nil when there is none.
func (l *linker) circle(from, to string, seen map[string]bool) []string {
	for _, name := range l.read[from].Subagents {
		if name == to {
			return []string{name}
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		if rest := l.circle(name, to, seen); rest != nil {
			return append([]string{name}, rest...)
		}
	}
	return nil
}

// report notes a problem with a sub-agent.
func (l *linker) report(p parsed, name, format string, args ...any) {
	l.broken[p.Name] = true
	l.problems = append(l.problems, p.problem(mention{"subagents", name}, format, args...))
}

// problem is one with what the definition names.
func (p parsed) problem(m mention, format string, args ...any) Problem {
	where := "the built-in agent " + p.Name
	if p.file != "" {
		where = p.places[m].In(p.file)
	}
	return Problem{
		Name: p.Name, Tenants: p.Tenants,
		Err: ErrInvalid.With("%s: %s: "+format, append([]any{where, m.key}, args...)...),
	}
}
