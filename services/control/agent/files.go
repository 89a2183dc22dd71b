package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/document"
)

// source is a file that defines an agent.
type source struct {
	name string
	file string
}

// readAll reads the definitions in dir and adds the built-in ones. The map is nil when the directory cannot be
// read; that is the only problem then.
func readAll(dir string, lookup Lookup, check CheckModel, builtin []Definition) (map[string]parsed, []Problem) {
	sources, err := list(dir)
	if err != nil {
		return nil, []Problem{{Err: err}}
	}
	out := make(map[string]parsed, len(sources)+len(builtin))
	own := map[string]bool{}
	for _, d := range builtin {
		out[d.Name], own[d.Name] = parsed{Definition: d}, true
	}
	var problems []Problem
	report := func(s source, err error, tenants []string) {
		problems = append(problems, Problem{Agent: s.name, Err: err, tenants: tenants})
	}
	defined := map[string]string{}
	for _, s := range sources {
		if other, ok := defined[s.name]; ok {
			report(s, ErrInvalid.With("%s: agent %s is defined in %s too", s.file, s.name, other), unknown)
			continue
		}
		defined[s.name] = s.file
		if own[s.name] {
			report(s, ErrInvalid.With("%s: agent %s is built in; give yours another name", s.file, s.name), unknown)
			continue
		}
		d, err := readFile(s, lookup, check)
		if err != nil {
			report(s, err, d.Tenants)
			continue
		}
		out[s.name] = d
	}
	return out, problems
}

// list finds <name>.md and <name>/agent.md in dir, by name. Hidden names and everything else are left out.
func list(dir string) ([]source, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, ErrInvalid.With("the directory of agents %s cannot be read: %v", dir, document.Cause(err))
	}
	var out []source
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(path) // links are followed: configuration is often mounted as such
		switch {
		case err == nil && info.IsDir():
			inner := filepath.Join(path, "agent.md")
			// What cannot be looked at is not gone: reading it says what is wrong.
			if _, err := os.Lstat(inner); !errors.Is(err, fs.ErrNotExist) {
				out = append(out, source{name: e.Name(), file: inner})
			}
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !strings.HasSuffix(e.Name(), ".md"):
			out = append(out, source{name: e.Name(), file: filepath.Join(path, "agent.md")})
			continue
		}
		if name, ok := strings.CutSuffix(e.Name(), ".md"); ok {
			out = append(out, source{name: name, file: path})
		}
	}
	slices.SortFunc(out, func(a, b source) int { return strings.Compare(a.file, b.file) })
	return out, nil
}

func readFile(s source, lookup Lookup, check CheckModel) (parsed, error) {
	src, err := document.Load(s.file)
	if err != nil {
		return parsed{Definition: Definition{Tenants: unknown}}, ErrInvalid.With("%v", err)
	}
	return parseSource(s, src, lookup, check)
}
