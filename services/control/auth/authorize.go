package auth

import (
	"context"
	"slices"
)

// Verb is what somebody wants to do.
type Verb string

// Verbs. Each route and RPC has exactly one.
const (
	ReadAgents    Verb = "read agents"
	ReloadAgents  Verb = "reload agents"
	Prompt        Verb = "prompt an agent" // and abort
	ReadSessions  Verb = "read sessions"   // submissions, entries and events too
	MoveSessions  Verb = "move sessions to other executors"
	UseFiles      Verb = "use the files of sessions"
	ReadExecutors Verb = "read executors"
	UseExecutors  Verb = "use the files of executors"
	Connect       Verb = "connect as an executor"
	ManageTokens  Verb = "manage tokens"
	Inspect       Verb = "inspect the server" // reflection
	Forward       Verb = "forward between replicas"
)

// Resource is what it is done to. Empty fields are not looked at: a verb with an empty Resource asks whether the
// principal may do such a thing at all.
type Resource struct {
	Tenant   string
	Agent    string
	Executor string
	// Missing is told to a principal for whom the resource is foreign, so that it cannot tell foreign from absent. Nil
	// tells ErrForbidden.
	Missing error
}

// allowed is the whole table. What is not in it is forbidden.
var allowed = map[Verb][]Kind{
	ReadAgents:    {Operator, Client},
	ReloadAgents:  {Operator},
	Prompt:        {Operator, Client},
	ReadSessions:  {Operator, Client},
	MoveSessions:  {Operator},
	UseFiles:      {Operator, Client},
	ReadExecutors: {Operator},
	UseExecutors:  {Operator},
	Connect:       {Operator, Executor},
	ManageTokens:  {Operator},
	Inspect:       {Operator},
	Forward:       {Peer},
}

// Authorize is the one authorization check, for gRPC and HTTP alike. Fails with ErrUnauthenticated without a principal,
// with ErrForbidden when this kind of principal never may, and with r.Missing when it may not do it to this resource.
func Authorize(p Principal, v Verb, r Resource) error {
	if p.Kind == "" {
		return ErrUnauthenticated
	}
	if !slices.Contains(allowed[v], p.Kind) {
		return ErrForbidden.With("this token does not allow to %s", string(v))
	}
	foreign := r.Tenant != "" && r.Tenant != p.Tenant ||
		r.Agent != "" && !p.mayAgent(r.Agent) ||
		r.Executor != "" && p.Kind == Executor && r.Executor != p.Executor
	switch {
	case !foreign:
		return nil
	case r.Missing != nil:
		return r.Missing
	case v == Connect:
		return ErrForbidden.With("this token allows to connect as executor %q only", p.Executor)
	}
	return ErrForbidden
}

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
