package event

import (
	"testing"

	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
)

// What was streamed is compacted once an entry holds it; a marker holds none of it, nor does the entry of a sub-agent
// hold what another has said.
func TestKindOf(t *testing.T) {
	entry := func(k session.Kind) Event { return Event{Type: EntryAdded, Entry: &session.Entry{Kind: k}} }
	stepOf := func(parent int, s step.State) Event { return StepOf(step.Record{Parent: parent, State: s}, nil) }
	of := func(e Event) Event {
		e.Loop = &Loop{Task: "t", Session: "child", Root: "root"}
		return e
	}
	for name, c := range map[string]struct {
		events []Event
		want   Kind
	}{
		"deltas":               {[]Event{{Type: Text}, {Type: Thinking}, {Type: ToolOutput}}, Deltas},
		"deltas and a wait":    {[]Event{{Type: Text}, {Type: ModelWaiting}}, Mixed},
		"an answer":            {[]Event{entry(session.Assistant), {Type: Settled}}, Covers},
		"an entry as read":     {[]Event{{Type: EntryAdded}}, Covers},
		"no answer":            {[]Event{{Type: Text}, entry(session.Marker), {Type: Settled}}, Bounds},
		"results, no answer":   {[]Event{entry(session.ToolResult), entry(session.Marker), {Type: Settled}}, Covers},
		"the beginning":        {[]Event{{Type: Started}}, Bounds},
		"nothing of the kind":  {[]Event{{Type: ToolStarted}}, Mixed},
		"a sub-agent's deltas": {[]Event{of(Event{Type: Text}), of(Event{Type: ToolOutput})}, Deltas},
		"a sub-agent's answer": {[]Event{of(entry(session.Assistant))}, Mixed},
		"a sub-agent's bounds": {[]Event{of(Event{Type: TaskStarted}), of(Event{Type: TaskFinished})}, Mixed},
		"a step of a run":      {[]Event{{Type: Text}, stepOf(0, step.Completed)}, Covers},
		"a part of a step":     {[]Event{{Type: Text}, stepOf(1, step.Completed)}, Mixed},
		"a try of a step":      {[]Event{stepOf(0, step.Started)}, Mixed},
		"a run begins":         {[]Event{RunBegins("w", "", 1, nil)}, Bounds},
		"a run ends":           {[]Event{{Type: Settled, Settlement: &Settlement{}}}, Bounds},
		"its result":           {[]Event{of(Event{Type: TaskFinished}), entry(session.ToolResult)}, Covers},
	} {
		if got := KindOf(c.events); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
