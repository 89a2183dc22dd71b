package agent

import (
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Parse reads one definition: YAML front matter between two lines of ---, then the instructions. file is for errors
// only. With a lookup, every variable that env refers to must be set, and check must not refuse the model; nil skips
// these checks. Whether there are such sub-agents and parts is for Load to check. All problems are reported together,
// one line each; each is an ErrInvalid that names file, line, column and key.
func Parse(name, file string, src []byte, lookup Lookup, check CheckModel) (Definition, error) {
	s, err := parseSource(source{Name: name, File: file}, src, lookup, check)
	if err != nil {
		return Definition{}, err
	}
	return s.Definition, nil
}

// parsed is a definition whose sub-agents and parts are names yet.
type parsed struct {
	Definition
	file   string                        // "" of one that is built in
	places map[mention]document.Position // where its sub-agents and parts are named
}

// mention is a name in the list of a key.
type mention struct{ key, name string }

// unknown are the tenants of a definition that cannot be read so far. What is wrong with it is told to the tenant that
// every installation has, and not to others: the agent may not be for them.
var unknown = []string{session.DefaultTenant}

// parseSource returns, beside an error, whom the agent would exist for.
func parseSource(s source, src []byte, lookup Lookup, check CheckModel) (parsed, error) {
	p := &parser{document.New(s.File), lookup, check, map[mention]document.Position{}}
	d := defaults(s.Name)
	p.parse(&d, src)
	if err := p.Err(ErrInvalid); err != nil {
		return parsed{Definition: Definition{Tenants: d.Tenants}}, err
	}
	return parsed{d, s.File, p.places}, nil
}

// parser reads one file.
type parser struct {
	*document.Document
	lookup Lookup
	check  CheckModel
	places map[mention]document.Position // where sub-agents and parts are named
}

// named reports whether a list has named something before.
func (p *parser) named(key, name string) bool { return p.places[mention{key, name}].Line > 0 }

// CheckModel says why no model can be had by a name.
type CheckModel func(model.Ref) error

func (p *parser) parse(d *Definition, src []byte) {
	d.Tenants = unknown
	named := validName(d.Name)
	if !named {
		p.Report(document.Whole, "", "%q cannot be an agent's name: it must begin with a letter and have at most "+
			"64 letters, "+
			"digits, _ and -", d.Name)
	}
	if !p.Check(src) {
		return
	}
	front, body, ok := document.FrontMatter(string(src))
	if !ok {
		p.Report(document.Top, "", "must begin with front matter: YAML between two lines of ---")
		return
	}
	d.Instructions = body
	if root, ok := p.Root("front matter", front); ok && named {
		d.Tenants = nil
		p.definition(d, root)
	}
}

// validName reports whether s begins with a letter and has at most 64 letters, digits, _ and -.
func validName(s string) bool {
	for i, c := range []byte(s) {
		if !letter(c) && (i == 0 || !digit(c) && c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func digit(c byte) bool { return '0' <= c && c <= '9' }
