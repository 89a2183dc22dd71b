// Package catalogue keeps the definitions that the files of a project say: those in force by name, and all that were in
// force by digest.
//
//	files ──Read──▶ definitions, problems ──Reload──▶ Catalogue ──Get, ByDigest──▶ work
//
// How files are read is for the packages of definitions to say. This one says what becomes of what was read.
//
// Invariants: what is in force was read without a problem; a file with a problem takes nothing out of force; a
// definition that was in force once is found by its digest as long as the process lives.
package catalogue

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/document"
)

// Definition is what a file defines.
type Definition interface {
	// Digest says what the definition says: equal digests mean equal behaviour.
	Digest() string
}

// Deps are what a catalogue is of, and how it is read.
type Deps[D Definition] struct {
	What     string      // one of them, such as agent
	NotFound *errs.Error // answers for a name or a digest that the catalogue does not have
	// Read reads the definitions in dir, "" for none. old are those in force, which must not be changed. The error says
	// why the directory cannot be read.
	Read func(dir string, old map[string]D) (Reading[D], error)
	// Tenants are those that a definition exists for; none is all.
	Tenants func(D) []string
	// Reaches lists definitions that one cannot do without: it exists for those tenants only that these, as they are in
	// force, exist for. Nil: it needs none.
	Reaches func(D) []string
	// Clone makes a copy that a caller may change; nil for definitions that do not change.
	Clone func(D) D
}

// Reading is what was read.
type Reading[D Definition] struct {
	Found    map[string]D // by name; none that has a problem
	Problems []Problem
	Warnings []Warning
}

// Problem is a file, or a directory, that could not be taken over.
type Problem struct {
	Name string // of the definition that the file has, "" for a directory, and for what definitions share
	Err  error  // one line for each fault, with file, line, column and key
	Kept bool   // what was there before stays in force

	// Tenants are those that the definition would exist for, which are told the problem. None is all.
	Tenants []string
}

// Warning says that a definition which is in force is of no use to somebody as things are.
type Warning struct {
	Name    string // of the definition, "" for what definitions share
	Message string // one line
}

// Change is what a Reload has changed. Names are sorted.
type Change struct {
	Added, Changed, Removed []string
	Problems                []Problem
	Warnings                []Warning
}

// Catalogue is definitions of one kind. Its methods may be called concurrently.
type Catalogue[D Definition] struct {
	dir   string
	later bool // dir need not be there yet; guarded by reload
	deps  Deps[D]

	reload sync.Mutex // one Reload at a time, so that the last one to begin is the one that stays

	mu       sync.RWMutex // guards what follows
	byName   map[string]D // the map is replaced, never changed
	digests  map[string]string
	absent   map[string]absence // of names that have no definition although they once had one, or have a file
	warnings []Warning          // of the last Reload
	byDigest map[string]D       // never shrinks: work under way may have pinned any of them
}

// absence is why a name has no definition, which is told to those tenants that it would exist for.
type absence struct {
	why     error
	tenants []string
}

