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

// source is a file that defines an agent, or a part.
type source struct {
	name string
	file string
}

// form is how files are named that define something called <name>: <name><suffix>, <name>/<inner>; "" is not so.
type form struct{ suffix, inner string }

var agentForm = form{suffix: ".md", inner: "agent.md"}

// readAll reads the definitions in dir and adds the built-in ones. The map is nil when the directory cannot be
// read; that is the only problem then.
func readAll(dir string, lookup Lookup, check CheckModel, builtin []Definition) (map[string]parsed, []Problem) {
	var sources []source
	if dir != "" {
		var err error
		if sources, err = list(dir, agentForm); err != nil {
			return nil, []Problem{{Err: err}}
		}
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

// list finds the files of a form in dir, by name. Hidden names and everything else are left out.
func list(dir string, f form) ([]source, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		what := filepath.Base(dir)
		if f == agentForm {
			what = "agents"
		}
		return nil, ErrInvalid.With("the directory of %s %s cannot be read: %v", what, dir, document.Cause(err))
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
			inner := filepath.Join(path, f.inner)
			// What cannot be looked at is not gone: reading it says what is wrong.
			if _, err := os.Lstat(inner); f.inner != "" && !errors.Is(err, fs.ErrNotExist) {
				out = append(out, source{name: e.Name(), file: inner})
			}
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist) && f.inner != "" && !f.flat(e.Name()):
			out = append(out, source{name: e.Name(), file: filepath.Join(path, f.inner)})
			continue
		}
		if f.flat(e.Name()) {
			out = append(out, source{name: strings.TrimSuffix(e.Name(), f.suffix), file: path})
		}
	}
	slices.SortFunc(out, func(a, b source) int { return strings.Compare(a.file, b.file) })
	return out, nil
}

// flat reports whether a name can be that of a file which defines something alone.
func (f form) flat(name string) bool { return f.suffix != "" && strings.HasSuffix(name, f.suffix) }

func readFile(s source, lookup Lookup, check CheckModel) (parsed, error) {
	src, err := document.Load(s.file)
	if err != nil {
		return parsed{Definition: Definition{Tenants: unknown}}, ErrInvalid.With("%v", err)
	}
	return parseSource(s, src, lookup, check)
}
