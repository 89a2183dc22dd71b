package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// Log is a log in memory.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String is what was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// tester is what helpers need of a test, so that they serve rapid's tests too.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// ctx is the test's context when it has one.
func ctx(t tester) context.Context {
	if c, ok := t.(interface{ Context() context.Context }); ok {
		return c.Context()
	}
	return context.Background()
}

func ok(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func refused(t tester, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error = %v, want %v", err, want)
	}
}

// large compares what is large at once, and not byte by byte.
var large = cmp.FilterValues(func(a, b json.RawMessage) bool { return len(a)+len(b) > 1000 },
	cmp.Comparer(func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }))

// equal compares. What is left of a head's time passes while a test runs, and the age of a call grows.
func equal(t tester, what string, got, want any) {
	t.Helper()
	ends := cmp.Comparer(func(a, b lane.Ends) bool { return a.Why == b.Why && (a.In-b.In).Abs() < 10*time.Second })
	unordered := cmpopts.SortSlices(func(a, b call.Unconfirmed) bool { return a.CallID < b.CallID })
	if diff := cmp.Diff(want, got, ends, unordered, large, cmpopts.IgnoreFields(call.Call{}, "Age"),
		cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, diff)
	}
}

func key(name string) session.Key {
	return session.Key{Tenant: session.DefaultTenant, Agent: "agent", Instance: "instance", Name: name}
}

func message(role model.Role, text string) model.Message {
	return model.Message{Role: role, Content: []model.Block{{Type: model.TextBlock, Text: text}}}
}

func input(text string) json.RawMessage {
	b, err := json.Marshal(message(model.User, text))
	if err != nil {
		panic(err)
	}
	return b
}

// someOptions are kept byte by byte.
var someOptions = lane.Options{ResultSchema: json.RawMessage(`{"type":"object","minProperties":1.0}`)}

func admission(name string) submission.Admission {
	return submission.Admission{
		ID: ident.New(), Key: key(name), Input: input("hi"), InputHash: []byte("hash"),
		AgentDigest: "digest",
	}
}

func admit(t tester, s store.Store, a submission.Admission) submission.Admitted {
	t.Helper()
	out, err := s.Admit(ctx(t), a)
	ok(t, err)
	return out
}

// queue admits to the named session without an owner.
func queue(t tester, s store.Store, name string) submission.Submission {
	t.Helper()
	return admit(t, s, admission(name)).Submission
}

// start admits to the idle named session and takes its lane.
func start(t tester, s store.Store, name, owner string) *holder {
	t.Helper()
	a := admission(name)
	a.Owner, a.Options = owner, someOptions
	out := admit(t, s, a)
	if out.Lease == nil {
		t.Fatalf("the admission did not take the lane")
	}
	return hold(s, *out.Lease)
}

func claimed(t tester, s store.Store, owner string, limit int) lane.Claimed {
	t.Helper()
	out, err := s.Claim(ctx(t), owner, lane.KindSession, limit)
	ok(t, err)
	return out
}

func claim(t tester, s store.Store, owner string, limit int) []lane.Lease {
	t.Helper()
	return claimed(t, s, owner, limit).Leases
}

// claimOne claims the only lane that is due.
func claimOne(t tester, s store.Store, owner string) *holder {
	t.Helper()
	leases := claim(t, s, owner, 10)
	if len(leases) != 1 {
		t.Fatalf("claimed %d lanes, want 1", len(leases))
	}
	return hold(s, leases[0])
}

func takeOver(t tester, s store.Store, owner string, dead ...string) []lane.Lease {
	t.Helper()
	out, err := s.TakeOver(ctx(t), owner, dead, 100)
	ok(t, err)
	return out.Leases
}

// die lets the holder's owner die, and takes the lane over.
func (h *holder) die(t tester, s store.Store) *holder {
	t.Helper()
	return hold(s, takeOver(t, s, live(t, s), h.owner(t))[0])
}

func get(t tester, s store.Store, id string) submission.Submission {
	t.Helper()
	sub, err := s.GetSubmission(ctx(t), session.DefaultTenant, id)
	ok(t, err)
	return sub
}

