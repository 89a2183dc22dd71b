package agent

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/pawl-dev/pawl/services/control/document"
)

// Catalogue is the agents that a control plane has. Its methods may be called concurrently; what they return is the
// caller's.
type Catalogue struct {
	dir     string
	later   bool // dir need not be there yet
	lookup  Lookup
	check   CheckModel
	builtin []Definition

	reload sync.Mutex // one Reload at a time, so that the last one to begin is the one that stays
	parts  library    // as they were last read; guarded by reload

	mu       sync.RWMutex // guards what follows
	byName   map[string]Definition
	digests  map[string]string     // of byName
	absent   map[string]absence    // of names that have no definition although they once had one, or have a file
	warnings []Warning             // of the last Reload
	byDigest map[string]Definition // never shrinks: submissions under way may have pinned any of them
}

// absence is why a name has no definition, which is told to those tenants that it would exist for.
type absence struct {
	why     error
	tenants []string
}

// Problem is a file, or a directory, that could not be taken over.
type Problem struct {
	Agent string // that the file defines, "" for a directory and for a part
	Err   error  // one line for each fault, with file, line, column and key
	Kept  bool   // the agent, or the part, keeps an earlier good definition

	tenants []string // that the agent would exist for
	minor   bool     // it costs a part of a plugin, and nothing else: it is told as a warning
}

// Change is what a Reload has changed. Names are sorted.
type Change struct {
	Added, Changed, Removed []string
	Problems                []Problem
	Warnings                []Warning
}

// Warning says that an agent which is in force is of no use to somebody as things are, or that a part of a plugin
// cannot be used.
type Warning struct {
	Agent   string // "" is a plugin
	Message string // one line
}

// Load reads the definitions in dir, "" for none, and the parts in the folders beside it, and adds the built-in
// definitions. lookup resolves the variables that env refers to; they must be set. check must not refuse a model, nil
// refuses none. Every problem of every file is reported, one line each, and then there is no catalogue.
func Load(dir string, lookup Lookup, check CheckModel, builtin ...Definition) (*Catalogue, error) {
	return load(dir, false, lookup, check, builtin)
}

// LoadIfThere is Load of a directory that need not exist: the first Reload that finds it reads it.
func LoadIfThere(dir string, lookup Lookup, check CheckModel, builtin ...Definition) (*Catalogue, error) {
	return load(dir, true, lookup, check, builtin)
}

func load(dir string, later bool, lookup Lookup, check CheckModel, builtin []Definition) (*Catalogue, error) {
	c := &Catalogue{
		dir:      dir,
		later:    later,
		lookup:   lookup,
		check:    check,
		builtin:  builtin,
		absent:   map[string]absence{},
		byDigest: map[string]Definition{},
	}
	var all []error
	for _, p := range c.Reload().Problems {
		all = append(all, p.Err)
	}
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the directories again and swaps all definitions at once. A file with a fault is reported, and its agent,
// or part, keeps the definition that it had; if a directory cannot be read, all do. Definitions that are replaced or
// gone can still be had by their digest.
func (c *Catalogue) Reload() Change {
	c.reload.Lock()
	defer c.reload.Unlock()
	dir := c.present()
	files, problems := readAll(dir, c.lookup, c.check, c.builtin)
	parts, broken, err := readParts(dir, c.lookup, c.parts)
	if files == nil {
		err = problems[0].Err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		return Change{Problems: []Problem{{Err: err, Kept: len(c.byName) > 0}}}
	}
	broken, c.warnings = sift(broken)
	c.parts = parts
	problems = append(problems, parts.embed(files)...)
	read, unlinked := link(files, problems, c.byName)
	problems = append(problems, unlinked...)
	absent := map[string]absence{}
	for i := range problems {
		p := &problems[i]
		if _, there := read[p.Agent]; there { // of another file, or built in
			p.Kept = true
			continue
		}
		if old, had := c.byName[p.Agent]; had {
			read[p.Agent], p.Kept = old, true
			continue
		}
		absent[p.Agent] = absence{p.Err, p.tenants}
	}
	change := compare(c.byName, read)
	change.Problems, change.Warnings = append(broken, problems...), slices.Clone(c.warnings)
	for _, name := range change.Removed {
		absent[name] = absence{
			ErrNotFound.With("agent %q was removed: its file is gone", name), c.byName[name].Tenants,
		}
	}
	for name, a := range c.absent {
		if _, there := read[name]; !there && absent[name].why == nil && errors.Is(a.why, ErrNotFound) {
			absent[name] = a
		}
	}
	c.byName, c.absent, c.digests = read, absent, map[string]string{}
	for name, d := range read {
		c.digests[name] = d.Digest()
		c.byDigest[c.digests[name]] = d
	}
	return change
}

// sift takes what is minor out of problems.
func sift(all []Problem) (problems []Problem, warnings []Warning) {
	for _, p := range all {
		if !p.minor {
			problems = append(problems, p)
			continue
		}
		for line := range strings.SplitSeq(p.Err.Error(), "\n") {
			if p.Kept {
				line += " (what was there before stays in force)"
			}
			warnings = append(warnings, Warning{Message: line})
		}
	}
	return problems, warnings
}

// Warnings are those of the last time that the directories were read.
func (c *Catalogue) Warnings() []Warning {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.warnings)
}

