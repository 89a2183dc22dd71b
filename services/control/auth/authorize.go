package auth

import "slices"

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
