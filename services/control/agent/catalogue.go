package agent

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pawl-dev/pawl/services/control/catalogue"
)

// Catalogue is the agents that a control plane has. Its methods may be called concurrently; what they return is the
// caller's. A file, or a part, with a fault is reported, and its agent, or the part, stays what it was. A tenant has an
// agent if it may have all that the agent can reach, as these are now.
type Catalogue struct {
	*catalogue.Catalogue[Definition]
	lookup  Lookup
	check   CheckModel
	builtin []Definition

	mu    sync.Mutex
	parts library // as they were last read; guarded by mu
}

// Problem is a file, or a directory, that could not be taken over. It has no name for a directory, and for a part.
type Problem = catalogue.Problem

// Change is what a Reload has changed.
type Change = catalogue.Change

// Warning says that an agent which is in force is of no use to somebody as things are, or, without a name, that a part
// of a plugin cannot be used.
type Warning = catalogue.Warning

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
	c := &Catalogue{lookup: lookup, check: check, builtin: builtin}
	var err error
	c.Catalogue, err = catalogue.Load(dir, later, catalogue.Deps[Definition]{
		What: "agent", NotFound: ErrNotFound, Read: c.read, Clone: Definition.clone,
		Tenants: func(d Definition) []string { return d.Tenants },
		Reaches: func(d Definition) []string { return slices.Collect(maps.Keys(d.Team)) },
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// read reads dir, and the folders of parts beside it.
func (c *Catalogue) read(dir string, old map[string]Definition) (catalogue.Reading[Definition], error) {
	files, problems, err := readAll(dir, c.lookup, c.check, c.builtin)
	if err != nil {
		return catalogue.Reading[Definition]{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	parts, broken, err := readParts(dir, c.lookup, c.parts)
	if err != nil {
		return catalogue.Reading[Definition]{}, err
	}
	warnings := parts.spread(c.parts)
	c.parts = parts
	problems = append(problems, parts.embed(files)...)
	found, unlinked := link(files, problems, old)
	return catalogue.Reading[Definition]{
		Found: found, Problems: slices.Concat(broken, problems, unlinked), Warnings: warnings,
	}, nil
}

// notice is a warning for each line of an error about a part of a plugin.
func notice(err error, kept bool) (warnings []Warning) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if kept {
			line += " (what was there before stays in force)"
		}
		warnings = append(warnings, Warning{Message: line})
	}
	return warnings
}

// Digest is the digest of the present definition of a name, for a tenant, and the definition's limits. Errors are those
// of Get.
func (c *Catalogue) Digest(tenant, name string) (string, Limits, error) {
	digest, d, err := c.Present(tenant, name)
	return digest, d.Limits, err
}