func find(t tester, s store.Store, name string) session.Session {
	t.Helper()
	found, err := s.FindSession(ctx(t), key(name))
	ok(t, err)
	return found
}

const leaseTTL = 15 * time.Second

// live registers a replica.
func live(t tester, s store.Store) string {
	t.Helper()
	id := ident.New()
	_, err := s.RegisterReplica(ctx(t), replica.Replica{ID: id}, leaseTTL)
	ok(t, err)
	return id
}

// contents is all that a store tells of a session.
type contents struct {
	Session     session.Session
	Children    []session.Session
	Submissions []submission.Submission
	Entries     []session.Entry
	Events      []event.Event
	Calls       []call.Call
	Owner       string
}

func read(t tester, s store.Store, id string) contents {
	t.Helper()
	c := readLane(t, s, id)
	for _, sub := range c.Submissions {
		for turn := range 4 {
			calls, err := s.TurnCalls(ctx(t), sub.ID, turn)
			ok(t, err)
			c.Calls = append(c.Calls, calls...)
		}
	}
	return c
}

// readLane is read without the calls.
func readLane(t tester, s store.Store, id string) (c contents) {
	t.Helper()
	c.Session = sessionOf(t, s, id)
	var err error
	c.Children, err = s.ListSessions(ctx(t), session.Filter{Tenant: session.DefaultTenant, ParentID: id, Limit: 100})
	ok(t, err)
	c.Submissions, err = s.ListSubmissions(ctx(t), id, 0, 1000)
	ok(t, err)
	c.Entries = entriesOf(t, s, id)
	c.Events, err = s.Events(ctx(t), id, 0, 1000)
	ok(t, err)
	owner, _, err := s.OwnerOf(ctx(t), id)
	ok(t, err)
	c.Owner = owner.ID
	return c
}

func sessionOf(t tester, s store.Store, id string) session.Session {
	t.Helper()
	got, err := s.GetSession(ctx(t), session.DefaultTenant, id)
	ok(t, err)
	return got
}

func entriesOf(t tester, s store.Store, id string) []session.Entry {
	t.Helper()
	got, err := s.Entries(ctx(t), id, 0, 1000)
	ok(t, err)
	return got
}

// consistent checks what must hold of every session at every time.
func consistent(t tester, s store.Store, id string) contents {
	t.Helper()
	c := readLane(t, s, id)
	pending, running := 0, 0
	for i, sub := range c.Submissions { // newest first
		if want := int64(len(c.Submissions) - i); sub.Seq != want {
			t.Errorf("submission %d has seq %d", want, sub.Seq)
		}
		if sub.Status != submission.SettledStatus && sub.Status != submission.Joined {
			pending++
		}
		if sub.Status == submission.Running {
			running++
			for _, older := range c.Submissions[i+1:] {
				if older.Status == submission.Queued && sub.WhenBusy != submission.Interrupt {
					t.Errorf("submission %d runs before %d has settled", sub.Seq, older.Seq)
				}
			}
		}
	}
	if c.Session.Pending != pending {
		t.Errorf("the session counts %d pending submissions and has %d", c.Session.Pending, pending)
	}
	if running > 1 {
		t.Errorf("%d submissions run at once", running)
	}
	for i, e := range c.Entries {
		if e.Seq != int64(i)+1 {
			t.Errorf("entry %d has seq %d", i+1, e.Seq)
		}
	}
	for i, e := range c.Events {
		if e.Seq != int64(i)+1 {
			t.Errorf("event %d has seq %d", i+1, e.Seq)
		}
	}
	if c.Session.EntryHead != int64(len(c.Entries)) || c.Session.EventHead != int64(len(c.Events)) {
		t.Errorf("heads are %d and %d, of %d entries and %d events", c.Session.EntryHead, c.Session.EventHead,
			len(c.Entries), len(c.Events))
	}
	return c
}

// twice runs f with both handles of the database.
func twice(t *testing.T, db DB, f func(t *testing.T, s store.Store)) {
	for name, s := range map[string]store.Store{"first": db.Store, "second": db.Second} {
		t.Run(name, func(t *testing.T) { f(t, s) })
	}
}
