package agent

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/catalogue"
)

// kind is one kind of parts that a project has in a folder beside agents/, for agents to name. To add one, write its
// reader and its field of Definition, and put it into kinds.
type kind struct {
	folder string
	form   catalogue.Form
	list   *naming // that names parts of the kind
	// stands says which part an entry of the list stands for; ok is false for entries that cannot mean this kind. Nil:
	// the part of that name.
	stands  func(entry string) (part string, ok bool)
	entry   func(part string) string // that stands for a part, for errors; nil is its name
	sandbox func(part any) bool      // whether an agent needs a sandbox to use a part
	read    func(s source, lookup Lookup) (any, error)
	embed   func(d *Definition, name string, part any)
}

// kinds are all that there are. Parts of one list must not stand for the same entry.
var kinds = []kind{commands, servers, folders, plugins}

// kindOf is a kind of parts of one type, which field holds in a definition, by name. The JSON form of a P is a part of
// the definition's, and so of its digest. read reports every problem, one line each, with file, line, column and key. A
// P is shared by definitions and must not be changed.
func kindOf[P any](k kind, read func(source, Lookup) (P, error), field func(*Definition) *map[string]P) kind {
	k.read = func(s source, lookup Lookup) (any, error) { return read(s, lookup) }
	k.embed = func(d *Definition, name string, part any) {
		all := field(d)
		if *all == nil {
			*all = map[string]P{}
		}
		(*all)[name] = part.(P)
	}
	if k.stands == nil {
		k.stands = func(entry string) (string, bool) { return entry, true }
	}
	if k.entry == nil {
		k.entry = func(part string) string { return part }
	}
	return k
}

// naming is a list in an agent's file that names parts.
type naming struct {
	key   string
	what  string // one of what it names
	names func(Definition) []string
	other func(entry string) bool // that names no part
	known []string                // what it can name beside parts, for errors
	hint  string                  // what else may be meant by a name that is not known
}

// part is a part of the project as it was read.
type part struct {
	value any // nil when its file cannot be used, and never could
}

// library is the parts of a project, by kind and name.
type library []map[string]part

// of is the parts of a kind, nil while nothing was read.
func (l library) of(k kind) map[string]part {
	for i := range l {
		if kinds[i].folder == k.folder {
			return l[i]
		}
	}
	return nil
}

// readParts reads the folders beside the one of agents. One that is not there is empty. A part whose file has a fault
// is reported, and stays what it was in old. The error is that of a folder that cannot be read.
func readParts(agents string, lookup Lookup, old library) (library, []Problem, error) {
	parts := make(library, len(kinds))
	var problems []Problem
	for i, k := range kinds {
		parts[i] = map[string]part{}
		if agents == "" {
			continue
		}
		dir := filepath.Join(agents, "..", k.folder)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		sources, err := list(dir, k.folder, k.form)
		if err != nil {
			return nil, nil, err
		}
		for _, s := range sources {
			value, err := k.read(s, lookup)
			if err == nil {
				parts[i][s.Name] = part{value}
				continue
			}
			var before part
			if old != nil {
				before = old[i][s.Name]
			}
			parts[i][s.Name] = before
			problems = append(problems, Problem{
				Err: ErrInvalid.With("%v", err), Kept: before.value != nil,
			})
		}
	}
	return parts, problems, nil
}

// embed gives every definition that was read from a file its parts. One that names a part that there is not is a
// problem and left out.
func (l library) embed(read map[string]parsed) (problems []Problem) {
	for _, name := range slices.Sorted(maps.Keys(read)) {
		p := read[name]
		if p.file == "" {
			continue // built in, with its parts
		}
		if found := l.resolve(&p); len(found) > 0 {
			problems = append(problems, found...)
			delete(read, name)
			continue
		}
		read[name] = p
	}
	return problems
}

// resolve finds the parts that a definition names.
func (l library) resolve(p *parsed) (problems []Problem) {
	l.unpack(p)
	claimed := map[mention]bool{}
	for i, k := range kinds {
		for _, entry := range k.list.names(p.Definition) {
			name, ok := k.stands(entry)
			found, there := l[i][name]
			if !ok || !there || k.list.other(entry) {
				continue
			}
			m := mention{k.list.key, entry}
			claimed[m] = true
			switch {
			case found.value == nil:
				problems = append(problems, p.problem(m, "%s %s cannot be used: its own file has a problem",
					k.list.what, k.entry(name)))
			case p.Sandbox.Kind == SandboxNone && k.sandbox(found.value):
				problems = append(problems, p.problem(m, "%s %s needs a sandbox, and sandbox is none",
					k.list.what, k.entry(name)))
			default:
				k.embed(&p.Definition, name, found.value)
			}
		}
	}
	for _, list := range namings() {
		for _, entry := range list.names(p.Definition) {
			if m := (mention{list.key, entry}); !claimed[m] && !list.other(entry) {
				problems = append(problems, p.problem(m, "there is no %s %s; there are %s%s", list.what, entry,
					strings.Join(l.known(list), ", "), list.hint))
			}
		}
	}
	return problems
}

// namings are the lists that name parts, each once.
func namings() (all []*naming) {
	for _, k := range kinds {
		if !slices.Contains(all, k.list) {
			all = append(all, k.list)
		}
	}
	return all
}

// known is what a list can name.
func (l library) known(list *naming) []string {
	names := slices.Clone(list.known)
	for i, k := range kinds {
		if k.list == list {
			for _, part := range slices.Sorted(maps.Keys(l[i])) {
				names = append(names, k.entry(part))
			}
		}
	}
	if len(names) == 0 {
		return []string{"none"}
	}
	if more := len(names) - mostKnown; more > 0 {
		names = append(names[:mostKnown:mostKnown], "…")
	}
	return names
}
