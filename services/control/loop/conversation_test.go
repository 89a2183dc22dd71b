package loop_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// recording is a model that keeps what it was told last.
type recording struct {
	model.Model
	mu   sync.Mutex // guards what follows
	told []model.Message
}

// Window is unknown, so that no context is too long.
func (r *recording) Window() int64 { return 0 }

func (r *recording) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	r.mu.Lock()
	r.told = slices.Clone(req.Messages)
	r.mu.Unlock()
	return r.Model.Stream(ctx, req)
}

// history is what the model was told last, a line a block; calls and their results go by the number of the call.
func (r *recording) history() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	calls := map[string]int{}
	for _, m := range r.told {
		for _, b := range m.Content {
			switch b.Type {
			case model.ToolCallBlock:
				calls[b.CallID] = len(calls) + 1
				lines = append(lines, fmt.Sprintf("%s: call %d %s %s", m.Role, calls[b.CallID], b.Tool, b.Args))
			case model.ToolResultBlock:
				lines = append(lines, fmt.Sprintf("%s: result %d %s", m.Role, calls[b.CallID], b.Text))
			default:
				lines = append(lines, fmt.Sprintf("%s: %s", m.Role, b.Text))
			}
		}
	}
	return lines
}

// remembering is a bench whose model keeps what it was told.
func remembering(t *testing.T) (*bench, *recording) {
	t.Helper()
	b := newBench(t, agent.Shell())
	b.die()
	told := &recording{Model: offline.New()}
	b.model = told
	b.start(agent.Shell())
	return b, told
}

// expectHistory fails unless the model was told this, and the conversation was read after these entries.
func (b *bench) expectHistory(told *recording, want []string, read ...int64) {
	b.Helper()
	if diff := cmp.Diff(want, told.history()); diff != "" {
		b.Errorf("the model was told (-want +got):\n%s", diff)
	}
	if got := b.counted.reads(); !slices.Equal(got, read) {
		b.Errorf("entries were read after %d, want after %d", got, read)
	}
}

// afterOne is what a model is told of a session's first prompt, "echo one\n& echo two", which is 5 entries.
var afterOne = []string{
	"user: echo one\n& echo two",
	`assistant: call 1 bash {"command":"echo one"}`, `assistant: call 2 bash {"command":"echo two"}`,
	"tool: result 1 one", "tool: result 2 two",
	"assistant: one\ntwo",
}

// A session goes on over its prompts: the model is told all that was before, wherever that is at hand. Nothing is read
// of what this process has committed.
func TestSessionGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, told := remembering(t)
		b.expect(b.wait(b.submit("s", "echo one\n& echo two").ID), lane.Completed, "one\ntwo")
		b.counted.reads()

		b.expect(b.wait(b.submit("s", "say: at rest").ID), lane.Completed, "at rest")
		b.expectHistory(told, append(slices.Clone(afterOne), "user: say: at rest"))
	})
}

// What sessions at rest keep in memory is bounded: the one that rests longest is read anew, the one that rested last is
// not.
func TestSessionGoesOnAfterItsEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, told := remembering(t)
		b.expect(b.wait(b.submit("s", "echo one\n& echo two").ID), lane.Completed, "one\ntwo")
		long := "think: " + strings.Repeat("x", 512<<10) + "\nsay: long"
		for _, name := range []string{"a", "b"} { // 1 MiB each, of 2
			b.expect(b.wait(b.submit(name, long).ID), lane.Completed, "long")
		}
		b.counted.reads()

		b.expect(b.wait(b.submit("b", "say: kept").ID), lane.Completed, "kept")
		b.expectHistory(told, []string{
			"user: " + long, "assistant: " + strings.Repeat("x", 512<<10), "assistant: long",
			"user: say: kept",
		})
		b.expect(b.wait(b.submit("s", "say: evicted").ID), lane.Completed, "evicted")
		b.expectHistory(told, append(slices.Clone(afterOne), "user: say: evicted"), 0)
	})
}

// What another replica has added meanwhile is read, and no more than that.
func TestSessionGoesOnWithWhatAnotherReplicaAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, told := remembering(t)
		b.expect(b.wait(b.submit("s", "echo one\n& echo two").ID), lane.Completed, "one\ntwo")
		here, there := b.service, b.second(agent.Shell())
		synctest.Wait()
		bus := wake.NewBus(nil)
		events := event.NewService(b.store, bus)
		go func() { _ = events.Run(t.Context(), there.Owns) }()
		b.service = submission.NewService(b.store, agents{agent.Shell()}, events, there, bus)
		b.counted.reads()

		b.expect(b.wait(b.submit("s", "say: there").ID), lane.Completed, "there")
		b.expectHistory(told, append(slices.Clone(afterOne), "user: say: there"))
		b.service = here

		b.expect(b.wait(b.submit("s", "say: here").ID), lane.Completed, "here")
		b.expectHistory(told, append(slices.Clone(afterOne), "user: say: there", "assistant: there",
			"user: say: here"), 5)
	})
}

// A conversation of more than a page is read to its end.
func TestLongSessionGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, told := remembering(t)
		var want []string
		for i := range 300 { // 600 entries, of which a page has 500
			text := fmt.Sprint(i)
			b.expect(b.wait(b.submit("s", "say: "+text).ID), lane.Completed, text)
			want = append(want, "user: say: "+text, "assistant: "+text)
		}
		b.die()
		b.start(agent.Shell())
		b.expect(b.wait(b.submit("s", "say: on").ID), lane.Completed, "on")
		b.expectHistory(told, append(want, "user: say: on"), 0, 500)
	})
}

// A model that gives bad arguments is told what is wrong with them, and its next try counts, even with an argument too
// many.
func TestModelCorrectsItsArguments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		m := modeltest.New(
			modeltest.Ask(model.Block{CallID: "1", Tool: "bash", Args: []byte(`{"run": "echo x"}`)}),
			modeltest.Ask(
				model.Block{CallID: "2", Tool: "bash", Args: []byte(`{"command": "echo x", "background": true}`)},
			),
			modeltest.Say("done"),
		)
		b.model = m
		b.start(agent.Shell())
		b.expect(b.wait(b.submit("s", "print x").ID), lane.Completed, "done")
		asked := m.Requests()
		if len(asked) != 3 {
			t.Fatalf("the model was asked %d times", len(asked))
		}
		for i, want := range []model.Block{
			{CallID: "1", IsError: true, Text: "Validation failed for tool \"bash\":\n  - command: is required\n" +
				"  - run: no such argument; there are command, cwd, timeout\n\n" +
				"Received arguments:\n{\"run\": \"echo x\"}\n\nCorrect the arguments and call the tool again."},
			{CallID: "2", Text: "x\n\n[Ignored: background. The arguments of bash are command, cwd, timeout.]"},
		} {
			want.Type, want.Tool = model.ToolResultBlock, "bash"
			told := asked[i+1].Messages
			got := told[len(told)-1].Content[0]
			got.Details = nil // is not the model's
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result %d (-want +got):\n%s", i+1, diff)
			}
		}
		if got := b.executor.ran; len(got) != 1 {
			t.Errorf("ran %q", got)
		}
	})
}
