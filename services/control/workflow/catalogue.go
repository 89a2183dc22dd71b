package workflow

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/document"
)

// Catalogue is the workflows that a control plane has. Its methods may be called concurrently. A Reload after agents or
// tools have changed finds what that has broken.
type Catalogue = catalogue.Catalogue[*Definition]

// Problem is a file, or the directory, that could not be taken over. It has no name for the directory.
type Problem = catalogue.Problem

// Change is what a Reload has changed.
type Change = catalogue.Change

// Load reads the definitions in dir, "" for none. around is asked at each Reload what they may name; nil checks no
// names but those of workflows. Every problem of every file is reported, one line each, and then there is no catalogue.
func Load(dir string, around func() Surrounding) (*Catalogue, error) { return load(dir, false, around) }

// LoadIfThere is Load of a directory that need not exist: the first Reload that finds it reads it.
func LoadIfThere(dir string, around func() Surrounding) (*Catalogue, error) {
	return load(dir, true, around)
}

func load(dir string, later bool, around func() Surrounding) (*Catalogue, error) {
	if around == nil {
		around = func() Surrounding { return Surrounding{} }
	}
	return catalogue.Load(dir, later, catalogue.Deps[*Definition]{
		What: "workflow", NotFound: ErrNotFound, Tenants: func(d *Definition) []string { return d.Tenants },
		Read: func(dir string, old map[string]*Definition) (catalogue.Reading[*Definition], error) {
			return readAll(dir, around(), old)
		},
	})
}

// readAll reads the definitions in dir, "" for none. The error says why the directory cannot be read.
func readAll(
	dir string, around Surrounding, old map[string]*Definition,
) (out catalogue.Reading[*Definition], err error) {
	l := &loading{
		around: around, files: map[string]string{}, old: old, read: map[string]*Definition{},
		failed: map[string]Problem{},
	}
	if dir != "" {
		sources, err := catalogue.Files(dir, catalogue.Form{Suffix: ".yaml"})
		if err != nil {
			return out, ErrInvalid.With("the directory of workflows %s cannot be read: %v", dir, err)
		}
		for _, s := range sources {
			l.files[s.Name] = s.File
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.files)) {
		l.load(name)
	}
	l.uncircle()
	out.Found = l.read
	for _, name := range slices.Sorted(maps.Keys(l.read)) {
		for _, w := range l.read[name].warnings {
			out.Warnings = append(out.Warnings, catalogue.Warning{Name: name, Message: w})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.failed)) {
		out.Problems = append(out.Problems, l.failed[name])
	}
	return out, nil
}

// loading reads files, each after those of the workflows that it waits for.
type loading struct {
	around Surrounding
	files  map[string]string
	old    map[string]*Definition
	read   map[string]*Definition
	failed map[string]Problem
	open   []string // being read, each by the one before
}

var errBroken = errors.New("its own file has a problem")

func (l *loading) load(name string) (*Definition, error) {
	if d := l.read[name]; d != nil {
		return d, nil
	}
	if _, failed := l.failed[name]; failed {
		if old := l.old[name]; old != nil {
			return old, nil
		}
		return nil, errBroken
	}
	l.open = append(l.open, name)
	defer func() { l.open = l.open[:len(l.open)-1] }()
	d := &Definition{Tenants: unknownTenants}
	src, err := document.Load(l.files[name])
	if err == nil {
		around := l.around
		around.Child = l.child
		d, err = Parse(name, l.files[name], src, around)
	} else {
		err = ErrInvalid.With("%v", err)
	}
	if err != nil {
		l.failed[name] = Problem{Name: name, Err: err, Tenants: d.Tenants}
		if old := l.old[name]; old != nil {
			return old, nil
		}
		return nil, errBroken
	}
	l.read[name] = d
	return d, nil
}

// child is what another workflow has to know of one.
func (l *loading) child(name string) (*Child, error) {
	if l.files[name] == "" {
		return nil, ErrNotFound.With("there is no workflow %s%s", short(name),
			unlikeOf(name, slices.Sorted(maps.Keys(l.files))))
	}
	if i := slices.Index(l.open, name); i >= 0 {
		return nil, ErrInvalid.With("%s is a circle: no workflow may run itself over others",
			strings.Join(append(slices.Clone(l.open[i:]), name), " → "))
	}
	d, err := l.load(name)
	if err != nil {
		return nil, ErrInvalid.With("workflow %s cannot be run: %v", name, err)
	}
	return d.child(), nil
}

// uncircle makes circles problems that arise because a file has changed and another is kept as it was.
func (l *loading) uncircle() {
	for _, name := range slices.Sorted(maps.Keys(l.read)) {
		if way := l.circle(name, name, map[string]bool{}); way != nil {
			why := ErrInvalid.With("%s: %s is a circle: no workflow may run itself over others", l.files[name],
				strings.Join(append([]string{name}, way...), " → "))
			l.failed[name] = Problem{Name: name, Err: why, Tenants: l.read[name].Tenants}
			delete(l.read, name)
		}
	}
}

// circle is the way from one workflow to another over those that they run; nil when there is none.
func (l *loading) circle(from, to string, seen map[string]bool) []string {
	d := l.read[from]
	if d == nil {
		d = l.old[from] // it is kept
	}
	if d == nil || seen[from] {
		return nil
	}
	seen[from] = true
	for _, name := range slices.Sorted(maps.Keys(d.Children)) {
		if name == to {
			return []string{name}
		}
		if way := l.circle(name, to, seen); way != nil {
			return append([]string{name}, way...)
		}
	}
	return nil
}
