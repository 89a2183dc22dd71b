package check_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/chaos/check"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// world is evidence of two submissions that went as they should: a command each, the second after a change of
// ownership.
func world() *check.Evidence {
	e := &check.Evidence{
		Prompts: map[string]*check.Prompt{}, Effects: map[string][]string{}, Files: map[string]string{},
		Sessions: map[string]*check.Session{"s": {ID: "sid", Lane: "s", Epoch: 2, EntryHead: 8, EventHead: 16}},
		Owners: []check.Owner{
			{Session: "s", Epoch: 1, To: "r1"},
			{Session: "s", Epoch: 2, From: "r1", To: "r2", EventHead: 8},
			{Session: "s", Epoch: 2, From: "r2", EventHead: 16},
		},
		Journals: []check.Journal{{
			Executor: "x", Epochs: map[string]int64{"sid": 2},
			Calls: []check.JournalCall{{ID: "c1"}, {ID: "c2"}},
		}},
	}
	for n := int64(1); n <= 2; n++ {
		addSubmission(e, n)
	}
	return e
}

func addSubmission(e *check.Evidence, n int64) {
	s := e.Sessions["s"]
	prompt, sub, id := fmt.Sprintf("p%d", n), fmt.Sprintf("sub%d", n), fmt.Sprintf("c%d", n)
	token := prompt + ".c"
	out := "out " + token + "\n"
	e.Prompts[prompt] = &check.Prompt{
		ID: prompt, Session: "s", Key: "k" + prompt,
		Turns: [][]check.Command{{{Token: token, Output: [2]string{out, ""}}}},
	}
	e.Acks = append(e.Acks, check.Ack{Prompt: prompt, Submission: sub, Outcome: "completed", Text: "done"})
	e.Submissions = append(e.Submissions, check.Submission{
		ID: sub, Session: "s", Prompt: prompt, Root: sub, Seq: n, Settled: true, Started: true, Outcome: "completed",
		ResultEntry: 4 * n, Usage: 10, Spent: 10,
	})
	e.Settlings = append(e.Settlings, check.Settling{Submission: sub})
	e.Effects["s"] = append(e.Effects["s"], token)
	e.Calls = append(e.Calls, check.Call{
		ID: id, Session: "s", Token: token, Provider: "call_" +
			id, Loop: sub, Turn: 1, AtMostOnce: true, State: call.Done, Executor: "x",
		Created: noon, Done: noon.Add(time.Second),
	})
	for i, kind := range []string{"input", "assistant", "tool_result", "assistant"} {
		en := check.Entry{
			Seq: 4*(n-1) + int64(i) + 1, Submission: sub, Kind: kind,
			Message: model.Message{Content: []model.Block{{Type: model.TextBlock, Text: "done"}}},
		}
		if kind == "tool_result" {
			en.Message.Content = []model.Block{{
				Type: model.ToolResultBlock, CallID: "call_" + id, Text: strings.TrimSpace(out), Details: json.RawMessage(`{"exitCode":0}`),
			}}
		}
		s.Entries = append(s.Entries, en)
	}
	of := &event.Call{ID: id}
	events := []event.Event{
		{Type: event.Started, EntrySeq: 4*n - 3},
		{Type: event.ToolStarted, Call: of},
		{Type: event.ToolOutput, Call: of, Output: &event.Output{Data: []byte(out)}},
		{Type: event.ToolFinished, Call: &event.Call{ID: id, State: "done"}},
		{Type: event.EntryAdded, EntrySeq: 4 * n},
		{Type: event.Settled, Settlement: &event.Settlement{Outcome: "completed"}},
		{Type: event.EntryAdded, EntrySeq: 4*n - 2},
		{Type: event.EntryAdded, EntrySeq: 4*n - 1},
	}
	first := 8*(n-1) + 1
	for i := range events {
		events[i].SubmissionID, events[i].Seq = sub, first+int64(i)
	}
	s.Segments = append(s.Segments, check.Segment{First: first, Last: first + 7, Epoch: n, Events: events})
}

