package workflow

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/pawl-dev/pawl/services/control/document"
)

// Catalogue is the workflows that a control plane has. Its methods may be called concurrently.
type Catalogue struct {
	dir    string
	later  bool // dir need not be there yet
	around func() Surrounding

	reload sync.Mutex // one Reload at a time, so that the last one to begin is the one that stays

	mu       sync.RWMutex // guards what follows
	byName   map[string]*Definition
	absent   map[string]absence     // of names that have no definition although they once had one, or have a file
	byDigest map[string]*Definition // never shrinks: runs under way may have pinned any of them
}

// absence is why a name has no definition, which is told to those tenants that it would exist for.
type absence struct {
	why     error
	tenants []string
}

// Problem is a file, or the directory, that could not be taken over.
type Problem struct {
	Workflow string // that the file defines, "" for the directory
	Err      error  // one line for each fault, with file, line and column
	Kept     bool   // the workflow keeps an earlier good definition

	tenants []string // that the workflow would exist for
}

// Change is what a Reload has changed. Names are sorted.
type Change struct {
	Added, Changed, Removed []string
	Problems                []Problem
}

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
	c := &Catalogue{dir: dir, later: later, around: around, byDigest: map[string]*Definition{}}
	var all []error
	for _, p := range c.Reload().Problems {
		all = append(all, p.Err)
	}
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the directory again and swaps all definitions at once. A file with a fault is reported, and its workflow
// keeps the definition that it had; if the directory cannot be read, all do. Definitions that are replaced or gone can
// still be had by their digest. When agents or tools have changed, it finds what that has broken.
func (c *Catalogue) Reload() Change {
	c.reload.Lock()
	defer c.reload.Unlock()
	files, err := c.files()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		return Change{Problems: []Problem{{Err: err, Kept: len(c.byName) > 0}}}
	}
	l := &loading{
		around: c.around(), files: files, old: c.byName, read: map[string]*Definition{}, failed: map[string]Problem{},
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		l.load(name)
	}
	l.uncircle()
	change := Change{}
	absent := map[string]absence{}
	for _, name := range slices.Sorted(maps.Keys(l.failed)) {
		p := l.failed[name]
		if old, had := c.byName[name]; had {
			l.read[name], p.Kept = old, true
		} else {
			absent[name] = absence{p.Err, p.tenants}
		}
		change.Problems = append(change.Problems, p)
	}
	change.compare(c.byName, l.read)
	for _, name := range change.Removed {
		why := ErrNotFound.With("workflow %q was removed: its file is gone", name)
		absent[name] = absence{why, c.byName[name].Tenants}
	}
	for name, a := range c.absent {
		if _, there := l.read[name]; !there && absent[name].why == nil && errors.Is(a.why, ErrNotFound) {
			absent[name] = a
		}
	}
	c.byName, c.absent = l.read, absent
	for _, d := range l.read {
		c.byDigest[d.Digest()] = d
	}
	return change
}

// files are the files of the directory by the names of their workflows. Hidden ones are left out.
func (c *Catalogue) files() (map[string]string, error) {
	files := map[string]string{}
	if c.dir == "" {
		return files, nil
	}
	entries, err := os.ReadDir(c.dir)
	if c.later && errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, ErrInvalid.With("the directory of workflows %s cannot be read: %v", c.dir, document.Cause(err))
	}
	c.later = false
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".yaml")
		path := filepath.Join(c.dir, e.Name())
		if info, err := os.Stat(path); !ok || strings.HasPrefix(name, ".") || err == nil && info.IsDir() {
			continue
		}
		files[name] = path
	}
	return files, nil
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
		l.failed[name] = Problem{Workflow: name, Err: err, tenants: d.Tenants}
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
			l.failed[name] = Problem{Workflow: name, Err: why, tenants: l.read[name].Tenants}
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

// compare notes what has changed between two sets of definitions.
func (c *Change) compare(before, after map[string]*Definition) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		old, had := before[name]
		switch {
		case !had:
			c.Added = append(c.Added, name)
		case old.Digest() != after[name].Digest():
			c.Changed = append(c.Changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, has := after[name]; !has {
			c.Removed = append(c.Removed, name)
		}
	}
}

// Get finds the present definition of a name, for a tenant. Errors: ErrNotFound, which says so when the workflow was
// removed, and ErrInvalid when its file is broken and never was good.
func (c *Catalogue) Get(tenant, name string) (*Definition, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if d, ok := c.byName[name]; ok && d.ExistsFor(tenant) {
		return d, nil
	}
	if a, ok := c.absent[name]; ok && includes(a.tenants, tenant) {
		return nil, a.why
	}
	return nil, Missing(name)
}

// ByDigest finds a definition that is or was in this catalogue; ErrNotFound for any other, those of an earlier process
// included.
func (c *Catalogue) ByDigest(digest string) (*Definition, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, ok := c.byDigest[digest]
	if !ok {
		return nil, ErrNotFound.With("no workflow with digest %q is known", short(digest))
	}
	return d, nil
}

// List is the present definitions of the workflows that a tenant has, by name.
func (c *Catalogue) List(tenant string) []*Definition {
	return slices.DeleteFunc(c.All(), func(d *Definition) bool { return !d.ExistsFor(tenant) })
}

// All is the present definitions, whoever they are for, by name: for those who run the installation.
func (c *Catalogue) All() []*Definition {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.SortedFunc(maps.Values(c.byName), func(a, b *Definition) int { return cmp.Compare(a.Name, b.Name) })
}
