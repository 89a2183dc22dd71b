package control

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// agents is the catalogue, which logs what a reload has changed.
type agents struct {
	*agent.Catalogue
	models  loop.Models
	tenants tenancy.Store
	log     *slog.Logger
}

// Reload implements api.Agents.
func (a agents) Reload() agent.Change {
	c := a.Catalogue.Reload()
	a.log.Info("agents reloaded", "added", c.Added, "changed", c.Changed, "removed", c.Removed, "problems",
		len(c.Problems))
	for _, p := range c.Problems {
		a.log.Error("an agent's file cannot be used", "agent", p.Name, "kept", p.Kept, "error", p.Err)
	}
	a.partless()
	c.Warnings = slices.Concat(c.Warnings, a.modelless(), a.searchless(), a.tenantless(), a.impatient())
	return c
}

// partless logs what of plugins cannot be used.
func (a agents) partless() {
	for _, w := range a.Catalogue.Warnings() {
		a.log.Warn("a part of a plugin cannot be used", "error", w.Message)
	}
}

// modelless tells of agents whose prompts will fail because their models cannot be asked.
func (a agents) modelless() (all []agent.Warning) {
	for _, d := range a.All() {
		if _, err := a.models.Model(d.Model); err != nil {
			a.log.Warn("prompts of an agent will fail", "agent", d.Name, "error", err)
			all = append(all, agent.Warning{Name: d.Name, Message: "its prompts will fail: " + err.Error()})
		}
		for _, ref := range d.Fallbacks {
			if _, err := a.models.Model(ref); err != nil {
				a.log.Warn("an agent cannot fall back on a model", "agent", d.Name, "error", err)
				all = append(all, agent.Warning{Name: d.Name, Message: "it cannot fall back: " + err.Error()})
			}
		}
		if ref := d.Compacts().Model; ref != nil {
			if _, err := a.models.Model(*ref); err != nil {
				a.log.Warn("conversations of an agent cannot be summarised", "agent", d.Name, "error", err)
				all = append(all, agent.Warning{
					Name: d.Name, Message: "its conversations cannot be summarised: " + err.Error(),
				})
			}
		}
	}
	return all
}

// searchless tells of agents that are to search the web with models whose API has no search.
func (a agents) searchless() (all []agent.Warning) {
	for _, d := range a.All() {
		for _, ref := range d.Models() {
			m, err := a.models.Model(ref)
			if !d.Search || err != nil || m.API().Searches() {
				continue
			}
			a.log.Warn("a model of an agent cannot search the web", "agent", d.Name, "model", ref.String())
			all = append(all, agent.Warning{
				Name: d.Name, Message: fmt.Sprintf("search: %s cannot search the web: its API has no search", ref),
			})
		}
	}
	return all
}

// impatient tells of rules that wait for a decision longer than a submission of their agent may run.
func (a agents) impatient() (all []agent.Warning) {
	for _, d := range a.All() {
		for _, n := range d.Unreachable() {
			a.log.Warn("a rule waits longer for an approval than a submission may run", "agent", d.Name, "rule", n,
				"timeout", d.Approve[n-1].Timeout, "limit", d.Limits.Timeout)
			all = append(all, agent.Warning{Name: d.Name, Message: fmt.Sprintf("rule %d of approve waits for %v, and "+
				"limits.timeout ends the submission after %v, whether or not it waits", n, d.Approve[n-1].Timeout,
				d.Limits.Timeout)})
		}
	}
	return all
}

// warnLimit bounds the time in which the database says which tenants there are.
const warnLimit = 5 * time.Second

// tenantless tells of agents for tenants that there are not. These may be made later: then they have the agents at
// once.
func (a agents) tenantless() (all []agent.Warning) {
	named := slices.DeleteFunc(a.All(), func(d agent.Definition) bool { return len(d.Tenants) == 0 })
	if len(named) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), warnLimit)
	defer cancel()
	there, err := a.tenants.ListTenants(ctx)
	if err != nil {
		a.log.Warn("whether there are the tenants that agents name could not be found out", "error", err)
		return nil
	}
	for _, d := range named {
		missing := slices.DeleteFunc(d.Tenants, func(name string) bool {
			return slices.ContainsFunc(there, func(t tenancy.Tenant) bool {
				return t.Name == name && t.DeletingAt.IsZero()
			})
		})
		if len(missing) > 0 {
			a.log.Warn("an agent is for tenants that there are not", "agent", d.Name, "tenants", missing)
			all = append(all, agent.Warning{
				Name: d.Name, Message: "it is for tenants that there are not: " + strings.Join(missing, ", "),
			})
		}
	}
	return all
}

// onSignal tells of what it starts with, and reloads at each signal until ctx ends.
func (a agents) onSignal(ctx context.Context, signals <-chan os.Signal) error {
	a.partless()
	a.tenantless() // logs it
	a.impatient()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
			a.Reload()
		}
	}
}

// pins keeps the definitions that submissions are pinned to: the catalogue has the present ones, the database all
// that were used.
type pins struct {
	catalogue *agent.Catalogue
	store     store.Definitions

	mu     sync.Mutex           // guards what follows
	stored map[string]time.Time // when, by digest; within storeAgain
	old    map[string]agent.Definition
}

// keptOld is how many definitions that are no longer in the catalogue are kept in memory. Each edit of a file leaves one.
const keptOld = 64

// storeAgain is how often a definition that is in use is stored: it is what keeps the stored one from being deleted
// as unused.
const storeAgain = time.Hour

func newPins(c *agent.Catalogue, s store.Definitions) *pins {
	return &pins{catalogue: c, store: s, stored: map[string]time.Time{}, old: map[string]agent.Definition{}}
}

// errDefinitionUnreadable settles submissions that are pinned to a definition that cannot be decoded.
var errDefinitionUnreadable = errs.New(errs.FailedPrecondition, "DEFINITION_UNREADABLE",
	"the definition that the prompt is pinned to cannot be read; submit it again to run with the agent's present one")

// PinAgent implements submission.Agents.
func (p *pins) PinAgent(ctx context.Context, tenant, name string) (submission.Pin, error) {
	digest, limits, err := p.catalogue.Digest(tenant, name)
	if err != nil {
		return submission.Pin{}, err
	}
	pin := submission.Pin{Digest: digest, Timeout: limits.Timeout}
	p.mu.Lock()
	at, known := p.stored[pin.Digest]
	p.mu.Unlock()
	now := time.Now()
	if known && now.Sub(at) < storeAgain {
		return pin, nil
	}
	def, err := p.catalogue.ByDigest(digest)
	if err != nil {
		return submission.Pin{}, err
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
	maps.DeleteFunc(p.stored, func(_ string, at time.Time) bool { return now.Sub(at) >= storeAgain })
	p.stored[pin.Digest] = now
	return pin, nil
}

// Definition implements loop.Definitions.
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
		return agent.Definition{}, fmt.Errorf("%w: %w", errDefinitionUnreadable, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.old) >= keptOld {
		clear(p.old) // those that are in use are read again
	}
	p.old[digest] = def
	return def, nil
}
