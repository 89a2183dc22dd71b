package approval

import (
	"context"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/audit"
)

// Mail is told of what was posted to lanes, so that it arrives at once.
type Mail interface {
	Posted(ctx context.Context)
}

// Service decides. Its methods may be called concurrently.
type Service struct {
	Store
	mail Mail
}

// NewService makes a Service. What it decides wakes lanes through the store; mail only makes that sooner, nil is none.
func NewService(store Store, mail Mail) *Service { return &Service{store, mail} }

// Decide decides an approval for by, and returns it as it is then. Whoever repeats its own decision is answered as
// before; replayed says so. Errors: ErrNotFound, ErrDigest, ErrDecided with what was decided, ErrLevel, ErrOther,
// ErrDecision.
func (s *Service) Decide(ctx context.Context, d Decision) (a Approval, replayed bool, err error) {
	if len(d.Comment) > MaxComment {
		return a, false, ErrDecision.With("a comment has at most %d bytes", MaxComment)
	}
	if d.Comment = strings.TrimSpace(strings.ToValidUTF8(d.Comment, "")); strings.ContainsRune(d.Comment, 0) {
		return a, false, ErrDecision.With("a comment must not contain a NUL character")
	}
	if d.Scope == Session && !d.Approve {
		return a, false, ErrDecision.With("only an approval can be for the rest of the session")
	}
	if a, err = s.GetApproval(ctx, d.Tenant, d.ID); err != nil {
		return a, false, err
	}
	if err := a.Subject.Allowed(d.By); err != nil { // what it says never changes
		return a, false, err
	}
	decided := false
	// A client that leaves must not keep a decision from waking the lane.
	if a, decided, err = s.Store.DecideApproval(context.WithoutCancel(ctx), d); err != nil {
		return a, false, err
	}
	switch {
	case decided:
		if s.mail != nil {
			s.mail.Posted(context.WithoutCancel(ctx))
		}
		return a, false, nil
	case d.Same(&a):
		return a, true, nil
	}
	return a, false, ErrDecided.WithFacts(map[string]string{"state": a.State.String(), "decided_by": byName(a.By)},
		"%s", a.Ended())
}

// Ended says what became of an approval.
func (a *Approval) Ended() string {
	switch a.State {
	case Expired:
		return "nobody has decided in time: it has expired"
	case Withdrawn:
		return "it was withdrawn: the submission has ended, or does"
	}
	said := fmt.Sprintf("it was %s already", a.State)
	if by := byName(a.By); by != "" {
		said += " by " + by
	}
	if a.Comment != "" {
		said += ": " + a.Comment
	}
	return said
}

func byName(w *audit.Who) string {
	if w == nil {
		return ""
	}
	return w.Name
}
