package loop_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Output is shown once, in order and byte for byte, however often an executor repeats it, and secrets never, however it
// is cut. The model gets what a terminal would show of it in the end.
func TestOutputIsShownOnceAndWithoutSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		def.Env = agent.Env{"KEY": new("${SECRET}")}
		b := newBench(t, def)
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		f, err := b.service.Prompt(t.Context(), submission.Input{Key: key("s"), Message: "print"})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		synctest.Wait()
		if running.Env["KEY"] == nil || *running.Env["KEY"] != "hunter2hunter2" {
			t.Errorf("the call's environment is %v", running.Env)
		}
		say := func(offset int64, data string) {
			b.worker.Deliver(call.Report{
				Executor: "x1", CallID: running.Call.ID, LaneID: running.LaneID,
				Body: call.Output{Offset: offset, Data: []byte(data)},
			})
		}
		say(0, "before hunter2")
		say(0, "before hunter2") // repeated
		say(7, "hunter2hunter2\r\x1b[1m after")
		b.worker.Deliver(call.Report{
			Executor: "x1", CallID: running.Call.ID, LaneID: running.LaneID,
			Body: call.Ended{
				Reply: tool.ExecReply{
					Stdout:    tool.Captured{Head: []byte("1%\r2% hunter2\x1b[1mhunter2")},
					Confirmed: true,
				},
			},
		})
		var shown strings.Builder
		for batch, err := range f.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range batch {
				if e.Type == event.ToolOutput {
					if e.Output.Offset != int64(shown.Len()) {
						t.Errorf("output at %d, %d bytes were shown", e.Output.Offset, shown.Len())
					}
					shown.Write(e.Output.Data)
				}
			}
		}
		all := shown.String()
		if !strings.HasPrefix(all, "before ") || !strings.HasSuffix(all, "\r\x1b[1m after") ||
			strings.Contains(all, "hunter2") || strings.Contains(f.Submission.Text, "hunter2") {
			t.Errorf("shown %q, answered %q", all, f.Submission.Text)
		}
		if got := f.Submission.Text; got != "2% [redacted]" {
			t.Errorf("the model was told %q", got)
		}
	})
}

// told is what a session's stream tells of a call: its output put together, what was skipped, and its endings.
type told struct {
	output   string
	skipped  int64
	finished int
}

// story reads a session's stream to its head.
func (b *bench) story(sessionID string) (s told) {
	b.Helper()
	for after := int64(0); ; {
		page, err := b.store.Events(b.Context(), sessionID, after, 1000)
		if err != nil {
			b.Fatal(err)
		}
		if len(page) == 0 {
			return s
		}
		for _, e := range page {
			after = e.Seq
			switch e.Type {
			case event.ToolFinished:
				s.finished++
			case event.ToolOutput:
				if s.finished > 0 {
					b.Error("output after its call has ended")
				}
				if want := int64(len(s.output)) + s.skipped + e.Output.Skipped; e.Output.Offset != want {
					b.Errorf("output at %d, want %d", e.Output.Offset, want)
				}
				s.output, s.skipped = s.output+string(e.Output.Data), s.skipped+e.Output.Skipped
			}
		}
	}
}

// ten is the result of a command that wrote ten bytes.
var ten = tool.ExecReply{Stdout: tool.Captured{Head: []byte("0123456789"), Size: 10}, Confirmed: true}

// A result that overtakes output counts when the output is there, and the executor is not told to forget it before.
func TestResultWaitsForTheOutputBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "print")
		synctest.Wait()
		b.say(running.Call, "x1", call.Output{Data: []byte("01234")})
		b.say(running.Call, "x1", call.Ended{Reply: ten})
		time.Sleep(45 * time.Second) // slow, but there
		synctest.Wait()
		b.executor.mu.Lock()
		acked, from := b.executor.acked[running.Call.ID], b.executor.attached[running.Call.ID]
		b.executor.mu.Unlock()
		if acked || from != 5 {
			t.Errorf("acknowledged: %v, and asked for output from %d", acked, from)
		}
		b.say(running.Call, "x1", call.Output{Offset: 5, Data: []byte("56789")})
		b.expect(b.wait(sub.ID), lane.Completed, "0123456789")
		if got := b.story(sub.SessionID); got != (told{"0123456789", 0, 1}) {
			t.Errorf("told %+v", got)
		}
		b.executor.mu.Lock()
		defer b.executor.mu.Unlock()
		if !b.executor.acked[running.Call.ID] {
			t.Error("the result was not acknowledged")
		}
	})
}

// Output that cannot be had holds nothing up for long, and its absence is told.
func TestMissingOutputIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		found       call.FoundState
		away        bool
		least, most time.Duration
	}{
		"nobody sends it":               {call.FinishedThere, false, 55 * time.Second, 65 * time.Second},
		"the executor has left":         {call.FinishedThere, true, 9 * time.Second, 15 * time.Second},
		"the executor has forgotten it": {call.TombstoneThere, false, 0, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				var running *call.Order
				b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
				sub := b.submit("s", "print")
				synctest.Wait()
				b.executor.mu.Lock()
				b.executor.known[running.Call.ID], b.executor.away = c.found, c.away
				b.executor.mu.Unlock()
				b.say(running.Call, "x1", call.Output{Data: []byte("0123")})
				b.say(running.Call, "x1", call.Ended{Reply: ten})
				began := time.Now()
				b.expect(b.wait(sub.ID), lane.Completed, "0123456789")
				if waited := time.Since(began); waited < c.least || waited > c.most {
					t.Errorf("it waited %s", waited)
				}
				if got := b.story(sub.SessionID); got != (told{"0123", 6, 1}) {
					t.Errorf("told %+v", got)
				}
			})
		})
	}
}

// What was recorded while nobody ran the session is told of when its output has been taken, each byte once.
func TestRecordedResultWaitsForItsOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "print")
		synctest.Wait()
		b.say(running.Call, "x1", call.Output{Data: []byte("0123")})
		time.Sleep(time.Second) // it is in the log
		b.die()
		body, err := tool.Encode(ten)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.store.CompleteCall(t.Context(), call.Outcome{
			CallID: running.Call.ID, State: call.Done,
			Reply: body,
		}); err != nil {
			t.Fatal(err)
		}
		b.executor.mu.Lock()
		b.executor.known[running.Call.ID] = call.FinishedThere
		b.executor.mu.Unlock()
		b.start(agent.Shell())
		synctest.Wait()
		if got := b.story(sub.SessionID); got != (told{"0123", 0, 0}) {
			t.Errorf("told %+v before the output came", got)
		}
		b.say(running.Call, "x1", call.Output{Data: []byte("012345")})
		b.say(running.Call, "x1", call.Output{Offset: 6, Data: []byte("6789")})
		b.expect(b.wait(sub.ID), lane.Completed, "0123456789")
		if got := b.story(sub.SessionID); got != (told{"0123456789", 0, 1}) {
			t.Errorf("told %+v", got)
		}
		b.executor.mu.Lock()
		defer b.executor.mu.Unlock()
		if !b.executor.acked[running.Call.ID] {
			t.Error("the result was not acknowledged")
		}
	})
}
