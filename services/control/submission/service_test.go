package submission

import (
	"context"
	"errors"
	"testing"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
)

// leaving is a database at which the client of an admission leaves before it is answered.
type leaving struct {
	Reader
	leave context.CancelFunc
}

func (l leaving) Admit(ctx context.Context, _ Admission) (Admitted, error) {
	l.leave()
	return Admitted{Lease: &lane.Lease{}}, ctx.Err()
}

// worker counts the leases that it got.
type worker struct {
	Worker
	started, given int
}

func (w *worker) Reserve() (string, bool) { return "owner", true }
func (w *worker) Start(lane.Lease)        { w.started++ }
func (w *worker) Unreserve()              { w.given++ }

// before is a database that has admitted one input.
type before struct{ Reader }

func (before) Admit(_ context.Context, a Admission) (Admitted, error) {
	if a.IdempotencyKey != "known" || !a.ReplayOnly {
		return Admitted{}, ErrNotFound
	}
	return Admitted{Replayed: true, Submission: Submission{Loop: lane.Loop{ID: "first"}}}, nil
}

var errGone = errors.New("the agent is gone")

type gone struct{}

func (gone) PinAgent(context.Context, string) (Pin, error) { return Pin{}, errGone }

// What was accepted before its agent was removed still answers who asks again under its key.
func TestReplayOutlivesItsAgent(t *testing.T) {
	s := NewService(before{}, gone{}, nil, &worker{}, nil)
	for idem, want := range map[string]error{"known": nil, "unknown": errGone, "": errGone} {
		in := Input{Key: session.Key{Agent: "a", Instance: "i"}, Message: "m", IdempotencyKey: idem}
		if got, err := s.Submit(t.Context(), in); !errors.Is(err, want) || err == nil && got.Submission.ID != "first" {
			t.Errorf("%q: %+v, %v", idem, got, err)
		}
	}
}

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