// Load reads the definitions in dir, "" for none. With later, dir need not exist: the first Reload that finds it reads
// it. Every problem of every file is reported, one line each, and then there is no catalogue.
func Load[D Definition](dir string, later bool, deps Deps[D]) (*Catalogue[D], error) {
	c := &Catalogue[D]{dir: dir, later: later, deps: deps, byDigest: map[string]D{}}
	var all []error
	for _, p := range c.Reload().Problems {
		all = append(all, p.Err)
	}
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the directory again and swaps all definitions at once. A file with a fault is reported, and its
// definition stays what it was; if the directory cannot be read, all do. Definitions that are replaced or gone can
// still be had by their digest.
func (c *Catalogue[D]) Reload() Change {
	c.reload.Lock()
	defer c.reload.Unlock()
	old := c.present()
	read, err := c.deps.Read(c.there(), old)
	if err != nil {
		return Change{Problems: []Problem{{Err: err, Kept: len(old) > 0}}}
	}
	now := maps.Clone(read.Found)
	if now == nil {
		now = map[string]D{}
	}
	absent := map[string]absence{}
	for i := range read.Problems {
		p := &read.Problems[i]
		if p.Name == "" {
			continue
		}
		if _, there := now[p.Name]; there { // of another file, or built in
			p.Kept = true
		} else if d, had := old[p.Name]; had {
			now[p.Name], p.Kept = d, true
		} else {
			absent[p.Name] = absence{p.Err, p.Tenants}
		}
	}
	change := c.compare(old, now)
	change.Problems, change.Warnings = read.Problems, slices.Clone(read.Warnings)
	for _, name := range change.Removed {
		why := c.deps.NotFound.With("%s %q was removed: its file is gone", c.deps.What, name)
		absent[name] = absence{why, c.deps.Tenants(old[name])}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, a := range c.absent {
		if _, there := now[name]; !there && absent[name].why == nil && errors.Is(a.why, c.deps.NotFound) {
			absent[name] = a
		}
	}
	c.byName, c.absent, c.warnings, c.digests = now, absent, read.Warnings, map[string]string{}
	for name, d := range now {
		c.digests[name] = d.Digest()
		c.byDigest[c.digests[name]] = d
	}
	return change
}

func (c *Catalogue[D]) present() map[string]D {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byName
}

// there is the directory to read, "" while there is none and need not be. One that was there once has to be.
func (c *Catalogue[D]) there() string {
	if c.later {
		if _, err := os.Stat(c.dir); errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		c.later = false
	}
	return c.dir
}

// compare is what has changed between two sets of definitions.
func (c *Catalogue[D]) compare(before, after map[string]D) (change Change) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		old, had := before[name]
		switch {
		case !had:
			change.Added = append(change.Added, name)
		case old.Digest() != after[name].Digest():
			change.Changed = append(change.Changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, has := after[name]; !has {
			change.Removed = append(change.Removed, name)
		}
	}
	return change
}

// Warnings are those of the last time that the files were read.
func (c *Catalogue[D]) Warnings() []Warning {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.warnings)
}

// Get finds the definition in force of a name, for a tenant. Errors: NotFound, which says so when the definition was
// removed, and what is wrong with its file when that is broken and never was good.
func (c *Catalogue[D]) Get(tenant, name string) (D, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, err := c.find(tenant, name)
	if err != nil {
		return d, err
	}
	return c.copy(d), nil
}

// Present is the digest of the definition in force of a name, for a tenant, and the definition, which must not be
// changed. Errors are those of Get.
func (c *Catalogue[D]) Present(tenant, name string) (digest string, d D, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, err = c.find(tenant, name)
	return c.digests[name], d, err
}

func (c *Catalogue[D]) find(tenant, name string) (D, error) {
	if d, ok := c.byName[name]; ok && c.exists(tenant, d) {
		return d, nil
	}
	var none D
	if a, ok := c.absent[name]; ok && Includes(a.tenants, tenant) {
		return none, a.why
	}
	return none, Missing(c.deps.NotFound, c.deps.What, name)
}

// Missing is an error about a name, for definitions that there are not and for those that a caller may not know of.
func Missing(notFound *errs.Error, what, name string) error {
	return notFound.With("no such %s: %q", what, document.Printable(name))
}

// Includes tells whether tenants, of which none is all, are or include one.
func Includes(tenants []string, one string) bool {
	return len(tenants) == 0 || slices.Contains(tenants, one)
}

// exists reports whether a tenant may have a definition and all that it reaches, as these are now: a definition that
// was kept names what others were.
func (c *Catalogue[D]) exists(tenant string, d D) bool {
	if c.deps.Reaches != nil {
		for _, name := range c.deps.Reaches(d) {
			if now, ok := c.byName[name]; ok && !Includes(c.deps.Tenants(now), tenant) {
				return false
			}
		}
	}
	return Includes(c.deps.Tenants(d), tenant)
}

func (c *Catalogue[D]) copy(d D) D {
	if c.deps.Clone == nil {
		return d
	}
	return c.deps.Clone(d)
}

// ByDigest finds a definition that is or was in this catalogue; NotFound for any other, those of an earlier process
// included.
func (c *Catalogue[D]) ByDigest(digest string) (D, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, ok := c.byDigest[digest]
	if !ok {
		return d, c.deps.NotFound.With("no %s with digest %q is known", c.deps.What, document.Printable(digest))
	}
	return c.copy(d), nil
}

// Names are those of the definitions that a tenant has, sorted.
func (c *Catalogue[D]) Names(tenant string) (names []string) {
	c.each(func(name string, d D) {
		if c.exists(tenant, d) {
			names = append(names, name)
		}
	})
	return names
}

// List is the definitions in force that a tenant has, by name.
func (c *Catalogue[D]) List(tenant string) []D {
	list := []D{}
	c.each(func(_ string, d D) {
		if c.exists(tenant, d) {
			list = append(list, c.copy(d))
		}
	})
	return list
}

// All is the definitions in force, whoever they are for, by name: for those who run the installation.
func (c *Catalogue[D]) All() []D {
	list := []D{}
	c.each(func(_ string, d D) { list = append(list, c.copy(d)) })
	return list
}

// each walks the definitions in force by name.
func (c *Catalogue[D]) each(do func(name string, d D)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, name := range slices.Sorted(maps.Keys(c.byName)) {
		do(name, c.byName[name])
	}
}
