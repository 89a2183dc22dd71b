package check_test

import (
	"encoding/json"
	"testing"

	"github.com/pawl-dev/pawl/internal/chaos/check"
	"github.com/pawl-dev/pawl/services/control/event"
)

// gated is evidence of a command that somebody has approved.
func gated() *check.Evidence {
	e := world()
	e.Prompts["p1"].Turns[0][0].Gate = check.GateAsk
	e.Approvals = []check.Approval{{ID: "a", Call: "c1", State: "approved", Writes: []string{"approved"}, Decided: 10}}
	e.Decisions = []check.Decision{
		{Approval: "a", Verdict: "approved", Told: "approved", First: true},
		{Approval: "a", Verdict: "approved", Told: "approved"},
		{Approval: "a", Verdict: "denied", Told: "approved"},
	}
	e.Began = map[string][]float64{"p1.c": {10.5}}
	addEvents(e, event.Event{Type: event.ApprovalRequested, Approval: &event.Approval{ID: "a"}},
		event.Event{Type: event.ApprovalDecided, Approval: &event.Approval{ID: "a", State: "approved"}})
	return e
}

// addEvents appends events of the first submission to the stream.
func addEvents(e *check.Evidence, all ...event.Event) {
	s := e.Sessions["s"]
	g := &s.Segments[len(s.Segments)-1]
	for _, one := range all {
		s.EventHead, g.Last = s.EventHead+1, g.Last+1
		one.SubmissionID, one.Seq = "sub1", g.Last
		g.Events = append(g.Events, one)
	}
}

// refuse makes the command one that was not made, for a reason that the model was told.
func refuse(e *check.Evidence, state, reason string) {
	e.Approvals[0].State, e.Approvals[0].Writes = state, []string{state}
	r := &e.Sessions["s"].Entries[2].Message.Content[0]
	r.Text, r.IsError, r.Details = "Not run", true, json.RawMessage(`{"reason":"`+reason+`"}`)
	e.Sessions["s"].Segments[0].Events[2].Type = event.EntryAdded // no output
	e.Effects["s"], e.Began = []string{"p2.c"}, nil
	events := e.Sessions["s"].Segments[1].Events
	events[len(events)-1].Approval.State = state
	for i := range e.Decisions {
		e.Decisions[i].Told = state
	}
}

