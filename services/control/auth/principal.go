package auth

import (
	"context"
	"slices"
)

// Principal is who a request comes from.
type Principal struct {
	Kind     Kind
	Tenant   string
	TokenID  string   // "" when no stored token is behind it
	Name     string   // for logs
	Agents   []string // of a client; none is all
	Executor string   // of an executor
	Labels   Labels   // of an executor: those that it may claim
}

// mayAgent reports whether the principal's own limits include the agent.
func (p Principal) mayAgent(name string) bool {
	return p.Kind != Client || len(p.Agents) == 0 || slices.Contains(p.Agents, name)
}

// Limits returns the agents that the principal is limited to; nil is all.
func (p Principal) Limits() []string {
	if p.Kind != Client || len(p.Agents) == 0 {
		return nil
	}
	return slices.Clone(p.Agents)
}

// Known is which of these agents the principal may know of.
func (p Principal) Known(agents []string) []string {
	return slices.DeleteFunc(slices.Clone(agents), func(name string) bool { return !p.mayAgent(name) })
}

type principalKey struct{}

// NewContext returns a context that carries the principal.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns the request's principal. Without one it is the zero Principal, which nothing is allowed to.
func FromContext(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// principal is what a token stands for.
func (t Token) principal() Principal {
	return Principal{
		Kind: t.Kind, Tenant: t.Tenant, TokenID: t.ID, Name: t.Name, Agents: t.Agents, Executor: t.Executor,
		Labels: t.Labels,
	}
}
