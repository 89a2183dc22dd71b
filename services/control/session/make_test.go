package session_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// history is a random conversation: submissions of turns with calls, inputs that join in between, and markers.
func history(t *rapid.T) (all []session.Entry) {
	add := func(k session.Kind, calls int) {
		e := session.Entry{Seq: int64(len(all)) + 1, Kind: k}
		for range calls {
			e.Message.Content = append(e.Message.Content, model.Block{Type: model.ToolCallBlock})
		}
		all = append(all, e)
	}
	for range rapid.IntRange(1, 4).Draw(t, "submissions") {
		for range rapid.IntRange(1, 3).Draw(t, "inputs") {
			add(session.Input, 0)
			if rapid.Bool().Draw(t, "beside") {
				add(session.Workspace, 0)
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "turns") {
			calls := rapid.IntRange(1, 5).Draw(t, "calls")
			add(session.Assistant, calls)
			for range calls {
				add(session.ToolResult, 0)
			}
			if rapid.Bool().Draw(t, "steered") {
				add(session.Input, 0)
			}
		}
		add(rapid.SampledFrom([]session.Kind{session.Assistant, session.Marker}).Draw(t, "end"), 0)
	}
	return all
}

// A cut leaves no call without its result and no input at the end, drops no more than it has to, and is the same
// whatever part of the conversation it is found in.
func TestBoundary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := history(t)
		at := rapid.IntRange(0, len(all)).Draw(t, "at")
		cut, known := session.Boundary(all[:at], 0)
		if !known || cut > int64(at) {
			t.Fatalf("cut %d, known %v, asked for %d", cut, known, at)
		}
		good := func(n int) bool {
			if n == 0 {
				return true
			}
			open := 0
			for _, e := range all[:n] {
				switch e.Kind {
				case session.Assistant:
					open = len(e.Message.Content)
				case session.ToolResult:
					open--
				}
			}
			last := all[n-1].Kind
			return open == 0 && last != session.Input && !last.Beside()
		}
		best := at
		for !good(best) {
			best--
		}
		if cut != int64(best) {
			t.Errorf("cut at %d, the best is %d", cut, best)
		}
		before := rapid.IntRange(0, at).Draw(t, "before")
		if part, known := session.Boundary(all[before:at], int64(before)); known && part != cut {
			t.Errorf("of the entries after %d the cut is %d, of all %d", before, part, cut)
		}
	})
}
