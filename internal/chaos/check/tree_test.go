package check_test

import (
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/chaos/check"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
)

// tree is evidence of a submission that asks a sub-agent, which runs a command and answers "done".
func tree() *check.Evidence {
	text := func(s string) model.Message {
		return model.Message{Content: []model.Block{{Type: model.TextBlock, Text: s}}}
	}
	result := func(id, s string) model.Message {
		return model.Message{Content: []model.Block{{Type: model.ToolResultBlock, CallID: id, Text: s}}}
	}
	e := &check.Evidence{
		Prompts: map[string]*check.Prompt{"p1": {ID: "p1", Session: "s", Turns: [][]check.Command{{{
			Token: "p1.t0.c0", Tool: "task", Turns: [][]check.Command{{{Token: "p1.t0.c0.t0.c0"}}},
		}}}}},
		Sessions: map[string]*check.Session{
			"s":        {ID: "sid", Lane: "s", Epoch: 1, EntryHead: 4, EventHead: 14},
			"s/task:t": {ID: "cid", Lane: "s", ParentCall: "t", EntryHead: 4},
		},
		Submissions: []check.Submission{
			{
				ID: "root", Session: "s", Prompt: "p1", Root: "root", Seq: 1, Settled: true, Started: true,
				Outcome: "completed", ResultEntry: 4, Usage: 30, Spent: 20,
			},
			{
				ID: "child", Session: "s/task:t", Prompt: "p1", Root: "root", ParentCall: "t", Seq: 1, Settled: true,
				Started: true, Outcome: "completed", ResultEntry: 4, Usage: 10, Spent: 10,
			},
		},
		Settlings: []check.Settling{{Submission: "root"}, {Submission: "child"}},
		Effects:   map[string][]string{"s": {"p1.t0.c0.t0.c0"}},
		Calls: []check.Call{
			{ID: "t", Session: "s", Token: "p1.t0.c0", Provider: "pt", Loop: "root", Turn: 1, State: call.Done},
			{
				ID: "c", Session: "s/task:t", Token: "p1.t0.c0.t0.c0", Provider: "pc", Loop: "child", Turn: 1,
				State: call.Done, Created: noon, Done: noon.Add(time.Second),
			},
		},
	}
	for name, of := range map[string]string{"s": "root", "s/task:t": "child"} {
		id, said := "pt", "done"
		if of == "child" {
			id, said = "pc", "(no output)"
		}
		e.Sessions[name].Entries = []check.Entry{
			{Seq: 1, Submission: of, Kind: "input", Message: text("p1")},
			{Seq: 2, Submission: of, Kind: "assistant", Message: text("")},
			{Seq: 3, Submission: of, Kind: "tool_result", Message: result(id, said)},
			{Seq: 4, Submission: of, Kind: "assistant", Message: text("done")},
		}
	}
	e.Sessions["s/task:t"].Entries[2].Message.Content[0].Details = []byte(`{"exitCode":0}`)
	loop := &event.Loop{Task: "t", Session: "cid", Root: "root"}
	done := &event.Settlement{Outcome: "completed"}
	of := func(id string, l *event.Loop, all ...event.Event) []event.Event {
		for i := range all {
			all[i].SubmissionID, all[i].Loop = id, l
		}
		return all
	}
	events := append(of("root", nil, event.Event{Type: event.Started, EntrySeq: 1},
		event.Event{Type: event.EntryAdded, EntrySeq: 2},
		event.Event{Type: event.ToolStarted, Call: &event.Call{ID: "t"}}),
		of("child", loop, event.Event{Type: event.TaskStarted, EntrySeq: 1},
			event.Event{Type: event.EntryAdded, EntrySeq: 2},
			event.Event{Type: event.ToolStarted, Call: &event.Call{ID: "c"}},
			event.Event{Type: event.ToolFinished, Call: &event.Call{ID: "c", State: "done"}},
			event.Event{Type: event.EntryAdded, EntrySeq: 3}, event.Event{Type: event.EntryAdded, EntrySeq: 4},
			event.Event{Type: event.TaskFinished, Settlement: done})...)
	events = append(events, of("root", nil,
		event.Event{Type: event.ToolFinished, Call: &event.Call{ID: "t", State: "done"}},
		event.Event{Type: event.EntryAdded, EntrySeq: 3}, event.Event{Type: event.EntryAdded, EntrySeq: 4},
		event.Event{Type: event.Settled, Settlement: done})...)
	for i := range events {
		events[i].Seq = int64(i) + 1
	}
	e.Sessions["s"].Segments = []check.Segment{{First: 1, Last: 14, Epoch: 1, Events: events}}
	return e
}

