package control

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/tenancy"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// agents is the catalogues, which log what a reload has changed.
type agents struct {
	*agent.Catalogue
	workflows *workflow.Catalogue
	models    loop.Models
	tenants   tenancy.Store
	log       *slog.Logger
	reloaded  func() // is called when other workflows may be in force
}

// Reload implements api.Reloader. Workflows are read after the agents that they name.
func (a agents) Reload() (ofAgents, ofWorkflows catalogue.Change) {
	ofAgents = a.Catalogue.Reload()
	a.log.Info("agents reloaded", changed(ofAgents)...)
	for _, p := range ofAgents.Problems {
		a.log.Error("an agent's file cannot be used", "agent", p.Name, "kept", p.Kept, "error", p.Err)
	}
	a.partless()
	ofWorkflows = a.workflows.Reload()
	a.reloaded()
	a.log.Info("workflows reloaded", changed(ofWorkflows)...)
	for _, p := range ofWorkflows.Problems {
		a.log.Error("a workflow's file cannot be used", "workflow", p.Name, "kept", p.Kept, "error", p.Err)
	}
	a.doubtful()
	foreign, others := a.tenantless()
	ofAgents.Warnings = slices.Concat(ofAgents.Warnings, a.modelless(), a.searchless(), foreign, a.impatient())
	ofWorkflows.Warnings = append(ofWorkflows.Warnings, others...)
	return ofAgents, ofWorkflows
}

func changed(c catalogue.Change) []any {
	return []any{"added", c.Added, "changed", c.Changed, "removed", c.Removed, "problems", len(c.Problems)}
}

// partless logs what of plugins cannot be used.
func (a agents) partless() {
	for _, w := range a.Catalogue.Warnings() {
		a.log.Warn("a part of a plugin cannot be used", "error", w.Message)
	}
}

// doubtful logs what of workflows may be of no use.
func (a agents) doubtful() {
	for _, w := range a.workflows.Warnings() {
		a.log.Warn("a step of a workflow may fail", "workflow", w.Name, "error", w.Message)
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

// tenantless tells of agents and workflows for tenants that there are not. These may be made later: then they have them
// at once.
func (a agents) tenantless() (ofAgents, ofWorkflows []catalogue.Warning) {
	named := map[string][]string{} // tenants by agent
	runs := map[string][]string{}  // and by workflow
	for _, d := range a.All() {
		named[d.Name] = d.Tenants
	}
	for _, d := range a.workflows.All() {
		runs[d.Name] = d.Tenants
	}
	everyone := func(_ string, tenants []string) bool { return len(tenants) == 0 }
	maps.DeleteFunc(named, everyone)
	maps.DeleteFunc(runs, everyone)
	if len(named)+len(runs) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), warnLimit)
	defer cancel()
	there, err := a.tenants.ListTenants(ctx)
	if err != nil {
		a.log.Warn("whether there are the tenants that definitions name could not be found out", "error", err)
		return nil, nil
	}
	for _, s := range strangers(named, there) {
		a.log.Warn("an agent is for tenants that there are not", "agent", s.name, "tenants", s.tenants)
		ofAgents = append(ofAgents, s.warning())
	}
	for _, s := range strangers(runs, there) {
		a.log.Warn("a workflow is for tenants that there are not", "workflow", s.name, "tenants", s.tenants)
		ofWorkflows = append(ofWorkflows, s.warning())
	}
	return ofAgents, ofWorkflows
}

// stranger is a definition for tenants that are not there, or not for long.
type stranger struct {
	name    string
	tenants []string // that are missing
}

func (s stranger) warning() catalogue.Warning {
	return catalogue.Warning{
		Name: s.name, Message: "it is for tenants that there are not: " + strings.Join(s.tenants, ", "),
	}
}

// strangers are those of some definitions, of which named has the tenants.
func strangers(named map[string][]string, there []tenancy.Tenant) (all []stranger) {
	for _, name := range slices.Sorted(maps.Keys(named)) {
		missing := slices.DeleteFunc(slices.Clone(named[name]), func(name string) bool {
			return slices.ContainsFunc(there, func(t tenancy.Tenant) bool {
				return t.Name == name && t.DeletingAt.IsZero()
			})
		})
		if len(missing) > 0 {
			all = append(all, stranger{name, missing})
		}
	}
	return all
}

// onSignal tells of what it starts with, and reloads at each signal until ctx ends.
func (a agents) onSignal(ctx context.Context, signals <-chan os.Signal) error {
	a.partless()
	a.doubtful()
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
