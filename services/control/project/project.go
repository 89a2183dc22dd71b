// Package project reads the definitions of a project, agents and workflows, each checked against the other.
//
//	agents/, tools/, mcp/, skills/, plugins/ ──▶ agent.Catalogue ──┐
//	workflows/ ────────────────────────────────────────────────────┴──▶ workflow.Catalogue
//
// A control plane opens the project that it serves. What it makes of it is told without one, too.
package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// ErrEmpty is a directory that is no project.
var ErrEmpty = errs.New(errs.NotFound, "PROJECT_EMPTY", "there is neither agents/ nor workflows/")

// Names of a project's directories.
const (
	agents    = "agents"
	workflows = "workflows"
)

// Project is the definitions of a directory. A Reload of Workflows checks them against the agents that are in force
// then.
type Project struct {
	Agents    *agent.Catalogue
	Workflows *workflow.Catalogue
}

// Files are those of a project, and what they are checked against.
type Files struct {
	Agents      string // the directory of agents; other parts of the project are beside it. "" is none
	AgentsLater bool   // it need not be there yet
	// Lookup finds variables that definitions refer to; they must be set. Nil does not check.
	Lookup  agent.Lookup
	Check   agent.CheckModel // must not refuse a model; nil refuses none
	Builtin []agent.Definition
}

// Open reads a project. The directory of workflows is beside that of agents, and need not be there yet. The error has
// every problem of every file, one line each. While agents have problems, it does not tell which of them workflows name
// wrongly.
func Open(f Files) (*Project, error) {
	load := agent.Load
	if f.AgentsLater {
		load = agent.LoadIfThere
	}
	p := &Project{}
	var broken, err error
	p.Agents, broken = load(f.Agents, f.Lookup, f.Check, f.Builtin...)
	dir := ""
	if f.Agents != "" {
		dir = filepath.Join(f.Agents, "..", workflows)
	}
	p.Workflows, err = workflow.LoadIfThere(dir, func() workflow.Surrounding { return p.surrounding(f.Lookup) })
	if err := errors.Join(broken, err); err != nil {
		return nil, err
	}
	return p, nil
}

// Load reads agents/, with what is beside it, and workflows/ in dir, as Open does. Either may be absent. Variables that
// definitions refer to need not be set, and models need not be known: these depend on where a control plane runs.
func Load(dir string) (*Project, error) {
	there := 0
	for _, name := range []string{agents, workflows} {
		switch _, err := os.Stat(filepath.Join(dir, name)); {
		case err == nil:
			there++
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("looking for definitions: %w", err)
		}
	}
	if there == 0 {
		return nil, ErrEmpty.With("there is neither %s nor %s: name the directory of a project",
			filepath.Join(dir, agents), filepath.Join(dir, workflows))
	}
	return Open(Files{
		Agents: filepath.Join(dir, agents), AgentsLater: true, Builtin: []agent.Definition{agent.Shell()},
	})
}

// surrounding is what workflows may name.
func (p *Project) surrounding(lookup agent.Lookup) (s workflow.Surrounding) {
	if p.Agents != nil {
		tenants := map[string][]string{}
		for _, d := range p.Agents.All() {
			tenants[d.Name] = d.Tenants
			s.Agents = append(s.Agents, d.Name)
		}
		s.Agent = func(name string) ([]string, bool) {
			of, ok := tenants[name]
			return of, ok
		}
		s.Tool, s.Tools = p.tool, p.Agents.Tools()
		s.Skills = p.skills
	}
	if lookup != nil {
		s.Variable = func(name string) bool { _, set := lookup(name); return set }
		s.Secret = s.Variable
	}
	return s
}

// Check reads a workflow that is not in force, as a reload that finds its file would, beside what a tenant has. Whether
// variables are set is not checked: that is of the server, and not of the tenant. Errors: workflow.ErrInvalid, with
// every problem.
func (p *Project) Check(tenant, name string, source []byte) (*workflow.Definition, error) {
	s := p.surrounding(nil)
	agent, skills := s.Agent, s.Skills
	its := func(name string) bool { return slices.Contains(s.Agents, name) }
	s.Agents = p.Agents.Names(tenant)
	s.Agent = func(name string) ([]string, bool) {
		of, ok := agent(name)
		return of, ok && its(name)
	}
	s.Skills = func(name string) ([]string, bool, bool) {
		if !its(name) {
			return nil, false, false
		}
		return skills(name)
	}
	return workflow.Check(p.Workflows, tenant, name, source, s)
}

// tool is what workflows know of one. What executors and MCP servers offer takes anything, as far as can be known. A
// tool by which an agent asks others is none for a step.
func (p *Project) tool(name string) (t workflow.Tool, ok bool) {
	if builtin.Asks([]string{name}) {
		return t, false
	}
	if of, ok := p.Agents.Command(name); ok {
		return workflow.Tool{Arguments: of.Arguments, Command: &of}, true
	}
	if of, err := builtin.Tools().Find(name); err == nil {
		t.Arguments = of.Schema
	}
	return t, p.Agents.HasTool(name)
}

// skills are those that an agent names, and whether it has a workspace.
func (p *Project) skills(name string) (names []string, workspace, ok bool) {
	for _, d := range p.Agents.All() {
		if d.Name == name {
			return d.Skills, d.Sandbox.Kind != agent.SandboxNone, true
		}
	}
	return nil, false, false
}
