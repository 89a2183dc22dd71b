package model

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Description is what is known of a model, and of how it is asked. It holds no secret.
type Description struct {
	Ref    Ref
	API    API // "" when the provider is not known
	Info   Info
	KeyEnv string // the variable that holds the key; "" when none is used
	KeySet bool
	// Problem is why the model cannot be asked, see Registry.Check; nil when nothing is known to be wrong.
	Problem error
}

// Describe tells what is known of ref, without calling or making anything.
func (r *Registry) Describe(ref Ref) Description {
	e, keyEnv, err := r.place(ref)
	d := Description{Ref: ref, API: e.API, Info: e.Info, KeyEnv: keyEnv, Problem: err}
	if r.deps.Info != nil && e.API != "" {
		d.Info = r.deps.Info(e, ref.ID)
	}
	if err == nil {
		_, d.Problem = r.endpoint(ref)
	}
	d.KeySet = keyEnv != "" && strings.TrimSpace(r.deps.Getenv(keyEnv)) != ""
	return d
}

// Configured are the models that the providers file has, by name.
func (r *Registry) Configured() (all []Ref) {
	for name, p := range r.config.Providers {
		for id := range p.Models {
			all = append(all, Ref{Provider: name, ID: id})
		}
	}
	return sorted(all)
}

// Of are the models that are known of a provider, by name: those of the catalogue and those of the providers file.
func (r *Registry) Of(provider string) (all []Ref) {
	ids := map[string]bool{}
	if r.deps.IDs != nil {
		for _, id := range r.deps.IDs(provider) {
			ids[id] = true
		}
	}
	for id := range r.config.Providers[provider].Models {
		ids[id] = true
	}
	for id := range maps.Keys(ids) {
		all = append(all, Ref{Provider: provider, ID: id})
	}
	return sorted(all)
}

func sorted(all []Ref) []Ref {
	slices.SortFunc(all, func(a, b Ref) int { return cmp.Compare(a.String(), b.String()) })
	return all
}