// present is the directory to read, "" while there is none and need not be. One that was there once has to be.
func (c *Catalogue) present() string {
	if c.later {
		if _, err := os.Stat(c.dir); errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		c.later = false
	}
	return c.dir
}

// compare is what has changed between two sets of definitions.
func compare(before, after map[string]Definition) Change {
	var c Change
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
	return c
}

// Get finds the present definition of a name, for a tenant. Errors: ErrNotFound, which says so when the agent was
// removed, and ErrInvalid when its file is broken and never was good.
func (c *Catalogue) Get(tenant, name string) (Definition, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, err := c.find(tenant, name)
	return d.clone(), err
}

func (c *Catalogue) find(tenant, name string) (Definition, error) {
	if d, ok := c.byName[name]; ok && c.exists(tenant, d) {
		return d, nil
	}
	if a, ok := c.absent[name]; ok && includes(a.tenants, tenant) {
		return Definition{}, a.why
	}
	return Definition{}, Missing(name)
}

// exists reports whether a tenant may have an agent and all that it can reach, as these are now: an agent may have kept
// an earlier definition, with sub-agents of that time.
func (c *Catalogue) exists(tenant string, d Definition) bool {
	for name := range d.Team {
		if now, ok := c.byName[name]; ok && !now.ExistsFor(tenant) {
			return false
		}
	}
	return d.ExistsFor(tenant)
}

// Digest is the digest of the present definition of a name, for a tenant, and the definition's limits. Errors are those
// of Get.
func (c *Catalogue) Digest(tenant, name string) (string, Limits, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, err := c.find(tenant, name)
	if err != nil {
		return "", Limits{}, err
	}
	return c.digests[name], d.Limits, nil
}

// ByDigest finds a definition that is or was in this catalogue; ErrNotFound for any other, those of an earlier
// process included.
func (c *Catalogue) ByDigest(digest string) (Definition, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, ok := c.byDigest[digest]
	if !ok {
		return Definition{}, ErrNotFound.With("no agent with digest %q is known", document.Printable(digest))
	}
	return d.clone(), nil
}

// Names is the names of the agents that a tenant has, sorted.
func (c *Catalogue) Names(tenant string) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var names []string
	for name, d := range c.byName {
		if c.exists(tenant, d) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// List is the present definitions of the agents that a tenant has, by name.
func (c *Catalogue) List(tenant string) []Definition {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.list(func(d Definition) bool { return c.exists(tenant, d) })
}

// All is the present definitions, whoever they are for, by name: for those who run the installation.
func (c *Catalogue) All() []Definition {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.list(func(Definition) bool { return true })
}

func (c *Catalogue) list(which func(Definition) bool) []Definition {
	list := make([]Definition, 0, len(c.byName))
	for d := range maps.Values(c.byName) {
		if which(d) {
			list = append(list, d.clone())
		}
	}
	slices.SortFunc(list, func(a, b Definition) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