func TestNothingIsFoundInATreeWhereNothingIsWrong(t *testing.T) {
	if found := check.Check(tree()); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

func TestEveryViolationOfATreeIsFound(t *testing.T) {
	events := func(e *check.Evidence) []event.Event { return e.Sessions["s"].Segments[0].Events }
	for name, test := range map[string]struct {
		invariant string
		breaks    func(e *check.Evidence)
	}{
		"a loop is open below what has settled": {"I1", func(e *check.Evidence) { e.Submissions[1].Settled = false }},
		"a loop ends twice": {"I1", func(e *check.Evidence) {
			e.Settlings = append(e.Settlings, check.Settling{Submission: "child"})
		}},
		"no event of its end": {"I1", func(e *check.Evidence) { events(e)[9].Type = event.EntryAdded }},
		"its event says otherwise": {"I1", func(e *check.Evidence) {
			events(e)[9].Settlement = &event.Settlement{Outcome: "failed"}
		}},
		"its call is not there":       {"I1", func(e *check.Evidence) { e.Submissions[1].ParentCall = "other" }},
		"its cost is not counted":     {"I1", func(e *check.Evidence) { e.Submissions[0].Usage = 20 }},
		"its own cost is not counted": {"I1", func(e *check.Evidence) { e.Submissions[1].Spent = 11 }},
		"it failed for no reason":     {"I1", func(e *check.Evidence) { e.Submissions[1].Outcome = "failed" }},
		"unreadable for no reason":    {"I1", func(e *check.Evidence) { e.Submissions[0].Reason = "UNREADABLE" }},
		"it did not begin":            {"I3", func(e *check.Evidence) { events(e)[3].Type = event.EntryAdded }},
		"its conversation is another's": {"I3", func(e *check.Evidence) {
			e.Sessions["s/task:t"].ParentCall = "other"
		}},
		"its conversation has a hole": {"I3", func(e *check.Evidence) {
			e.Sessions["s/task:t"].Entries = e.Sessions["s/task:t"].Entries[1:]
		}},
		"an entry that nobody is told of": {"I3", func(e *check.Evidence) { events(e)[7].EntrySeq = 2 }},
		"its event is told as the root's": {"I3", func(e *check.Evidence) { events(e)[4].Loop = nil }},
		"all of its are told as the root's": {"I3", func(e *check.Evidence) {
			for i := 3; i < 10; i++ {
				events(e)[i].Loop = nil
			}
		}},
		"an event of its call is another's": {"I3", func(e *check.Evidence) { events(e)[5].SubmissionID = "root" }},
		"two began for one call": {"I4", func(e *check.Evidence) {
			again := e.Submissions[1]
			again.ID = "again"
			e.Submissions = append(e.Submissions, again)
		}},
		"its call is not done": {"I7", func(e *check.Evidence) { e.Calls[0].State = call.Cancelled }},
		"it is told otherwise": {"I7", func(e *check.Evidence) {
			e.Sessions["s"].Entries[2].Message.Content[0].Text = "something"
		}},
		"it is told as a failure": {"I7", func(e *check.Evidence) {
			e.Sessions["s"].Entries[2].Message.Content[0].IsError = true
		}},
		"it never began":           {"I7", func(e *check.Evidence) { e.Submissions = e.Submissions[:1] }},
		"its call was ended twice": {"I7", func(e *check.Evidence) { events(e)[2].Type = event.ToolFinished }},
		"it was asked twice": {"I8", func(e *check.Evidence) {
			e.Sessions["s/task:t"].Entries[2].Kind = "assistant"
		}},
		"a call was not recorded": {"I8", func(e *check.Evidence) { e.Calls = e.Calls[:1] }},
	} {
		t.Run(name, func(t *testing.T) {
			e := tree()
			test.breaks(e)
			found := check.Check(e)
			for _, v := range found {
				if v.Invariant == test.invariant {
					return
				}
			}
			t.Errorf("no violation of %s; found %+v", test.invariant, found)
		})
	}
}
