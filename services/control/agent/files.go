package agent

import (
	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/document"
)

// source is a file that defines an agent, or a part.
type source = catalogue.Source

var agentForm = catalogue.Form{Suffix: ".md", Inner: "agent.md"}

// readAll reads the definitions in dir and adds the built-in ones. The error says why the directory cannot be read.
func readAll(
	dir string, lookup Lookup, check CheckModel, builtin []Definition,
) (out map[string]parsed, problems []Problem, err error) {
	var sources []source
	if dir != "" {
		if sources, err = list(dir, "agents", agentForm); err != nil {
			return nil, nil, err
		}
	}
	out = make(map[string]parsed, len(sources)+len(builtin))
	own := map[string]bool{}
	for _, d := range builtin {
		out[d.Name], own[d.Name] = parsed{Definition: d}, true
	}
	report := func(s source, err error, tenants []string) {
		problems = append(problems, Problem{Name: s.Name, Err: err, Tenants: tenants})
	}
	defined := map[string]string{}
	for _, s := range sources {
		if other, ok := defined[s.Name]; ok {
			report(s, ErrInvalid.With("%s: agent %s is defined in %s too", s.File, s.Name, other), unknown)
			continue
		}
		defined[s.Name] = s.File
		if own[s.Name] {
			report(s, ErrInvalid.With("%s: agent %s is built in; give yours another name", s.File, s.Name), unknown)
			continue
		}
		d, err := readFile(s, lookup, check)
		if err != nil {
			report(s, err, d.Tenants)
			continue
		}
		out[s.Name] = d
	}
	return out, problems, nil
}

// list finds the files of a form in dir, by name. what is what they define.
func list(dir, what string, f catalogue.Form) ([]source, error) {
	sources, err := catalogue.Files(dir, f)
	if err != nil {
		return nil, ErrInvalid.With("the directory of %s %s cannot be read: %v", what, dir, err)
	}
	return sources, nil
}

func readFile(s source, lookup Lookup, check CheckModel) (parsed, error) {
	src, err := document.Load(s.File)
	if err != nil {
		return parsed{Definition: Definition{Tenants: unknown}}, ErrInvalid.With("%v", err)
	}
	return parseSource(s, src, lookup, check)
}
