package client

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// A call that control makes itself is told of when it takes a while, unless more was said of it.
func TestCallsOfControlAreTold(t *testing.T) {
	for what, c := range map[string]struct {
		then func(*story) *story
		want string
	}{
		"it takes a while": {
			func(s *story) *story { return s }, "[web_fetch] {\"uri\":\"x\"}\n",
		},
		"it has ended": {
			func(s *story) *story { return s.finished("c", "web_fetch", false, 0) }, "",
		},
		"it waits": {
			func(s *story) *story {
				return s.add(&pawlv1.Event{Event: &pawlv1.Event_ToolWaiting{ToolWaiting: &pawlv1.ToolWaiting{
					CallId: "c", Name: "web_fetch", Message: "nobody is there",
					Since: timestamppb.New(time.Date(2026, 2, 3, 4, 5, 6, 0, time.Local)),
				}}})
			}, "[web_fetch waits] {\"uri\":\"x\"}\n  nobody is there; waits since 04:05:06\n",
		},
		"it is a task that has begun": {
			func(s *story) *story {
				return s.add(&pawlv1.Event{
					Task:  &pawlv1.Task{TaskId: "c"},
					Event: &pawlv1.Event_TaskStarted{TaskStarted: &pawlv1.TaskStarted{Agent: "a", Description: "b"}},
				})
			}, "[task a] b\n",
		},
	} {
		t.Run(what, func(t *testing.T) {
			var notes bytes.Buffer
			p := newPrinter(&bytes.Buffer{}, &notes)
			asked := tell(t).answer("", [3]string{"p", "web_fetch", `{"uri":"x"}`})
			for _, e := range c.then(asked.started("c", "p", "web_fetch", "")).all {
				p.event(e)
			}
			p.silent()
			p.silent()
			if notes.String() != c.want {
				t.Errorf("%q, want %q", notes.String(), c.want)
			}
		})
	}
}

// What a sub-agent waits for is told like what its caller waits for, and what it calls with what for.
func TestWaitsOfSubAgentsAreTold(t *testing.T) {
	since := timestamppb.New(time.Date(2026, 2, 3, 4, 5, 6, 0, time.Local))
	s := tell(t)
	task := &pawlv1.Task{TaskId: "a"}
	add := func(e *pawlv1.Event) { e.Task = task; s.add(e) }
	add(&pawlv1.Event{Event: &pawlv1.Event_TaskStarted{TaskStarted: &pawlv1.TaskStarted{
		Agent: "helper", Description: "look",
	}}})
	s.answer("", [3]string{"p", "bash", `{"command":"make"}`})
	s.all[len(s.all)-1].Task = task
	add(&pawlv1.Event{Event: &pawlv1.Event_ToolStarted{ToolStarted: &pawlv1.ToolStarted{
		CallId: "c", ToolCallId: "p", Name: "bash",
	}}})
	add(&pawlv1.Event{Event: &pawlv1.Event_ToolWaiting{ToolWaiting: &pawlv1.ToolWaiting{
		CallId: "c", Name: "bash", Message: "no executor is connected", Since: since,
	}}})
	add(&pawlv1.Event{Event: &pawlv1.Event_ModelWaiting{ModelWaiting: &pawlv1.ModelWaiting{
		Reason: "RATE_LIMIT", Message: "too many", Since: since,
	}}})
	want := "[task helper] look\n[task helper] bash make\n[task helper] bash waits\n" +
		"  no executor is connected; waits since 04:05:06\n[the model is waited for] too many; since 04:05:06\n"
	if _, notes := s.printed(false, nil); notes != want {
		t.Errorf("%q, want %q", notes, want)
	}
}
