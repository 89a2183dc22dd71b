package auth

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/session"
)

// Authenticator finds who a secret stands for.
type Authenticator interface {
	Authenticate(ctx context.Context, secret string) (Principal, error)
}

// Guard is an Authenticator that can also refuse at once.
type Guard interface {
	Authenticator
	// Glance refuses a secret that Authenticate would refuse, if that is known from memory.
	Glance(ctx context.Context, secret string) error
}

// Open takes for an operator whoever is not known otherwise: for listeners that only this host's users reach, when they
// asked for it. Executors and replicas still say who they are.
type Open struct {
	Known Authenticator // nil knows nobody
}

// Authenticate implements Authenticator.
func (o Open) Authenticate(ctx context.Context, secret string) (Principal, error) {
	if secret != "" && o.Known != nil {
		if p, err := o.Known.Authenticate(ctx, secret); err == nil {
			return p, nil
		}
	}
	return Principal{Kind: Operator, Tenant: session.DefaultTenant, Name: "anonymous"}, nil
}

// Glance implements Guard.
func (Open) Glance(context.Context, string) error { return nil }
