package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// equal compares. What is left of a head's time passes while a test runs, and the age of a call grows.
func equal(t tester, what string, got, want any) {
	t.Helper()
	ends := cmp.Comparer(func(a, b lane.Ends) bool { return a.Why == b.Why && (a.In-b.In).Abs() < 10*time.Second })
	unordered := cmpopts.SortSlices(func(a, b call.Unconfirmed) bool { return a.CallID < b.CallID })
	if diff := cmp.Diff(want, got, ends, unordered, cmpopts.IgnoreFields(call.Call{}, "Age"),
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
	a.Owner = owner
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

// holder is an owner's view of the lane that it holds.
type holder struct {
	s     store.Store
	lease lane.Lease
}

func hold(s store.Store, l lane.Lease) *holder {
	l.Loops = slices.Clone(l.Loops)
	return &holder{s: s, lease: l}
}

func (h *holder) session() string  { return h.lease.Fence.LaneID }
func (h *holder) root() *lane.Loop { return h.lease.Root() }
func (h *holder) id() string       { return h.root().ID }

func (h *holder) owner(t tester) string {
	r, found, err := h.s.OwnerOf(ctx(t), h.session())
	ok(t, err)
	if !found {
		t.Fatalf("the lane has no owner")
	}
	return r.ID
}

// release hands the lane back.
func (h *holder) release(t tester, r lane.Release) {
	t.Helper()
	ok(t, h.s.Release(ctx(t), h.lease.Fence, r))
}

// draft is a commit of one step, or of more. Its id stays the same however often it is committed.
type draft struct {
	*lane.Step
	more []*lane.Step
	lane lane.Commit // what is not of a step
}

func (d *draft) commit() lane.Commit {
	c := d.lane
	c.Steps = []lane.Step{*d.Step}
	for _, s := range d.more {
		c.Steps = append(c.Steps, *s)
	}
	return c
}

// step is a commit of n entries and as many events, at least one, on top of the heads that the holder knows.
func (h *holder) step(n int) *draft { return h.stepOf(h.root(), n) }

func (h *holder) stepOf(loop *lane.Loop, n int) *draft {
	s := &lane.Step{LoopID: loop.ID, SessionID: loop.SessionID, EntryHead: loop.EntryHead}
	for i := range n {
		seq := s.EntryHead + int64(i) + 1
		s.Entries = append(s.Entries, session.Entry{
			Seq: seq, SubmissionID: loop.ID, Kind: session.Assistant, CreatedAt: someTime,
			Message: message(model.Assistant, fmt.Sprint("entry ", seq)),
		})
	}
	for i := range max(n, 1) {
		s.Events = append(s.Events, event.Event{
			Seq: h.lease.EventHead + int64(i) + 1, Time: someTime, SubmissionID: loop.ID, Turn: 1, Type: event.Text,
			Text: fmt.Sprint("epoch ", h.lease.Fence.Epoch),
		})
	}
	return &draft{Step: s, lane: lane.Commit{Fence: h.lease.Fence, ID: ident.New(), EventHead: h.lease.EventHead}}
}

// merge makes one commit of several.
func merge(first *draft, others ...*draft) *draft {
	seq := first.lane.EventHead
	for _, d := range append([]*draft{first}, others...) {
		for i := range d.Events {
			seq++
			d.Events[i].Seq = seq
		}
		if d != first {
			first.more = append(first.more, d.Step)
		}
	}
	return first
}

// child is a step that begins a sub-agent of a loop, with its input as the first entry.
func (h *holder) child(parent *lane.Loop) *draft {
	d := h.stepOf(&lane.Loop{ID: ident.New(), SessionID: ident.New()}, 1)
	call := ident.New()
	k := parent.Key
	k.Name += "/task:" + call
	d.Begin = &lane.Begin{
		RootID: h.id(), Key: k, ParentID: parent.SessionID, ParentCall: call, AgentDigest: "child's digest",
	}
	d.Entries[0].Kind = session.Input
	d.Progress = &lane.Progress{Phase: lane.PhaseModel, Turn: 1, InputEntry: 1}
	return d
}

// withChild begins a sub-agent of the root.
func (h *holder) withChild(t tester) *lane.Loop {
	t.Helper()
	h.commit(t, h.child(h.root()))
	return &h.lease.Loops[len(h.lease.Loops)-1]
}

// someTime is a time that every database keeps as it is.
var someTime = time.Date(2026, 2, 3, 4, 5, 6, 789000, time.UTC)

// end is a step that settles the root.
func (h *holder) end(continues bool) *draft {
	d := h.step(1)
	d.End = &lane.Settlement{Outcome: lane.Completed, ResultEntry: d.Entries[0].Seq}
	d.lane.Continue = continues
	return d
}

// park is a step of the root that rests the lane if no mail came after that of the lease.
func (h *holder) park(d time.Duration) *draft {
	c := h.step(0)
	c.lane.Park = &lane.Park{Mail: h.lease.Mail, For: d}
	return c
}

// commit commits and moves the holder's heads.
func (h *holder) commit(t tester, d *draft) lane.Committed {
	t.Helper()
	c := d.commit()
	out, err := h.s.Commit(ctx(t), c)
	ok(t, err)
	h.wrote(c)
	return out
}

func (h *holder) wrote(c lane.Commit) {
	h.lease.EventHead += int64(len(c.Events()))
	for _, s := range c.Steps {
		if b := s.Begin; b != nil {
			h.lease.Loops = append(h.lease.Loops, lane.Loop{
				ID: s.LoopID, LaneID: h.session(), RootID: b.RootID, SessionID: s.SessionID, Key: b.Key, Seq: 1,
				ParentCall: b.ParentCall, AgentDigest: b.AgentDigest,
			})
		}
		for i := range h.lease.Loops {
			if l := &h.lease.Loops[i]; l.ID == s.LoopID {
				l.EntryHead += int64(len(s.Entries))
				if p := s.Progress; p != nil {
					l.Phase, l.Turn, l.Usage = p.Phase, p.Turn, p.Usage
					l.InputEntry = max(l.InputEntry, p.InputEntry)
				}
			}
		}
	}
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
		if sub.Status != submission.SettledStatus {
			pending++
		}
		if sub.Status == submission.Running {
			running++
			for _, older := range c.Submissions[i+1:] {
				if older.Status != submission.SettledStatus {
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

func newCall(h *holder, turn, index int) call.Call {
	return call.Call{
		ID: ident.New(), LaneID: h.session(), LoopID: h.id(), Turn: turn, Index: index, EntrySeq: h.root().EntryHead + 1,
		ProviderID: "provider", Tool: "bash", Kind: 1, ArgsHash: []byte("args"),
	}
}

// twice runs f with both handles of the database.
func twice(t *testing.T, db DB, f func(t *testing.T, s store.Store)) {
	for name, s := range map[string]store.Store{"first": db.Store, "second": db.Second} {
		t.Run(name, func(t *testing.T) { f(t, s) })
	}
}
