package submission

import (
	"context"
	"testing"

	"github.com/pawl-dev/pawl/services/control/session"
)

// leaving is a database at which the client of an admission leaves before it is answered.
type leaving struct {
	Reader
	leave context.CancelFunc
}

func (l leaving) Admit(ctx context.Context, _ Admission) (Admitted, error) {
	l.leave()
	return Admitted{Lease: &Lease{}}, ctx.Err()
}

// worker counts the leases that it got.
type worker struct {
	Worker
	started, given int
}

func (w *worker) Reserve() (string, bool) { return "owner", true }
func (w *worker) Start(Lease)             { w.started++ }
func (w *worker) Unreserve()              { w.given++ }

type pinned struct{}

func (pinned) PinAgent(context.Context, string) (Pin, error) { return Pin{Digest: "d"}, nil }

// What was admitted begins, whether or not the client that asked for it is still there.
func TestAdmissionOutlivesItsClient(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	w := &worker{}
	s := NewService(leaving{leave: leave}, pinned{}, nil, w, nil)
	_, err := s.Submit(ctx, Input{Key: session.Key{Agent: "a", Instance: "i"}, Message: "m"})
	if err != nil || w.started != 1 || w.given != 0 {
		t.Errorf("%v; %d leases were started, %d slots given back", err, w.started, w.given)
	}
}
