package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
)

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
	return &draft{Step: s, lane: lane.Commit{
		Fence: h.lease.Fence, Kind: h.lease.Kind, ID: ident.New(), EventHead: h.lease.EventHead,
	}}
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
		Options: someOptions,
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
				ParentCall: b.ParentCall, AgentDigest: b.AgentDigest, Options: b.Options,
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

func newCall(h *holder, turn, index int) call.Call {
	return call.Call{
		ID: ident.New(), LaneID: h.session(), LoopID: h.id(), Turn: turn, Index: index, EntrySeq: h.root().EntryHead +
			1,
		ProviderID: "provider", Tool: "bash", Kind: 1, ArgsHash: []byte("args"),
	}
}
