package auth

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/plural"
)

// Limits narrow what a client's role allows. The zero value limits nothing.
type Limits struct {
	Agents         []string `json:"agents,omitempty"`          // none is all
	Workflows      []string `json:"workflows,omitempty"`       // none is all, see Principal.Workflows
	InstancePrefix string   `json:"instance_prefix,omitempty"` // of the ids of instances
	Rate           Rate     `json:"rate,omitzero"`
	ForOthers      bool     `json:"for_others,omitempty"` // the client may say for whom it speaks
}

// Rate is how many requests a client may make. The zero value is as many as it likes.
type Rate struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst"` // how many may come at once
}

// maxRate bounds both.
const maxRate = 1_000_000

// maxListed bounds how many names a limit has.
const maxListed = 1000

// ErrRateLimited refuses a request of a client that makes more than its token allows.
var ErrRateLimited = errs.New(errs.ResourceExhausted, "RATE_LIMITED", "this token has made too many requests")

// ToSome reports whether they are to some agents, workflows or instances of the tenant.
func (l Limits) ToSome() bool {
	return len(l.Agents) > 0 || len(l.Workflows) > 0 || l.InstancePrefix != ""
}

// check completes and checks the limits of a token to be made.
func (l *Limits) check() error {
	for kind, names := range map[string][]string{"agents": l.Agents, "workflows": l.Workflows} {
		if len(names) > maxListed {
			return ErrTokenInvalid.With("a token is limited to at most %d %s", maxListed, kind)
		}
		for _, name := range names {
			if err := ident.CheckAgent(name); err != nil { // "" would be a limit that limits nothing
				return err
			}
		}
	}
	if l.InstancePrefix != "" {
		if err := ident.CheckInstance(l.InstancePrefix); err != nil {
			return fmt.Errorf("the prefix of instances: %w", err)
		}
	}
	return l.Rate.check()
}

func (r *Rate) check() error {
	switch {
	case r.PerSecond == 0 && r.Burst == 0:
		return nil
	case !(r.PerSecond > 0) || r.PerSecond > maxRate: // not a number, too
		return ErrTokenInvalid.With("a rate is above 0 and at most %d requests a second", maxRate)
	case r.Burst < 0 || r.Burst > maxRate:
		return ErrTokenInvalid.With("a burst is at most %d requests", maxRate)
	case r.Burst == 0:
		r.Burst = max(1, int(math.Ceil(r.PerSecond)))
	}
	return nil
}

// within reports whether a client with these limits may do nothing that one with the others may not.
func (l Limits) within(outer Limits) bool {
	return namesWithin(l.Agents, outer.Agents) && namesWithin(l.Workflows, outer.Workflows) &&
		strings.HasPrefix(l.InstancePrefix, outer.InstancePrefix) && l.Rate.within(outer.Rate)
}

func namesWithin(names, outer []string) bool {
	if len(outer) == 0 {
		return true
	}
	return len(names) > 0 &&
		!slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(outer, name) })
}

func (r Rate) within(outer Rate) bool {
	if outer == (Rate{}) {
		return true
	}
	return r != (Rate{}) && r.PerSecond <= outer.PerSecond && r.Burst <= outer.Burst
}

// Spend counts one request against the principal's rate. Fails with ErrRateLimited.
func (p Principal) Spend() error {
	if p.pace == nil {
		return nil
	}
	now := time.Now()
	one := p.pace.ReserveN(now, 1)
	wait := one.DelayFrom(now)
	if wait <= 0 {
		return nil
	}
	one.CancelAt(now)
	seconds := int64(math.Ceil(wait.Seconds()))
	return ErrRateLimited.WithFacts(map[string]string{errs.RetryAfter: fmt.Sprint(seconds)},
		"this token allows %v requests a second and %d at once; try again in %s",
		p.Limits.Rate.PerSecond, p.Limits.Rate.Burst, plural.Of(seconds, "second"))
}
