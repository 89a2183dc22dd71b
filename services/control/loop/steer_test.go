package loop_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

func (b *bench) send(message string, w submission.WhenBusy) submission.Submission {
	b.Helper()
	got, err := b.service.Submit(b.Context(), submission.Input{Key: key("s"), Message: message, WhenBusy: w})
	if err != nil {
		b.Fatal(err)
	}
	return got.Submission
}

// kindsOf are those of a session's entries.
func (b *bench) kindsOf(id string) string {
	b.Helper()
	all, err := b.store.Entries(b.Context(), id, 0, 1000)
	if err != nil {
		b.Fatal(err)
	}
	var kinds []string
	for _, e := range all {
		kinds = append(kinds, string(e.Kind))
	}
	return strings.Join(kinds, " ")
}

// A steer that comes while a command runs is appended after its result, before the next call of the model, and settles
// with its host.
func TestSteerDuringACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		release := make(chan struct{})
		b.executor.on = func(o *call.Order) tool.Reply {
			if o.Request.(tool.Exec).Command == "echo host" {
				go func() {
					<-release
					b.worker.Deliver(call.Report{
						Executor: "x1", CallID: o.Call.ID, LaneID: o.LaneID, Body: call.Ended{Reply: echo(o)},
					})
				}()
				return nil
			}
			return echo(o)
		}
		host := b.submit("s", "echo host")
		synctest.Wait()
		steer := b.send("echo steered", submission.Steer)
		if steer.WhenBusy != submission.Steer || steer.Host != host.ID {
			t.Errorf("the answer says %d to %q", steer.WhenBusy, steer.Host)
		}
		close(release)
		b.expect(b.wait(host.ID), lane.Completed, "steered")
		got := b.wait(steer.ID)
		if b.expect(got, lane.Completed, "steered"); got.Host != host.ID || got.InputEntry != 4 {
			t.Errorf("the steer: %+v", got)
		}
		const want = "input assistant tool_result input assistant tool_result assistant"
		if got := b.kindsOf(host.SessionID); got != want {
			t.Errorf("the entries are %s, want %s", got, want)
		}
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, steer.ID); err != nil {
			t.Errorf("aborting what has settled: %v", err)
		}
	})
}

// held is offline/shell whose answers wait for the test.
type held struct {
	model.Model
	open chan struct{}
}

func (g held) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		select {
		case <-g.open:
		case <-ctx.Done():
			return
		}
		for p, err := range g.Model.Stream(ctx, req) {
			if !yield(p, err) {
				return
			}
		}
	}
}

// A steer that comes while the model answers waits for the end of the answer. Even if that asks for nothing more, the
// submission goes on, and its follower sees all of it.
func TestSteerDuringAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		g := held{offline.New(), make(chan struct{})}
		b.model = g
		b.start(agent.Shell())
		host := b.submit("s", "say: first")
		synctest.Wait()
		f, err := b.service.Prompt(t.Context(), submission.Input{
			Key: key("s"), Message: "say: second", WhenBusy: submission.Steer, IdempotencyKey: "k",
		})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		synctest.Wait()
		close(g.open)
		var seen []string
		for batch, err := range f.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range batch {
				seen = append(seen, string(e.Type))
			}
		}
		got := strings.Join(seen, " ")
		if !strings.HasPrefix(got, "steered ") || !strings.HasSuffix(got, "entry settled") {
			t.Errorf("its follower saw %s", got)
		}
		if s := f.Submission; s.Outcome != lane.Completed || s.Text != "second" || s.Host != host.ID {
			t.Errorf("the steer, as followed: %+v", s)
		}
		b.expect(b.wait(host.ID), lane.Completed, "second")
		if got, want := b.kindsOf(host.SessionID), "input assistant input assistant"; got != want {
			t.Errorf("the entries are %s, want %s", got, want)
		}
		again, err := b.service.Submit(t.Context(), submission.Input{
			Key: key("s"), Message: "say: second", WhenBusy: submission.Steer, IdempotencyKey: "k",
		})
		if err != nil || !again.Replayed || again.Submission.Host != host.ID ||
			again.Submission.WhenBusy != submission.Steer {
			t.Errorf("the replay: %+v, %v", again, err)
		}
		_, err = b.service.Submit(t.Context(), submission.Input{
			Key: key("s"), Message: "say: second", IdempotencyKey: "k",
		})
		if !errors.Is(err, submission.ErrIdempotencyConflict) {
			t.Errorf("the same without a steer: %v", err)
		}
	})
}

