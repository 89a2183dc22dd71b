// Package check reads the definitions of a project, agents and workflows, as a control plane would, and tells all that
// is wrong with them.
package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// ErrEmpty is a directory that is no project.
var ErrEmpty = errs.New(errs.NotFound, "PROJECT_EMPTY", "there is neither agents/ nor workflows/")

// Names of a project's directories.
const (
	agents    = "agents"
	workflows = "workflows"
)

// Project is the definitions of a directory.
type Project struct {
	Agents    *agent.Catalogue // with the built-in ones
	Workflows *workflow.Catalogue
}

// Load reads agents/, with what is beside it, and workflows/ in dir. Either may be absent. Variables that agents refer
// to need not be set, and models need not be known: these depend on where a control plane runs. The error has every
// problem of every file, one line each. While agents have problems, it does not tell which of them workflows name
// wrongly.
func Load(dir string) (*Project, error) {
	dirs := map[string]string{}
	for _, name := range []string{agents, workflows} {
		path := filepath.Join(dir, name)
		switch info, err := os.Stat(path); {
		case err == nil && info.IsDir():
			dirs[name] = path
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("looking for definitions: %w", err)
		}
	}
	if len(dirs) == 0 {
		return nil, ErrEmpty.With("there is neither %s nor %s: name the directory of a project",
			filepath.Join(dir, agents), filepath.Join(dir, workflows))
	}
	p, problems := &Project{}, []error{}
	var err error
	if p.Agents, err = agent.Load(dirs[agents], nil, nil, agent.Shell()); err != nil {
		problems = append(problems, err)
	}
	p.Workflows, err = workflow.Load(dirs[workflows], func() workflow.Surrounding {
		if p.Agents == nil {
			return workflow.Surrounding{}
		}
		return Surrounding(p.Agents)
	})
	if err := errors.Join(append(problems, err)...); err != nil {
		return nil, err
	}
	return p, nil
}

// Surrounding is what workflows may name: agents and tools of a catalogue.
func Surrounding(c *agent.Catalogue) workflow.Surrounding {
	tenants, names := map[string][]string{}, []string{}
	for _, d := range c.All() {
		tenants[d.Name] = d.Tenants
		names = append(names, d.Name)
	}
	return workflow.Surrounding{
		Agent: func(name string) ([]string, bool) {
			of, ok := tenants[name]
			return of, ok
		},
		Agents: names, Tool: c.HasTool, Tools: c.Tools(),
	}
}
