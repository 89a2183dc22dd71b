package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// answerFrame is a frame of the socket on which operations are called.
type answerFrame struct {
	ID        string
	Message   map[string]any
	End       bool
	Cursor    string
	Error     *struct{ Reason, Message string }
	Heartbeat bool
}

func (c *client) answer() (f answerFrame) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.hear()), &f); err != nil {
		c.t.Fatal(err)
	}
	return f
}

// calls is a socket for operations on a plane.
func calls(t *testing.T, p *planetest.Plane, d gateway.Deps) *client {
	t.Helper()
	d.API = apiOf(t, p, d)
	c, refused := dial(t, serve(t, d), "/v1/watch")
	if c == nil {
		t.Fatalf("refused with %d", refused)
	}
	return c
}

// kinds are the kinds of a message's events.
func kinds(f answerFrame) (all []string) {
	events, _ := f.Message["events"].([]any)
	for _, e := range events {
		for _, kind := range []string{"started", "entry", "settled"} {
			if e, _ := e.(map[string]any); e[kind] != nil {
				all = append(all, kind)
			}
		}
	}
	return all
}

// One socket prompts, watches several sessions from cursors, lists, and hears of each call under its own id.
func TestCallsOnOneSocket(t *testing.T) {
	p := planetest.New(t, modeltest.Always(modeltest.Say("Hello")))
	c := calls(t, p, deps(p))
	sessions, cursors := map[string]string{}, map[string]string{}
	for _, name := range []string{"a", "b"} {
		c.say(fmt.Sprintf(`{"id":%q,"call":"prompt","request":{"key":{"agent":"shell","instance":%q},"message":"hi"}}`,
			name, name))
	}
	for ended := 0; ended < 2; {
		f := c.answer()
		if one, ok := f.Message["submission"].(map[string]any); ok {
			sessions[f.ID] = fmt.Sprint(one["sessionId"])
		}
		if f.End {
			cursors[f.ID] = f.Cursor
			ended++
		}
	}
	if sessions["a"] == sessions["b"] || cursors["a"] == "" || cursors["b"] == "" {
		t.Fatalf("sessions %v, cursors %v", sessions, cursors)
	}
	for name, id := range sessions {
		c.say(fmt.Sprintf(`{"id":%q,"call":"watchSession","request":{"sessionId":%q,"after":"1"}}`, name, id))
	}
	heard := map[string][]string{}
	for !slices.Contains(heard["a"], "settled") || !slices.Contains(heard["b"], "settled") {
		f := c.answer()
		heard[f.ID] = append(heard[f.ID], kinds(f)...)
	}
	if want := []string{"entry", "settled"}; !slices.Equal(heard["a"], want) || !slices.Equal(heard["b"], want) {
		t.Errorf("heard %v", heard)
	}
	c.say(`{"id":"a","call":"listSessions"}`)
	if f := c.answer(); f.ID != "a" || f.Error == nil || f.Error.Reason != "CALL_ID_IN_USE" {
		t.Errorf("%+v", f)
	}
	c.say(`{"id":"a","cancel":true}`)
	if f := c.answer(); f.ID != "a" || f.Error == nil || f.Error.Reason != "CANCELED" || f.Cursor != cursors["a"] {
		t.Errorf("%+v, the cursor is %s", f, cursors["a"])
	}
	c.say(`{"id":"a","call":"listSessions","request":{"pageSize":1}}`)
	f := c.answer()
	if list, _ := f.Message["sessions"].([]any); f.ID != "a" || len(list) != 1 {
		t.Errorf("%+v", f)
	}
	if f := c.answer(); f.ID != "a" || !f.End {
		t.Errorf("%+v", f)
	}
}

// What cannot be called is refused under its id, and the socket stays.
func TestRefusedCalls(t *testing.T) {
	p := planetest.New(t, nil)
	c := calls(t, p, deps(p))
	for say, want := range map[string]struct{ id, reason string }{
		`{`:                              {"", "FRAME_INVALID"},
		`[]`:                             {"", "FRAME_INVALID"},
		`{"call":"listAgents"}`:          {"", "FRAME_INVALID"},
		`{"ID":"x","call":"listAgents"}`: {"", "FRAME_INVALID"},
		`{"id":"x","id":"y","call":"listAgents"}`:               {"x", "FRAME_INVALID"},
		`{"id":"x","call":"listAgents","call":"deleteSession"}`: {"x", "FRAME_INVALID"},
		`{"id":"x"}`:                                                   {"x", "FRAME_INVALID"},
		`{"id":"x","call":"a","b":1}`:                                  {"x", "FRAME_INVALID"},
		`{"id":"x","call":"a"} {}`:                                     {"x", "FRAME_INVALID"},
		`{"id":"x","call":"nowhere"}`:                                  {"x", "OPERATION_NOT_FOUND"},
		`{"id":"x","call":"connect"}`:                                  {"x", "OPERATION_NOT_FOUND"},
		`{"id":"x","call":"getAgent"}`:                                 {"x", "AGENT_NOT_FOUND"},
		`{"id":"x","call":"getAgent","request":{"agnt":"x"}}`:          {"x", "BODY_INVALID"},
		`{"id":"x","call":"watchSession","request":{"sessionId":"x"}}`: {"x", "SESSION_NOT_FOUND"},
	} {
		c.say(say)
		if f := c.answer(); f.ID != want.id || f.Error == nil || f.Error.Reason != want.reason {
			t.Errorf("%s: %+v", say, f)
		}
	}
	if _, status := dial(t, serve(t, deps(p)), "/v1/watch", "Authorization: Bearer x"); status != 401 {
		t.Errorf("without a token: %d", status)
	}
}

// A socket has a bounded number of calls.
func TestTooManyCalls(t *testing.T) {
	p := planetest.New(t, nil)
	c := calls(t, p, deps(p))
	s, err := p.Submissions.Submit(t.Context(), submission.Input{Key: sessionKey, Message: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 257 {
		c.say(fmt.Sprintf(`{"id":"%d","call":"watchSession","request":{"sessionId":%q}}`, i, s.Submission.SessionID))
	}
	for {
		f := c.answer()
		if f.Error == nil {
			continue
		}
		if f.Error.Reason != "TOO_MANY_CALLS" {
			t.Errorf("%+v", f)
		}
		return
	}
}

// When the server stops, open calls say so with their cursor before the socket ends.
func TestCallsEndWithTheServer(t *testing.T) {
	p := planetest.New(t, nil)
	d := deps(p)
	stopping, stop := context.WithCancel(t.Context())
	d.Stopping = stopping
	c := calls(t, p, d)
	s, err := p.Submissions.Submit(t.Context(), submission.Input{Key: sessionKey, Message: "hi"})
	if err != nil {
		t.Fatal(err)
	}
	c.say(fmt.Sprintf(`{"id":"w","call":"watchSession","request":{"sessionId":%q}}`, s.Submission.SessionID))
	if f := c.answer(); f.ID != "w" || f.Error != nil {
		t.Fatalf("%+v", f) // the stream has begun
	}
	stop()
	if f := c.answer(); f.ID != "w" || f.Error == nil || f.Error.Reason != "SERVER_STOPPING" {
		t.Errorf("%+v", f)
	}
	if code, _ := c.closed(); code != 1001 {
		t.Errorf("ended with %d", code)
	}
}
