package agent

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/pawl-dev/pawl/services/control/document"
)

// Catalogue is the agents that a control plane has. Its methods may be called concurrently; what they return is the caller's.
type Catalogue struct {
	dir     string
	lookup  Lookup
	check   CheckModel
	builtin []Definition

	reload sync.Mutex // one Reload at a time, so that the last one to begin is the one that stays

	mu       sync.RWMutex
	byName   map[string]Definition
	byDigest map[string]Definition // never shrinks: submissions under way may have pinned any of them
}

// Load reads the definitions in dir, "" for none, and adds the built-in ones. lookup resolves the variables that env
// refers to; they must be set. check must not refuse a model, nil refuses none. Every problem of every file is reported, one line each, and then there is no catalogue.
func Load(dir string, lookup Lookup, check CheckModel, builtin ...Definition) (*Catalogue, error) {
	c := &Catalogue{dir: dir, lookup: lookup, check: check, builtin: builtin, byDigest: map[string]Definition{}}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the directory again and swaps all definitions at once. On error nothing changes. Definitions that are replaced or
// gone can still be had by their digest.
func (c *Catalogue) Reload() error {
	c.reload.Lock()
	defer c.reload.Unlock()
	byName, err := readAll(c.dir, c.lookup, c.check, c.builtin)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byName = byName
	for _, d := range byName {
		c.byDigest[d.Digest()] = d
	}
	return nil
}

// Get finds the present definition of a name; ErrNotFound.
func (c *Catalogue) Get(name string) (Definition, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, ok := c.byName[name]
	if !ok {
		return Definition{}, Missing(name)
	}
	return d.clone(), nil
}

// ByDigest finds a definition that is or was in this catalogue; ErrNotFound for any other, those of an earlier process included.
func (c *Catalogue) ByDigest(digest string) (Definition, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, ok := c.byDigest[digest]
	if !ok {
		return Definition{}, ErrNotFound.With("no agent with digest %q is known", document.Printable(digest))
	}
	return d.clone(), nil
}

// List is the present definitions, by name.
func (c *Catalogue) List() []Definition {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := make([]Definition, 0, len(c.byName))
	for d := range maps.Values(c.byName) {
		list = append(list, d.clone())
	}
	slices.SortFunc(list, func(a, b Definition) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