func TestNothingIsFoundWhereDecisionsCount(t *testing.T) {
	denied := gated()
	refuse(denied, "denied", "DENIED")
	expired := gated()
	expired.Prompts["p1"].Turns[0][0].Gate = check.GateSoon
	refuse(expired, "expired", "APPROVAL_EXPIRED")
	anyway := gated()
	anyway.Prompts["p1"].Turns[0][0].Gate = check.GateAnyway
	anyway.Approvals[0].State, anyway.Approvals[0].Writes, anyway.Decisions = "expired", []string{"expired"}, nil
	events := anyway.Sessions["s"].Segments[1].Events
	events[len(events)-1].Approval.State = "expired"
	for name, e := range map[string]*check.Evidence{
		"approved": gated(), "denied": denied, "expired": expired, "allowed in the end": anyway, "joined": steered(),
	} {
		if found := check.Check(e); len(found) != 0 {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

// steered is evidence of an input that has joined the first submission.
func steered() *check.Evidence {
	e := world()
	e.Prompts["p3"] = &check.Prompt{ID: "p3", Session: "s", Key: "kp3"}
	e.Submissions = append(e.Submissions, check.Submission{
		ID: "sub3", Session: "s", Prompt: "p3", Root: "sub3", Seq: 3, Settled: true, Started: true,
		Outcome: "completed", ResultEntry: 4, Host: "sub1",
	})
	e.Settlings = append(e.Settlings, check.Settling{Submission: "sub3"})
	s := e.Sessions["s"]
	s.Entries = append(s.Entries, check.Entry{})
	copy(s.Entries[4:], s.Entries[3:])
	s.Entries[3] = check.Entry{Submission: "sub3", Kind: "input", Message: s.Entries[0].Message}
	s.EntryHead = 9
	for i := range s.Entries {
		s.Entries[i].Seq = int64(i) + 1
	}
	told := s.Segments[0].Events
	told[4].EntrySeq, e.Submissions[0].ResultEntry, e.Submissions[2].ResultEntry = 5, 5, 5
	for i := range s.Segments[1].Events {
		if one := &s.Segments[1].Events[i]; one.EntrySeq > 0 {
			one.EntrySeq++
		}
	}
	e.Submissions[1].ResultEntry = 9
	addEvents(e, event.Event{Type: event.Steered, EntrySeq: 4, Joined: "sub3"})
	return e
}

func TestEveryViolationOfADecisionIsFound(t *testing.T) {
	for name, breaks := range map[string]func(e *check.Evidence){
		"nobody was asked":            func(e *check.Evidence) { e.Approvals = nil },
		"somebody was, for no reason": func(e *check.Evidence) { e.Prompts["p1"].Turns[0][0].Gate = "" },
		"of no call":                  func(e *check.Evidence) { e.Approvals[0].Call = "other" },
		"it waits for ever":           func(e *check.Evidence) { e.Approvals[0].State = "open" },
		"it was written twice": func(e *check.Evidence) {
			e.Approvals[0].Writes = []string{"denied", "approved"}
		},
		"two were told otherwise": func(e *check.Evidence) { e.Decisions[2].Told = "denied" },
		"two were the first":      func(e *check.Evidence) { e.Decisions[1].First = true },
		"nobody has said so":      func(e *check.Evidence) { e.Decisions = e.Decisions[2:] },
		"it is gone":              func(e *check.Evidence) { e.Decisions[0].Approval = "b" },
		"it began before":         func(e *check.Evidence) { e.Began["p1.c"][0] = 9.9 },
		"it began, denied": func(e *check.Evidence) {
			refuse(e, "denied", "DENIED")
			e.Began = gated().Began
		},
		"it began, expired": func(e *check.Evidence) {
			e.Prompts["p1"].Turns[0][0].Gate = check.GateSoon
			refuse(e, "expired", "APPROVAL_EXPIRED")
			e.Began = gated().Began
		},
		"a rule that denies":      func(e *check.Evidence) { e.Prompts["p1"].Turns[0][0].Gate = check.GateNever },
		"it expired, and may not": func(e *check.Evidence) { refuse(e, "expired", "APPROVAL_EXPIRED") },
		"approved, and told as denied": func(e *check.Evidence) {
			r := &e.Sessions["s"].Entries[2].Message.Content[0]
			r.Details = json.RawMessage(`{"reason":"DENIED"}`)
		},
		"denied, and told as something else": func(e *check.Evidence) { refuse(e, "denied", "CANCELLED") },
		"withdrawn, and it completed":        func(e *check.Evidence) { refuse(e, "withdrawn", "APPROVAL_WITHDRAWN") },
		"no event asks": func(e *check.Evidence) {
			e.Sessions["s"].Segments[1].Events[8].Type = event.EntryAdded
		},
		"no event tells": func(e *check.Evidence) {
			e.Sessions["s"].Segments[1].Events[9].Type = event.EntryAdded
		},
		"the event tells otherwise": func(e *check.Evidence) {
			e.Sessions["s"].Segments[1].Events[9].Approval.State = "withdrawn"
		},
	} {
		t.Run(name, func(t *testing.T) { finds(t, gated(), breaks, "I9") })
	}
}

func TestEveryViolationOfAnInputIsFound(t *testing.T) {
	for name, breaks := range map[string]func(e *check.Evidence){
		"it is not there": func(e *check.Evidence) { e.Sessions["s"].Entries[3].Kind = "marker" },
		"it is there twice": func(e *check.Evidence) {
			e.Sessions["s"].Entries[2].Kind, e.Sessions["s"].Entries[2].Submission = "input", "sub3"
		},
		"another outcome":           func(e *check.Evidence) { e.Submissions[2].Outcome = "aborted" },
		"another answer":            func(e *check.Evidence) { e.Submissions[2].ResultEntry = 9 },
		"it has joined nobody":      func(e *check.Evidence) { e.Submissions[2].Host = "other" },
		"no event tells":            func(e *check.Evidence) { e.Sessions["s"].Segments[1].Events[8].Joined = "" },
		"it is told, and is not so": func(e *check.Evidence) { e.Sessions["s"].Segments[1].Events[8].Joined = "sub2" },
		"a summary was forgotten":   func(e *check.Evidence) { e.Compactions = []string{"other"} },
	} {
		t.Run(name, func(t *testing.T) { finds(t, steered(), breaks, "I10") })
	}
}

func finds(t *testing.T, e *check.Evidence, breaks func(*check.Evidence), invariant string) {
	t.Helper()
	breaks(e)
	found := check.Check(e)
	for _, v := range found {
		if v.Invariant == invariant {
			return
		}
	}
	t.Errorf("no violation of %s; found %+v", invariant, found)
}
