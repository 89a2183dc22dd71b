package control

import (
	"cmp"
	"slices"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/model"
)

// models tells of the models of this process.
type models struct {
	agents   *agent.Catalogue
	registry describer
}

// describer is a model.Registry.
type describer interface {
	Describe(ref model.Ref) model.Description
	Configured() []model.Ref
	Of(provider string) []model.Ref
}

// models are those of the registry. Only tests have models of another kind, of which nothing is known.
func (p *plane) models() models {
	known, _ := p.Models.(describer)
	return models{p.Agents, known}
}

// List implements api.Models.
func (m models) List(provider string) (all []model.Description) {
	if m.registry == nil {
		return nil
	}
	refs := m.registry.Of(provider)
	if provider == "" {
		refs = m.registry.Configured()
		for _, d := range m.agents.All() {
			refs = append(refs, d.Models()...)
			if other := d.Compacts().Model; other != nil {
				refs = append(refs, *other)
			}
		}
		slices.SortFunc(refs, func(a, b model.Ref) int { return cmp.Compare(a.String(), b.String()) })
	}
	for _, ref := range slices.Compact(refs) {
		all = append(all, m.registry.Describe(ref))
	}
	return all
}