func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	if found := check.Check(world()); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

// lose makes the first call one whose outcome nobody knows, told as that and explained.
func lose(e *check.Evidence) {
	e.Calls[0].State = call.Lost
	r := &e.Sessions["s"].Entries[2].Message.Content[0]
	r.Text, r.IsError, r.Details = "The outcome of this command is unknown", true, json.RawMessage(`{"reason":"INTERRUPTED"}`)
	e.Sessions["s"].Segments[0].Events[3].Call.State = "lost"
	e.Absences = []check.Absence{{Executor: "x", From: noon, To: noon.Add(time.Second)}}
}

func TestAnUnknownOutcomeMayBeEither(t *testing.T) {
	for _, line := range []bool{true, false} {
		e := world()
		lose(e)
		if !line {
			e.Effects["s"] = e.Effects["s"][1:]
		}
		if found := check.Check(e); len(found) != 0 {
			t.Errorf("line %v: %+v", line, found)
		}
	}
	// It may even come after what came after it.
	e := world()
	lose(e)
	e.Effects["s"] = []string{"p2.c", "p1.c"}
	if found := check.Check(e); len(found) != 0 {
		t.Errorf("late: %+v", found)
	}
}

// timeUp makes the first command one that its keeper has ended, and has said so.
func timeUp(e *check.Evidence) {
	e.Sessions["s"].Entries[2].Message.Content[0].Details = json.RawMessage(
		`{"exitCode":124,"timedOut":true,"confirmed":true}`)
	e.Sessions["s"].Segments[0].Events[2].Output = &event.Output{
		Stderr: true, Data: []byte("[timed out after 0.5 s]\n"),
	}
}

