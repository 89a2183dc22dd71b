package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

var someUsage = model.Usage{
	Input: 1, Output: 2, CacheRead: 3, CacheWrite: 4, Searches: 5,
	Cost: model.Cost{Input: .5, Output: .25, CacheRead: 1, CacheWrite: 2, Search: 4},
}

var commitCases = []testCase{
	{"writes entries and events as they are", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c := h.step(2)
		c.Entries[0].Message = model.Message{
			Role: model.Assistant, Model: &model.Ref{Provider: "p", ID: "m"}, Usage: &someUsage, Stop: model.StopTools,
			Content: []model.Block{
				{
					Type: model.ToolCallBlock, CallID: "c", Tool: "bash", Args: []byte(`{"a":"\u0000"}`),
					Opaque: []byte(`{"signature":"x"}`),
				},
				{Type: model.ImageBlock, Image: &model.Image{MediaType: "image/png", Data: []byte{0, 1, 255}}},
			},
		}
		c.Entries[1].Kind, c.Entries[1].SubmissionID = session.Assistant, ""
		c.Events = everyEvent(h.lease.EventHead, h.id())
		h.commit(t, c)
		got := consistent(t, db.Second, h.session())
		equal(t, "entries", got.Entries[1:], c.Entries)
		equal(t, "events", got.Events[1:], c.Events)
	}},
	{"dates what comes without a date", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c := h.step(1)
		c.Entries[0].CreatedAt = time.Time{}
		h.commit(t, c)
		if got := read(t, db.Store, h.session()).Entries[1].CreatedAt; got.Before(h.root().StartedAt) {
			t.Errorf("an entry without a date got %v", got)
		}
	}},
	{"moves the submission on and drops the input once it is an entry", func(t *testing.T, db DB) {
		queue(t, db.Store, "a")
		h := claimOne(t, db.Store, live(t, db.Store))
		want := get(t, db.Store, h.id())
		for i, p := range []lane.Progress{
			{Phase: lane.PhaseModel, Turn: 1, InputEntry: 1},
			{Phase: lane.PhaseTools, Turn: 1, Usage: someUsage},
			// it was set before
			{Phase: lane.PhaseModel, Turn: 2, InputEntry: 7, Usage: someUsage.Add(someUsage)},
		} {
			c := h.step(1)
			c.Progress = &p
			h.commit(t, c)
			want.Phase, want.Turn, want.Usage, want.InputEntry, want.Input = p.Phase, p.Turn, p.Usage, 1, nil
			want.EntryHead = int64(i) + 1
			equal(t, "the submission", get(t, db.Second, want.ID), want)
		}
	}},
	{"counts what came to nothing, and that is no progress", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store)).die(t, db.Second)
		c := h.step(0)
		c.Spent = &someUsage
		h.commit(t, c)
		want := get(t, db.Store, h.id())
		if want.Usage != someUsage || want.Stalls != 1 || want.Phase != lane.PhaseModel {
			t.Errorf("it is %+v", want)
		}
	}},
	{"keeps with which model a loop goes on", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c := h.step(0)
		c.Model, c.Spent = "second/m", &someUsage
		h.commit(t, c)
		c = h.step(1) // says nothing of it
		c.Progress = &lane.Progress{Phase: lane.PhaseTools, Turn: 1, Usage: someUsage}
		h.commit(t, c)
		h = h.die(t, db.Second)
		if got := h.lease.Loops[0].Model; got != "second/m" {
			t.Errorf("its next owner is told of the model %q", got)
		}
		h.commit(t, h.end(false))
		if got := get(t, db.Store, h.id()); got.SettledAt.IsZero() || got.Model == "second/m" {
			t.Errorf("it ended with %q", got.Model)
		}
	}},
	{"keeps the input until it is an entry", func(t *testing.T, db DB) {
		queue(t, db.Store, "a")
		h := claimOne(t, db.Store, live(t, db.Store))
		c := h.step(0)
		c.Progress = &lane.Progress{}
		h.commit(t, c)
		if got := get(t, db.Store, h.id()); got.Input == nil || got.InputEntry != 0 {
			t.Errorf("the input is gone: %+v", got)
		}
	}},
	{"records model calls, and what they began with once", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		for n := 1; n <= 3; n++ {
			c := h.step(1)
			c.Turn = &lane.Turn{
				Turn:  max(n-1, 1), // the first turn has two: another model went on
				Model: "p/m", Request: []byte("request"), Prefix: []byte("prefix"), Usage: someUsage, Attempts: 2,
				FirstToken: time.Second, Duration: time.Minute, Stop: "stop", Error: "error",
			}
			if n < 3 {
				c.Turn.PrefixBody = []byte("body")
			}
			h.commit(t, c)
		}
		consistent(t, db.Second, h.session())
	}},
	{"binds the workspace", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c := h.step(0)
		c.lane.Executor = "executor"
		h.commit(t, c)
		h.commit(t, h.end(false)) // names none, which unbinds nothing
		if got := find(t, db.Second, "a").Executor; got != "executor" {
			t.Errorf("the session is bound to %q", got)
		}
		a := admission("a")
		a.Owner = ident.New()
		if got := admit(t, db.Second, a).Lease; got == nil || got.Executor != "executor" {
			t.Errorf("the lease does not tell the executor: %+v", got)
		}
	}},
	{"succeeds again when its answer was lost", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		for name, change := range map[string]func(*draft){
			"plain":   func(*draft) {},
			"settled": func(c *draft) { c.End = &lane.Settlement{Outcome: lane.Completed} },
			"continued": func(c *draft) {
				c.End, c.lane.Continue = &lane.Settlement{Outcome: lane.Failed}, true
			},
			"parked":     func(c *draft) { c.lane.Park = &lane.Park{For: time.Hour} },
			"not parked": func(c *draft) { c.lane.Park = &lane.Park{Mail: 9, For: time.Hour} },
		} {
			for waiting := range 2 {
				h := start(t, db.Store, fmt.Sprint(name, waiting), owner)
				for range waiting {
					queue(t, db.Store, h.root().Key.Name)
				}
				c := h.step(2)
				change(c)
				c.Calls = append(c.Calls, newCall(h, 1, 0))
				first := h.commit(t, c)
				before := read(t, db.Store, h.session())
				again, err := db.Second.Commit(ctx(t), c.commit())
				ok(t, err)
				equal(t, name+": the answer", again, first)
				equal(t, name+": the session", read(t, db.Store, h.session()), before)
			}
		}
	}},
	{"is no retry of another, and none once the lane has gone", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c, other := h.step(1), h.step(1)
		h.commit(t, c)
		before := read(t, db.Store, h.session())
		_, err := db.Store.Commit(ctx(t), other.commit()) // the same in all but its id
		refused(t, err, lane.ErrFenced)
		h.release(t, lane.Release{})
		_, err = db.Store.Commit(ctx(t), c.commit())
		refused(t, err, lane.ErrFenced)
		claimOne(t, db.Second, live(t, db.Store))
		_, err = db.Store.Commit(ctx(t), c.commit())
		refused(t, err, lane.ErrFenced)
		before.Owner = ""
		after := read(t, db.Store, h.session())
		after.Owner = ""
		equal(t, "the session", after, before)
	}},
	{"refuses what contradicts the rows", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		other := start(t, db.Store, "b", live(t, db.Store))
		before := read(t, db.Store, h.session())
		for name, change := range map[string]func(*draft){
			"no event":        func(c *draft) { c.Events = nil },
			"event too far":   func(c *draft) { c.Events[1].Seq++ },
			"entry too far":   func(c *draft) { c.Entries[1].Seq++ },
			"entry too early": func(c *draft) { c.Entries[0].Seq-- },
			"stale head":      func(c *draft) { c.EntryHead, c.Entries[0].Seq, c.Entries = 0, 1, c.Entries[:1] },
			"stale head, no entry": func(c *draft) {
				c.EntryHead, c.Entries, c.Progress = c.EntryHead-1, nil, &lane.Progress{Phase: lane.PhaseTools, Turn: 1}
			},
			"no such loop": func(c *draft) { c.LoopID = ident.New() },
			"loop of another lane": func(c *draft) {
				c.LoopID, c.SessionID = other.id(), other.session()
			},
			"parks and ends": func(c *draft) {
				c.End, c.lane.Park = &lane.Settlement{Outcome: lane.Completed}, &lane.Park{}
			},
		} {
			c := h.step(2)
			change(c)
			_, err := db.Store.Commit(ctx(t), c.commit())
			if err == nil || errors.Is(err, lane.ErrFenced) || errs.Temporary(err) {
				t.Errorf("%s: %v", name, err)
			}
			equal(t, name+": the session", read(t, db.Store, h.session()), before)
		}
	}},
	{"writes everything or nothing, beside others", func(t *testing.T, db DB) {
		const n = 12
		owner := live(t, db.Store)
		holders := make([]*holder, n)
		for i := range holders {
			holders[i] = start(t, db.Store, string(rune('a'+i)), owner)
		}
		taken := newCall(holders[0], 1, 0)
		c := holders[0].step(1)
		c.Calls = append(c.Calls, taken)
		holders[0].commit(t, c)
		failed := make([]error, n)
		together(t, n, func(i int) error {
			c := holders[i].end(false)
			if i%3 == 1 {
				c.Calls = append(c.Calls, taken) // the id is there
			}
			_, failed[i] = db.Store.Commit(ctx(t), c.commit())
			return nil
		})
		for i, h := range holders {
			want := 0
			if i%3 == 1 {
				want = 1
			}
			got := consistent(t, db.Second, h.session())
			if (failed[i] != nil) != (want == 1) || got.Session.Pending != want {
				t.Errorf("commit %d: %v, %d pending", i, failed[i], got.Session.Pending)
			}
			if want == 1 && len(got.Entries) != 1 {
				t.Errorf("commit %d failed and left an entry", i)
			}
		}
	}},
}

