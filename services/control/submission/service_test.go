package submission

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/pawl-dev/pawl/services/control/event"
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
	return Admitted{Lease: &lane.Lease{Loops: make([]lane.Loop, 1)}}, ctx.Err()
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

func (gone) PinAgent(context.Context, string, string) (Pin, error) { return Pin{}, errGone }

// What was accepted before its agent was removed still answers who asks again under its key.
func TestReplayOutlivesItsAgent(t *testing.T) {
	s := NewService(before{}, gone{}, nil, &worker{}, nil)
	for idem, want := range map[string]error{"known": nil, "unknown": errGone, "": errGone} {
		in := Input{Key: session.Key{Agent: "a", Instance: "i"}, Message: "m", IdempotencyKey: idem}
		got, err := s.Submit(t.Context(), in)
		if !errors.Is(err, want) || err == nil && got.Submission.ID != "first" {
			t.Errorf("%q: %+v, %v", idem, got, err)
		}
		if err == nil && (got.Submission.Reason != ReasonDeleted || got.Submission.Message == "") {
			t.Errorf("nothing is said of the session that is gone: %+v", got.Submission)
		}
	}
}

type pinned struct{}

func (pinned) PinAgent(context.Context, string, string) (Pin, error) { return Pin{Digest: "d"}, nil }

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

// What is asked for beside a message is part of what an idempotency key stands for. The hash of a message alone is as
// receipts of old have it.
func TestOptionsArePartOfWhatAKeyStandsFor(t *testing.T) {
	hashes := map[string]string{}
	for _, in := range []Input{
		{Message: "m"},
		{Message: "n"},
		{Message: "m", Options: lane.Options{ResultSchema: []byte(`{}`)}},
		{Message: "m", Options: lane.Options{ResultSchema: []byte(`{"type": "object"}`)}},
		{Message: "m", Images: [][]byte{{1}}},
		{Message: "m", Images: [][]byte{{1}, {2}}},
		{Message: "m", Files: []string{"a"}},
		{Message: "m", Files: []string{"b"}},
	} {
		hash, err := in.hash()
		if err != nil {
			t.Fatal(err)
		}
		if other, known := hashes[string(hash)]; known {
			t.Errorf("%+v has the hash of %s", in, other)
		}
		hashes[string(hash)] = fmt.Sprintf("%+v", in)
	}
	if of := sha256.Sum256([]byte("m")); hashes[string(of[:])] == "" {
		t.Error("the hash of a message alone has changed")
	}
}

// Whoever follows a submission gets the events of those that work for it, wherever a batch is cut, and no others.
func TestFollowersGetTheEventsOfTheTree(t *testing.T) {
	of := func(root string) *event.Loop { return &event.Loop{Task: "t", Root: root} }
	batch := []event.Event{
		{Seq: 1, SubmissionID: "child", Loop: of("before")},
		{Seq: 2, SubmissionID: "before"},
		{Seq: 3, SubmissionID: "child", Loop: of("mine")},
		{Seq: 4, SubmissionID: "mine"},
		{Seq: 5, SubmissionID: "child", Loop: of("mine")},
		{Seq: 6, SubmissionID: "after"},
	}
	for id, want := range map[string][2]int64{"before": {1, 2}, "mine": {3, 5}, "after": {6, 6}} {
		got := ofSubmission(batch, id)
		if len(got) != int(want[1]-want[0]+1) || got[0].Seq != want[0] {
			t.Errorf("%s: %d events from %v, want %v", id, len(got), got, want)
		}
	}
	if got := ofSubmission(batch, "child"); len(got) != 0 {
		t.Errorf("what is no root has %d events", len(got))
	}
}

// joined is a database with a submission that has joined another.
type joined struct{ Reader }

func (joined) GetSubmission(context.Context, string, string) (Submission, error) {
	return Submission{Status: Joined, Host: "host"}, nil
}

// Whoever follows a submission that has joined another sees the end of that, although the events up to there were
// deleted meanwhile.
func TestFollowersOutliveTheEventOfAJoin(t *testing.T) {
	s := NewService(joined{}, pinned{}, nil, nil, nil)
	f := Following{service: s, Submission: Submission{Loop: lane.Loop{ID: "s"}}}
	if over, err := f.left(t.Context(), false); over || err != nil {
		t.Fatal(over, err)
	}
	end := []event.Event{{Seq: 9, SubmissionID: "host", Type: event.Settled}}
	if got := f.mine(end); len(got) != 1 || f.Submission.Host != "host" {
		t.Errorf("it sees %v of %+v", got, f.Submission)
	}
}

// keeping keeps what is admitted.
type keeping struct {
	Reader
	options *lane.Options
}

func (a keeping) Admit(_ context.Context, of Admission) (Admitted, error) {
	*a.options = of.Options
	return Admitted{Lease: &lane.Lease{Loops: make([]lane.Loop, 1)}}, nil
}

// A schema has the same bytes for whoever begins a submission and for whoever takes it over.
func TestOptionsAreAdmittedAsTheyAreStored(t *testing.T) {
	var got lane.Options
	s := NewService(keeping{options: &got}, pinned{}, nil, &worker{}, nil)
	key := session.Key{Agent: "a", Instance: "i"}
	_, err := s.Submit(t.Context(), Input{Key: key, Message: "m", Options: lane.Options{
		ResultSchema: []byte(`{"type": "object", "description": "<x>"}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := got.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if later, err := lane.DecodeOptions(text); err != nil || string(later.ResultSchema) != string(got.ResultSchema) {
		t.Errorf("%s begins, and %s is taken over: %v", got.ResultSchema, later.ResultSchema, err)
	}
}
