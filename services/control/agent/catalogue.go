package agent

// Catalogue is the agents that a control plane has. Its methods may be called concurrently.
type Catalogue struct{}

// Load reads the definitions in dir, which may be absent, and adds the built-in ones. Every file with a problem is reported,
// one line per problem, and then there is no catalogue.
func Load(dir string, lookup Lookup, builtin ...Definition) (*Catalogue, error) { return nil, nil }

// Reload reads the directory again and swaps the definitions at once. On error nothing changes.
func (c *Catalogue) Reload() error { return nil }

// Get finds the present definition of a name; ErrNotFound.
func (c *Catalogue) Get(name string) (Definition, error) { return Definition{}, nil }

// ByDigest finds a definition that is or was in the catalogue since Load; ErrNotFound, also for those of an earlier process.
func (c *Catalogue) ByDigest(digest string) (Definition, error) { return Definition{}, nil }

// List is the present definitions, by name.
func (c *Catalogue) List() []Definition { return nil }
