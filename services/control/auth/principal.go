package auth

import (
	"context"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// Principal is who a request comes from.
type Principal struct {
	Kind     Kind
	Tenant   string
	Role     Role   // of a client
	TokenID  string // "" when no stored token is behind it
	Name     string // for people
	Source   string // the address of the host that the request comes from; "" is within this process
	Limits   Limits // of a client
	Executor string // of an executor
	Shared   bool   // of an executor: it serves every tenant
	Labels   Labels // of an executor: those that it may claim

	named bool          // its Tenant is one that the request names, rather than its token's
	hash  []byte        // of its token's secret; nil when no stored token is behind it
	pace  *rate.Limiter // of its token; nil has no limit
	ends  time.Time     // when its token expires, on this process's own clock; zero is never
}

// mayAgent reports whether the principal's own limits include the agent.
func (p Principal) mayAgent(name string) bool {
	return len(p.Limits.Agents) == 0 || slices.Contains(p.Limits.Agents, name)
}

// Workflows are the workflows that the principal is limited to; all says that it is not. A workflow prompts whichever
// agents and instances it likes: who is limited to some of these may run none that is not named.
func (p Principal) Workflows() (names []string, all bool) {
	if len(p.Limits.Workflows) > 0 {
		return slices.Clone(p.Limits.Workflows), false
	}
	return nil, len(p.Limits.Agents) == 0 && p.Limits.InstancePrefix == ""
}

func (p Principal) mayWorkflow(name string) bool {
	names, all := p.Workflows()
	return all || slices.Contains(names, name)
}

// Known is which of these agents the principal may know of.
func (p Principal) Known(agents []string) []string {
	return slices.DeleteFunc(slices.Clone(agents), func(name string) bool { return !p.mayAgent(name) })
}

// manages reports whether the principal may see and revoke a token: an operator each, an admin those of its tenant's
// clients that can do nothing that it cannot do itself.
func (p Principal) manages(t Token) bool {
	return p.Kind == Operator || t.Kind == Client && t.Tenant == p.Tenant && t.Limits.within(p.Limits)
}

// mayMake fails if the principal may not make a token like t that lasts for so long, 0 for ever.
func (p Principal) mayMake(t Token, life time.Duration) error {
	if p.Kind == Operator {
		return nil
	}
	left := time.Until(p.ends)
	switch {
	case t.Kind != Client:
		return ErrForbidden.With("only operators make tokens of operators and of executors")
	case t.Tenant != p.Tenant:
		return ErrForbidden.With("only operators make tokens of other tenants")
	case !t.Limits.within(p.Limits):
		return ErrForbidden.With("this token is limited, and makes tokens within its own limits only: name some of "+
			"its agents (%s) and workflows (%s), instances that begin with %q, and a rate that is no higher",
			strings.Join(p.Limits.Agents, ", "), strings.Join(p.Limits.Workflows, ", "), p.Limits.InstancePrefix)
	case !p.ends.IsZero() && (life == 0 || life > left):
		return ErrForbidden.With("this token expires in %s, and makes tokens that expire before it only",
			left.Round(time.Second))
	}
	return nil
}

// Speaker is the principal as one who submits an input, on behalf of another one if that is not "". Fails with
// ErrForbidden if its token does not say that it may speak for others.
func (p Principal) Speaker(onBehalfOf string) (*model.Speaker, error) {
	if onBehalfOf != "" {
		if p.Kind != Client || !p.Limits.ForOthers {
			return nil, ErrForbidden.With("this token does not allow to speak for others: leave on_behalf_of out, or " +
				"use a client's token made with --may-speak-for-others")
		}
		if err := ident.CheckText("on_behalf_of", onBehalfOf, 255); err != nil {
			return nil, err
		}
	}
	return &model.Speaker{
		TokenID: p.TokenID, Role: string(p.Role), Name: p.Name, OnBehalfOf: onBehalfOf,
	}, nil
}

type principalKey struct{}

// NewContext returns a context that carries the principal, and is within the tenant that it cannot cross.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(p.within(ctx), principalKey{}, p)
}

// within is the one place that says who crosses tenants: operators do, executors report calls of every tenant that they
// serve, and replicas pass on what others may do. All others stay within their own, in the database too.
func (p Principal) within(ctx context.Context) context.Context {
	switch p.Kind {
	case Operator, Executor, Peer:
		return tenancy.Everywhere(ctx)
	}
	return tenancy.Within(ctx, p.Tenant)
}

// FromContext returns the request's principal. Without one it is the zero Principal, which nothing is allowed to.
func FromContext(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// principal is what a token stands for.
func (t Token) principal() Principal {
	return Principal{
		Kind: t.Kind, Tenant: t.Tenant, Role: t.Role, TokenID: t.ID, Name: t.Name, Limits: t.Limits,
		Executor: t.Executor, Shared: t.Shared, Labels: t.Labels,
	}
}
