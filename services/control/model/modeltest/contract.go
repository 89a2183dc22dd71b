package modeltest

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Scenario is a behaviour that the suite needs.
type Scenario string

// Scenarios.
const (
	Text     Scenario = "text"     // answers Greeting, in more than one delta
	Thinking Scenario = "thinking" // thinks, then answers
	Tools    Scenario = "tools"    // asks for two tool calls at once
	Failure  Scenario = "failure"  // fails for good
	Stall    Scenario = "stall"    // streams some text and then nothing, for ever
	Twins    Scenario = "twins"    // asks for two different tool calls at once, under one id
	CutShort Scenario = "cut"      // is stopped at its limit, in the middle of the arguments of a tool call
)

// Greeting is the text of the scenarios Text and Thinking.
const Greeting = "hello  wide world"

// Subject makes a model under test.
type Subject struct {
	// New makes a model, and the request with which it plays the scenario in every call. ok is false if it cannot.
	New func(t *testing.T, s Scenario) (m model.Model, req model.Request, ok bool)
}

// Contract checks the rules that every Model keeps.
func Contract(t *testing.T, s Subject) {
	t.Run("text", s.text)
	t.Run("thinking", s.thinking)
	t.Run("tools", s.tools)
	t.Run("two calls never share an id", s.twins)
	t.Run("arguments that were cut are told", s.cut)
	t.Run("failure", s.failure)
	t.Run("leaving early ends the call", s.leave)
	t.Run("a call does not begin after the context ended", s.canceledBefore)
	t.Run("the context ends a call that is under way", s.canceled)
	t.Run("calls do not disturb each other", s.concurrent)
	t.Run("the request is not changed", s.unchanged)
}

func (s Subject) make(t *testing.T, sc Scenario) (model.Model, model.Request) {
	t.Helper()
	m, req, ok := s.New(t, sc)
	if !ok {
		t.Skipf("the model cannot do %q", sc)
	}
	return m, req
}

// read fails the test if the stream breaks the grammar.
func read(t *testing.T, m model.Model, ctx context.Context, req model.Request) (Transcript, error) {
	t.Helper()
	tr, err, broken := Read(m.Stream(ctx, req))
	if broken != nil {
		t.Fatalf("the stream breaks a rule: %v", broken)
	}
	return tr, err
}

func (s Subject) text(t *testing.T) {
	m, req := s.make(t, Text)
	tr, err := read(t, m, t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Text != Greeting || tr.Message.Text() != Greeting {
		t.Errorf("deltas %q, message %q, want %q", tr.Text, tr.Message.Text(), Greeting)
	}
	if len(tr.Deltas) < 2 {
		t.Errorf("%d deltas: the text was not streamed", len(tr.Deltas))
	}
	if tr.Message.Stop != model.StopEnd || tr.Message.Usage.Output == 0 || tr.Message.Usage.Input == 0 {
		t.Errorf("stop %q, usage %+v", tr.Message.Stop, tr.Message.Usage)
	}
	if r := m.Ref(); r.Provider == "" || r.ID == "" {
		t.Errorf("the model has no name: %+v", r)
	}
}

func (s Subject) thinking(t *testing.T) {
	m, req := s.make(t, Thinking)
	tr, err := read(t, m, t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	c := tr.Message.Content
	if len(c) != 2 || c[0].Type != model.ThinkingBlock || c[0].Text == "" || c[1].Text != Greeting {
		t.Errorf("content %+v, want a thought and %q", c, Greeting)
	}
}

func (s Subject) tools(t *testing.T) {
	m, req := s.make(t, Tools)
	tr, err := read(t, m, t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var calls []model.Block
	for _, b := range tr.Message.Content {
		if b.Type == model.ToolCallBlock {
			calls = append(calls, b)
		}
	}
	if len(calls) != 2 || tr.Message.Stop != model.StopTools {
		t.Fatalf("calls %+v, stop %q, want two calls", calls, tr.Message.Stop)
	}
	for _, c := range calls {
		var args map[string]any
		if err := json.Unmarshal(c.Args, &args); err != nil || len(args) == 0 {
			t.Errorf("arguments %s: %v", c.Args, err)
		}
	}
}

func (s Subject) twins(t *testing.T) {
	m, req := s.make(t, Twins)
	tr, err := read(t, m, t.Context(), req) // which fails when an id is not new
	if err != nil {
		t.Fatal(err)
	}
	if c := tr.Message.Content; len(c) != 2 || same(c[0].Args, c[1].Args) {
		t.Errorf("content %+v, want two different calls", c)
	}
}

func (s Subject) cut(t *testing.T) {
	m, req := s.make(t, CutShort)
	tr, err := read(t, m, t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if c := tr.Message.Content; tr.Message.Stop != model.StopLength || len(c) != 1 || c[0].ArgsError == "" {
		t.Errorf("stop %q, content %+v, want a call that says what is wrong with its arguments", tr.Message.Stop, c)
	}
}

func (s Subject) failure(t *testing.T) {
	m, req := s.make(t, Failure)
	_, err := read(t, m, t.Context(), req)
	e, ok := model.AsError(err)
	if !ok || e.Retryable || e.Kind == "" || e.Text == "" {
		t.Errorf("error %#v, want a *model.Error that is not retryable", err)
	}
}

func (s Subject) leave(t *testing.T) {
	m, req := s.make(t, Text)
	n := 0
	for _, err := range m.Stream(t.Context(), req) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d parts before leaving", n)
	}
}

func (s Subject) canceledBefore(t *testing.T) {
	m, req := s.make(t, Text)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := read(t, m, ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func (s Subject) canceled(t *testing.T) {
	m, req := s.make(t, Stall)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for p, err := range m.Stream(ctx, req) {
		last = err
		if p.Type == model.PartText {
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", last)
	}
}

func (s Subject) concurrent(t *testing.T) {
	m, req := s.make(t, Text)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			tr, err, broken := Read(m.Stream(t.Context(), req))
			if err != nil || broken != nil || tr.Text != Greeting {
				t.Errorf("%q, %v, %v", tr.Text, err, broken)
			}
		})
	}
	all.Wait()
}

func (s Subject) unchanged(t *testing.T) {
	m, req := s.make(t, Tools)
	var before model.Request
	raw, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &before); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, m, t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if !same(before, req) {
		t.Errorf("the request was changed:\n%+v\n%+v", before, req)
	}
}
