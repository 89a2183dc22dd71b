// Package claude turns the agents and MCP servers of a project of Claude Code into a project of Pawl.
//
//	.claude/agents/*.md, .mcp.json ──Read──▶ Import: agents/*.md, mcp/*.yaml, and what is left out
//	a plugin: .claude-plugin/plugin.json, agents/*.md, … ──▶ plugins/<name>/, agents/*.md
//
// Nothing is run and nothing is asked for. What would change what an agent may do, and has no counterpart, is never
// guessed at: hooks, modes that skip permissions, permissions, and servers of a person's own settings are named and
// left out. A tool of which an agent may make some calls asks before each.
//
// Invariants: every file of an Import can be loaded; what is left out is said, one line each.
package claude

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/document"
)

// ErrNothing says that there is nothing to import.
var ErrNothing = errs.New(errs.NotFound, "NOTHING_TO_IMPORT", "there is neither .claude/agents/*.md nor .mcp.json")

// Import is what becomes of a project.
type Import struct {
	Files      map[string][]byte // by path in Pawl's project
	Executable []string          // which of them are executable
	Left       []string          // what was left out, and why, in the order in which it was found
}

// Read reads the project in a directory. model is what agents are asked with that name none. Errors are those of files
// that cannot be read, and ErrNothing.
func Read(dir, model string) (Import, error) {
	r := &reader{dir: dir, model: model, out: Import{Files: map[string][]byte{}}}
	found, err := r.plugin()
	agents := "agents"
	if err == nil && !found {
		agents = filepath.Join(".claude", "agents")
		found, err = r.servers()
	}
	if err != nil {
		return Import{}, err
	}
	files, err := filepath.Glob(filepath.Join(dir, agents, "*.md"))
	if err != nil {
		return Import{}, err
	}
	for _, file := range files {
		src, err := document.Load(file)
		if err != nil {
			return Import{}, err
		}
		r.agent(file, string(src))
	}
	if len(files) == 0 && !found {
		return Import{}, ErrNothing.With("%s has neither .claude/agents/*.md nor .mcp.json, and is no plugin", dir)
	}
	for _, name := range []string{"settings.json", "settings.local.json"} {
		if err := r.settings(filepath.Join(dir, ".claude", name)); err != nil {
			return Import{}, err
		}
	}
	return r.out, nil
}

// Write puts the files of an import into a directory. A file that is there already is an error, and then none is
// written.
func (i Import) Write(dir string) error {
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already: remove it, or import into another directory",
				filepath.Join(dir, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o600)
		if slices.Contains(i.Executable, name) {
			mode = 0o700
		}
		if err := os.WriteFile(path, i.Files[name], mode); err != nil {
			return err
		}
	}
	return nil
}

type reader struct {
	dir, model string
	mcp        []string // the servers that were taken
	plugged    string   // the plugin that agents have, "" for none
	skills     []string // of that plugin
	out        Import
}

// left notes what is left out of a file.
func (r *reader) left(file, format string, args ...any) {
	if rel, err := filepath.Rel(r.dir, file); err == nil {
		file = rel
	}
	text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	r.out.Left = append(r.out.Left, file+": "+text)
}

// settings names what is set for a person or the project, and has to be decided anew.
func (r *reader) settings(file string) error {
	src, err := document.Load(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var s struct {
		Hooks       map[string]json.RawMessage `json:"hooks"`
		Permissions struct {
			Mode  string   `json:"defaultMode"`
			Allow []string `json:"allow"`
			Ask   []string `json:"ask"`
			Deny  []string `json:"deny"`
		} `json:"permissions"`
		All     bool     `json:"enableAllProjectMcpServers"`
		Enabled []string `json:"enabledMcpjsonServers"`
	}
	if err := json.Unmarshal(src, &s); err != nil {
		r.left(file, "it cannot be read: %v", err)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.Hooks)) {
		r.left(file, "hook %s: Pawl runs no hooks", name)
	}
	if s.Permissions.Mode != "" {
		r.left(file, "permission mode %s: what needs a decision is said by the key approve of an agent",
			s.Permissions.Mode)
	}
	if n := len(s.Permissions.Allow) + len(s.Permissions.Ask) + len(s.Permissions.Deny); n > 0 {
		r.left(file, "%d permissions: what needs a decision is said by the key approve of an agent", n)
	}
	if s.All || len(s.Enabled) > 0 {
		r.left(file, "MCP servers that a workspace enables: an agent has the servers that its tools name")
	}
	return nil
}

// quote is a text as YAML, which takes JSON.
func quote(v any) string {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts, and lists and maps of them
	}
	return string(body)
}