// everyEvent is one event of every type, with every field that it uses.
func everyEvent(head int64, sub string) []event.Event {
	events := []event.Event{
		{Type: event.Started, EntrySeq: 1},
		{Type: event.EntryAdded, EntrySeq: 2},
		{Type: event.Text, Text: "a\x00\u2028<b>"},
		{Type: event.Thinking, Text: "hm"},
		{Type: event.Restarted, Reason: "WHY", Text: "because"},
		{Type: event.ToolStarted, Call: &event.Call{
			ID: "c", ProviderID: "p", Tool: "bash", Executor: "e",
			State: "dispatched",
		}},
		{Type: event.ToolOutput, Call: &event.Call{ID: "c"}, Output: &event.Output{
			Stderr: true, Offset: 7,
			Data: []byte{0, 255},
		}},
		{Type: event.ToolFinished, Call: &event.Call{ID: "c", State: "done", IsError: true, Duration: time.Second}},
		{Type: event.Settled, Settlement: &event.Settlement{
			Outcome: "failed", Reason: "R", Message: "m", Model: "p/m", Usage: someUsage, EntrySeq: 3, Turn: 2,
		}},
	}
	for i := range events {
		events[i].Seq, events[i].Time, events[i].SubmissionID, events[i].Turn = head+int64(i)+1, someTime, sub, i
	}
	return events
}
