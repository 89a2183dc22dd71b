package control

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// pins keeps the definitions that work is pinned to: the catalogue has the present ones, the database all that were
// used. Stored definitions are found by their digest, whatever they are of.
type pins[D catalogue.Definition] struct {
	catalogue *catalogue.Catalogue[D]
	store     store.Definitions
	// unreadable settles work that is pinned to a definition that cannot be decoded.
	unreadable error

	mu     sync.Mutex           // guards what follows
	stored map[string]time.Time // when, by digest; within storeAgain
	old    map[string]D
}

// keptOld is how many definitions that are no longer in the catalogue are kept in memory. Each edit of a file leaves
// one.
const keptOld = 64

// storeAgain is how often a definition that is in use is stored: it is what keeps the stored one from being deleted
// as unused.
const storeAgain = time.Hour

func makePins[D catalogue.Definition](c *catalogue.Catalogue[D], s store.Definitions, unreadable error) *pins[D] {
	return &pins[D]{
		catalogue: c, store: s, unreadable: unreadable, stored: map[string]time.Time{}, old: map[string]D{},
	}
}

// pin stores the definition in force of a name, which must not be changed. of is what it is stored as. Errors are those
// of Catalogue.Get.
func (p *pins[D]) pin(ctx context.Context, tenant, name, of string) (digest string, d D, err error) {
	if digest, d, err = p.catalogue.Present(tenant, name); err != nil {
		return "", d, err
	}
	p.mu.Lock()
	at, known := p.stored[digest]
	p.mu.Unlock()
	now := time.Now()
	if known && now.Sub(at) < storeAgain {
		return digest, d, nil
	}
	body, err := json.Marshal(d)
	if err != nil {
		return "", d, fmt.Errorf("encoding %s: %w", of, err)
	}
	if err := p.store.PutDefinition(ctx, digest, of, body); err != nil {
		return "", d, fmt.Errorf("pinning %s: %w", of, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.stored, func(_ string, at time.Time) bool { return now.Sub(at) >= storeAgain })
	p.stored[digest] = now
	return digest, d, nil
}

// Definition implements loop.Definitions.
func (p *pins[D]) Definition(ctx context.Context, digest string) (def D, err error) {
	if def, err = p.catalogue.ByDigest(digest); err == nil {
		return def, nil
	}
	p.mu.Lock()
	def, ok := p.old[digest]
	p.mu.Unlock()
	if ok {
		return def, nil
	}
	var none D
	body, err := p.store.GetDefinition(ctx, digest)
	if err != nil {
		return none, err
	}
	if err := json.Unmarshal(body, &def); err != nil {
		return none, fmt.Errorf("%w: %w", p.unreadable, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.old) >= keptOld {
		clear(p.old) // those that are in use are read again
	}
	p.old[digest] = def
	return def, nil
}

var errDefinitionUnreadable = errs.New(errs.FailedPrecondition, "DEFINITION_UNREADABLE",
	"the definition that the prompt is pinned to cannot be read; submit it again to run with the agent's present one")

// agentPins are those of submissions.
type agentPins struct{ *pins[agent.Definition] }

func newPins(c *agent.Catalogue, s store.Definitions) agentPins {
	return agentPins{makePins(c.Catalogue, s, errDefinitionUnreadable)}
}

// PinAgent implements submission.Agents.
func (p agentPins) PinAgent(ctx context.Context, tenant, name string) (submission.Pin, error) {
	digest, d, err := p.pin(ctx, tenant, name, name)
	return submission.Pin{Digest: digest, Timeout: d.Limits.Timeout}, err
}

// workflowPins are those of runs.
type workflowPins struct{ *pins[*workflow.Definition] }

func newWorkflowPins(c *workflow.Catalogue, s store.Definitions) workflowPins {
	return workflowPins{makePins(c, s, errDefinitionUnreadable.With("the definition that the run is pinned to cannot "+
		"be read; start the workflow again to run its present one"))}
}

// PinWorkflow implements run.Workflows.
func (p workflowPins) PinWorkflow(ctx context.Context, tenant, name string) (string, *workflow.Definition, error) {
	return p.pin(ctx, tenant, name, "workflow:"+name)
}

// Workflow implements run.Workflows.
func (p workflowPins) Workflow(ctx context.Context, digest string) (*workflow.Definition, error) {
	return p.Definition(ctx, digest)
}