func TestWhatAKeeperSaysOfACommandWhoseTimeIsUpIsNoOutput(t *testing.T) {
	e := world()
	timeUp(e)
	if found := check.Check(e); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

func TestEveryViolationIsFound(t *testing.T) {
	session := func(e *check.Evidence) *check.Session { return e.Sessions["s"] }
	result := func(e *check.Evidence) *model.Block { return &session(e).Entries[2].Message.Content[0] }
	for name, test := range map[string]struct {
		invariant string
		breaks    func(e *check.Evidence)
	}{
		"a program crashed":   {"I0", func(e *check.Evidence) { e.Crashes = []string{"panic: oh"} }},
		"a submission hangs":  {"I1", func(e *check.Evidence) { e.Submissions[1].Settled = false }},
		"no write settled it": {"I1", func(e *check.Evidence) { e.Settlings = e.Settlings[1:] }},
		"it settled again": {"I1", func(e *check.Evidence) {
			e.Settlings = append(e.Settlings, check.Settling{Submission: "sub1", Again: true})
		}},
		"it settled twice": {"I1", func(e *check.Evidence) {
			e.Settlings = append(e.Settlings,
				check.Settling{Submission: "sub1"})
		}},
		"two settled events":           {"I1", func(e *check.Evidence) { session(e).Segments[1].Events[4] = session(e).Segments[0].Events[5] }},
		"no settled event":             {"I1", func(e *check.Evidence) { session(e).Segments[1].Events[5].Type = event.EntryAdded }},
		"row and event differ":         {"I1", func(e *check.Evidence) { session(e).Segments[1].Events[5].Settlement.Outcome = "failed" }},
		"completed without an answer":  {"I1", func(e *check.Evidence) { e.Submissions[0].ResultEntry = 0 }},
		"an acknowledged one is gone":  {"I1", func(e *check.Evidence) { e.Acks[0].Submission = "other" }},
		"a client was told otherwise":  {"I1", func(e *check.Evidence) { e.Acks[0].Outcome = "aborted" }},
		"a client read another answer": {"I1", func(e *check.Evidence) { e.Acks[0].Text = "something" }},
		"a key was admitted twice":     {"I1", func(e *check.Evidence) { e.Submissions[1].Prompt = "p1" }},
		"nobody asked for it":          {"I1", func(e *check.Evidence) { delete(e.Prompts, "p1") }},
		"two that nobody asked for": {"I1", func(e *check.Evidence) {
			e.Submissions[0].Prompt, e.Submissions[1].Prompt = "p3", "p3"
		}},
		"a key with another message":   {"I1", func(e *check.Evidence) { e.Conflicts = []string{"p1"} }},
		"a client was never answered":  {"I1", func(e *check.Evidence) { e.Unheard = []string{"p1"} }},
		"an epoch went back":           {"I2", func(e *check.Evidence) { e.Owners[2].Epoch = 1 }},
		"an epoch has two owners":      {"I2", func(e *check.Evidence) { e.Owners[1].Epoch = 1 }},
		"a live owner was succeeded":   {"I2", func(e *check.Evidence) { e.Owners[1].FromLives = true }},
		"epochs of events go back":     {"I2", func(e *check.Evidence) { session(e).Segments[0].Epoch = 3; session(e).Epoch = 3 }},
		"a stale owner wrote":          {"I2", func(e *check.Evidence) { session(e).Segments[1].Epoch = 1 }},
		"an epoch of nobody":           {"I2", func(e *check.Evidence) { session(e).Segments[1].Epoch = 3 }},
		"an executor knows the future": {"I2", func(e *check.Evidence) { e.Journals[0].Epochs["sid"] = 3 }},
		"submissions interleave":       {"I2", func(e *check.Evidence) { session(e).Entries[5].Submission = "sub1" }},
		"effects are out of order":     {"I2", func(e *check.Evidence) { e.Effects["s"] = []string{"p2.c", "p1.c"} }},
		"an event is missing":          {"I3", func(e *check.Evidence) { session(e).Segments[1].First++ }},
		"events are there twice":       {"I3", func(e *check.Evidence) { session(e).Segments[1].First-- }},
		"the event head is wrong":      {"I3", func(e *check.Evidence) { session(e).EventHead++ }},
		"an entry is missing":          {"I3", func(e *check.Evidence) { session(e).Entries = session(e).Entries[:7] }},
		"an entry of nobody":           {"I3", func(e *check.Evidence) { session(e).Entries[7].Submission = "other" }},
		"a reader saw something else":  {"I3", func(e *check.Evidence) { e.Readers = []string{"event 3"} }},
		"a command ran twice": {"I4", func(e *check.Evidence) {
			e.Effects["s"] = []string{
				"p1.c", "p1.c",
				"p2.c",
			}
		}},
		"a command of no record": {"I4", func(e *check.Evidence) {
			e.Effects["s"] = append(e.Effects["s"],
				"p3.c")
		}},
		"an outcome was rewritten": {"I4", func(e *check.Evidence) { e.Rewrites = []string{"c1"} }},
		"an edit was made twice": {"I4", func(e *check.Evidence) {
			e.Prompts["p1"].Turns[0][0].Tool = "edit"
			e.Files["p1.c"] = "x" + check.Mark + check.Mark
		}},
		"output is wrong":    {"I5", func(e *check.Evidence) { session(e).Segments[0].Events[2].Output.Data[1] = 'x' }},
		"output is too long": {"I5", func(e *check.Evidence) { session(e).Segments[0].Events[2].Output.Offset = 1 }},
		"its keeper says what is not so": {"I5", func(e *check.Evidence) {
			timeUp(e)
			result(e).Details = json.RawMessage(`{"exitCode":143,"cancelled":true,"confirmed":true}`)
		}},
		"output is missing": {"I5", func(e *check.Evidence) { session(e).Segments[0].Events[2].Type = event.EntryAdded }},
		"output is there twice": {"I5", func(e *check.Evidence) {
			events := session(e).Segments[0].Events
			events[4].Type, events[4].Call, events[4].Output = event.ToolOutput, events[2].Call, events[2].Output
		}},
		"no event of its end":    {"I7", func(e *check.Evidence) { session(e).Segments[0].Events[3].Type = event.EntryAdded }},
		"output is on the other": {"I5", func(e *check.Evidence) { session(e).Segments[0].Events[2].Output.Stderr = true }},
		"a process is left":      {"I6", func(e *check.Evidence) { e.Survivors = []check.Survivor{{Call: "c1"}} }},
		"confirmed and not": {"I6", func(e *check.Evidence) {
			e.Submissions[0].Outcome, e.Submissions[0].Confirmed = "aborted", true
			result(e).Details = json.RawMessage(`{"exitCode":143,"cancelled":true,"confirmed":false}`)
		}},
		"confirmed, and nobody knows": {"I6", func(e *check.Evidence) { lose(e); e.Submissions[0].Confirmed = true }},
		"a process of what was confirmed": {"I6", func(e *check.Evidence) {
			lose(e)
			e.Calls[0].LateReply, e.Submissions[0].Confirmed, e.Survivors = true, true, []check.Survivor{{Call: "c1"}}
		}},
		"a call is open":            {"I7", func(e *check.Evidence) { e.Calls[0].State = call.Dispatched }},
		"no result":                 {"I7", func(e *check.Evidence) { result(e).CallID = "other" }},
		"two results":               {"I7", func(e *check.Evidence) { session(e).Entries[6].Message.Content[0].CallID = result(e).CallID }},
		"it did not leave its line": {"I7", func(e *check.Evidence) { e.Effects["s"] = []string{"p2.c"} }},
		"another exit code":         {"I7", func(e *check.Evidence) { result(e).Details = json.RawMessage(`{"exitCode":1}`) }},
		"another result":            {"I7", func(e *check.Evidence) { result(e).Text = "out" }},
		"not run, it is said":       {"I7", func(e *check.Evidence) { result(e).Details = json.RawMessage(`{"reason":"CANCELLED"}`) }},
		"unknown, recorded as done": {"I7", func(e *check.Evidence) {
			result(e).Details = json.RawMessage(`{"reason":"INTERRUPTED"}`)
			e.Effects["s"] = []string{"p2.c"}
		}},
		"unknown, told as failure": {
			"I7",
			func(e *check.Evidence) { lose(e); result(e).Text = "it failed" },
		},
		"unknown, told as failure for an unknown reason": {
			"I7",
			func(e *check.Evidence) { lose(e); result(e).Text = "it failed\nWhy: its outcome is unknown" },
		},
		"unknown for no reason": {"I7", func(e *check.Evidence) { lose(e); e.Absences = nil }},
		"unknown, and only edits were hidden": {
			"I7",
			func(e *check.Evidence) { lose(e); e.Absences[0].EditsOnly = true },
		},
		"unknown, of another time": {"I7", func(e *check.Evidence) {
			lose(e)
			e.Absences[0].From = noon.Add(time.Minute)
			e.Absences[0].To = noon.Add(time.Hour)
		}},
		"the event tells another state": {"I7", func(e *check.Evidence) { session(e).Segments[0].Events[3].Call.State = "lost" }},
		"it was finished twice":         {"I7", func(e *check.Evidence) { session(e).Segments[0].Events[1].Type = event.ToolFinished }},
		"a result was never taken":      {"I7", func(e *check.Evidence) { e.Journals[0].Calls[0].Finished = true }},
		"an edit that was not made": {"I7", func(e *check.Evidence) {
			e.Prompts["p1"].Turns[0][0].Tool = "edit"
		}},
		"an edit that failed was made": {"I7", func(e *check.Evidence) {
			e.Prompts["p1"].Turns[0][0].Tool = "edit"
			result(e).IsError, e.Files["p1.c"] = true, check.Mark
		}},
		"a turn was taken twice": {"I8", func(e *check.Evidence) { session(e).Entries[2].Kind = "assistant" }},
	} {
		t.Run(name, func(t *testing.T) {
			e := world()
			test.breaks(e)
			var others []check.Violation
			for _, v := range check.Check(e) {
				if v.Invariant == test.invariant {
					return
				}
				others = append(others, v)
			}
			t.Errorf("no violation of %s; found %+v", test.invariant, others)
		})
	}
}
