package control

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// pins keeps the definitions that submissions are pinned to: the catalogue has the present ones, the database all that were used.
type pins struct {
	catalogue *agent.Catalogue
	store     store.Definitions

	mu     sync.Mutex // guards what follows
	stored map[string]bool
	old    map[string]agent.Definition
}

func newPins(c *agent.Catalogue, s store.Definitions) *pins {
	return &pins{catalogue: c, store: s, stored: map[string]bool{}, old: map[string]agent.Definition{}}
}

// PinAgent implements submission.Agents.
func (p *pins) PinAgent(ctx context.Context, name string) (submission.Pin, error) {
	def, err := p.catalogue.Get(name)
	if err != nil {
		return submission.Pin{}, err
	}
	pin := submission.Pin{Digest: def.Digest(), Timeout: def.Limits.Timeout}
	p.mu.Lock()
	known := p.stored[pin.Digest]
	p.mu.Unlock()
	if known {
		return pin, nil
	}
	body, err := json.Marshal(def)
	if err != nil {
		return submission.Pin{}, fmt.Errorf("encoding agent %s: %w", name, err)
	}
	if err := p.store.PutDefinition(ctx, pin.Digest, name, body); err != nil {
		return submission.Pin{}, fmt.Errorf("pinning agent %s: %w", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored[pin.Digest] = true
	return pin, nil
}

// Definition implements turn.Definitions.
func (p *pins) Definition(ctx context.Context, digest string) (agent.Definition, error) {
	if def, err := p.catalogue.ByDigest(digest); err == nil {
		return def, nil
	}
	p.mu.Lock()
	def, ok := p.old[digest]
	p.mu.Unlock()
	if ok {
		return def, nil
	}
	body, err := p.store.GetDefinition(ctx, digest)
	if err != nil {
		return agent.Definition{}, err
	}
	if err := json.Unmarshal(body, &def); err != nil {
		return agent.Definition{}, fmt.Errorf("decoding a pinned agent: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.old[digest] = def
	return def, nil
}