// A submission that may not ask its model once more is not steered any more: the steer runs by itself.
func TestSteerBeyondTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		def.Limits.Turns = 1
		b := newBench(t, def)
		b.die()
		g := held{offline.New(), make(chan struct{})}
		b.model = g
		b.start(def)
		host := b.submit("s", "say: first")
		synctest.Wait()
		steer := b.send("say: second", submission.Steer)
		synctest.Wait()
		close(g.open)
		b.expect(b.wait(host.ID), lane.Completed, "first")
		got := b.wait(steer.ID)
		if b.expect(got, lane.Completed, "second"); got.WhenBusy != submission.Queue || got.Host != "" {
			t.Errorf("the steer: %+v", got)
		}
	})
}

// A steer can be withdrawn until it has joined; then it is its host that can be aborted, and both end as one.
func TestSteerAndAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(o *call.Order) tool.Reply {
			if o.Request.(tool.Exec).Command == "hang" {
				return nil
			}
			time.Sleep(time.Second)
			return echo(o)
		}
		host := b.submit("s", "echo host")
		withdrawn := b.send("echo never", submission.Steer)
		joined := b.send("hang", submission.Steer)
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, withdrawn.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		_, err := b.service.Abort(t.Context(), session.DefaultTenant, joined.ID)
		if !errors.Is(err, submission.ErrJoined) || !strings.Contains(err.Error(), host.ID) {
			t.Errorf("aborting what has joined: %v", err)
		}
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, host.ID); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{host.ID, joined.ID, withdrawn.ID} {
			b.expect(b.wait(id), lane.Aborted, "")
		}
		if got := strings.Join(b.executor.ran, ","); got != "echo host,hang" {
			t.Errorf("ran %s", got)
		}
	})
}

// What interrupts ends what runs, and runs before what is queued.
func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(o *call.Order) tool.Reply {
			if o.Request.(tool.Exec).Command == "hang" {
				return nil
			}
			return echo(o)
		}
		running, queued := b.submit("s", "hang"), b.submit("s", "echo queued")
		synctest.Wait()
		urgent := b.send("echo urgent", submission.Interrupt)
		if urgent.WhenBusy != submission.Interrupt || urgent.Host != running.ID {
			t.Errorf("the answer: %+v", urgent)
		}
		b.expect(b.wait(running.ID), lane.Aborted, "")
		b.expect(b.wait(urgent.ID), lane.Completed, "urgent")
		b.expect(b.wait(queued.ID), lane.Completed, "queued")
		if got := strings.Join(b.executor.ran, ","); got != "hang,echo urgent,echo queued" {
			t.Errorf("ran %s", got)
		}
		for _, e := range b.stream(running.SessionID) {
			if e.Type == event.Steered {
				t.Error("something was steered")
			}
		}
	})
}

// An input that cannot be read does not make its host go on, and fails by itself.
func TestSteerThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		g := held{offline.New(), make(chan struct{})}
		b.model = g
		b.start(agent.Shell())
		b.counted.garble = true
		host := b.submit("s", "say: first")
		synctest.Wait()
		steer := b.send("say: second", submission.Steer)
		synctest.Wait()
		close(g.open)
		got := b.wait(host.ID)
		if b.expect(got, lane.Completed, "first"); got.Turn != 1 {
			t.Errorf("the model was asked %d times", got.Turn)
		}
		b.expect(b.wait(steer.ID), lane.Completed, "second")
	})
}

// A steer that is withdrawn after the answer, which its host went on from, and before it has joined: the answer was the
// last one. So it is with a structured result, which is asked for as if nobody had steered.
func TestSteerIsWithdrawnAfterTheAnswer(t *testing.T) {
	for name, options := range map[string]lane.Options{"text": {}, "result": {ResultSchema: json.RawMessage(sized)}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				b.die()
				g := held{offline.New(), make(chan struct{})}
				told := &requests{Model: g}
				b.model = told
				b.start(agent.Shell())
				host, err := b.service.Submit(t.Context(), submission.Input{
					Key: key("s"), Message: "say: first\nagain:\n" + three, Options: options,
				})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				steer := b.send("say: second", submission.Steer)
				b.counted.after = func(c lane.Commit) {
					if p := c.Steps[0].Progress; p != nil && p.Turn == 2 {
						b.counted.after = nil
						if _, err := b.store.RequestAbort(t.Context(), session.DefaultTenant, steer.ID); err != nil {
							t.Error(err)
						}
					}
				}
				synctest.Wait()
				close(g.open)
				got := b.wait(host.Submission.ID)
				asks := 1 + len(options.ResultSchema)/len(sized)
				if b.expect(got, lane.Completed, got.Text); asks == 1 && got.Text != "first" || len(told.all) != asks {
					t.Errorf("the answer is %q after %d requests", got.Text, len(told.all))
				}
				if (got.Data != nil) != (asks == 2) {
					t.Errorf("the result is %s", got.Data)
				}
				b.expect(b.wait(steer.ID), lane.Aborted, "")
			})
		})
	}
}
