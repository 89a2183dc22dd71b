package loop_test

import (
	"context"
	"encoding/json"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// A drain between the end of a turn's last call and the commit of it: the result is acknowledged by nobody but the
// commit that has it.
func TestDrainKeepsAnAcknowledgedResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var mu sync.Mutex
		var orders []*call.Order
		b.executor.on = func(o *call.Order) tool.Reply {
			mu.Lock()
			defer mu.Unlock()
			orders = append(orders, o)
			return nil
		}
		sub := b.submit("s", "echo one\n& echo two")
		synctest.Wait()
		if len(orders) != 2 {
			t.Fatal(len(orders))
		}
		commit := make(chan struct{})
		b.counted.before = func(lane.Commit) { <-commit }
		b.say(orders[0].Call, "x1", call.Output{Data: []byte("one\n")})
		time.Sleep(time.Second) // the flush of it is under way
		for i, text := range []string{"one\n", "two\n"} {
			if i == 1 {
				b.say(orders[i].Call, "x1", call.Output{Data: []byte(text)})
			}
			b.say(orders[i].Call, "x1", call.Ended{Reply: echo(orders[i])})
		}
		commit <- struct{}{}
		synctest.Wait() // the end of the first call is being committed
		close(b.drain)
		synctest.Wait()
		close(commit)
		if err := <-b.done; err != nil {
			t.Fatal(err)
		}
		b.done <- nil
		for _, o := range orders {
			if b.executor.acked[o.Call.ID] {
				b.executor.known[o.Call.ID] = call.TombstoneThere
			}
		}
		b.start(agent.Shell())
		b.expect(b.wait(sub.ID), lane.Completed, "one\ntwo")
	})
}

// An executor that says INTERRUPTED to Attach need not say it again, and may be connected to a replica that cannot.
func TestInterruptedThereIsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "echo x")
		synctest.Wait()
		b.executor.known[running.Call.ID] = call.InterruptedThere
		b.reconnect()
		if got := b.wait(sub.ID); !strings.Contains(got.Text, "unknown") {
			t.Errorf("answered %q", got.Text)
		}
		if len(b.executor.ran) != 1 {
			t.Errorf("it ran %d times", len(b.executor.ran))
		}
	})
}

// An executor that knows a higher epoch of a lane, as after a restore of an older database, gets its call: the lane's
// epoch is lifted above the one that it knows. A claim that no restore explains costs the call, and nothing else.
func TestExecutorThatKnowsAHigherEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var orders []*call.Order
		b.executor.on = func(o *call.Order) tool.Reply { orders = append(orders, o); return nil }
		sub := b.submit("s", "echo one")
		synctest.Wait()
		first := orders[0]
		b.say(first.Call, "x1", call.Rejected{Epoch: first.Epoch, Known: first.Epoch + 41, Reason: "STALE_EPOCH"})
		synctest.Wait()
		if len(orders) != 2 || orders[1].Epoch != first.Epoch+42 || orders[1].Call.Dispatch != 1 {
			t.Fatalf("orders %+v", orders)
		}
		b.say(orders[1].Call, "x1", call.Ended{Reply: echo(orders[1])})
		got := b.wait(sub.ID)
		b.expect(got, lane.Completed, "one")
		if got.Attempts != 0 || got.Stalls != 0 {
			t.Errorf("%d attempts, %d stalls", got.Attempts, got.Stalls)
		}

		orders = nil
		hostile := b.submit("s", "echo two")
		synctest.Wait()
		b.say(orders[0].Call, "x1", call.Rejected{Epoch: orders[0].Epoch, Known: 1 << 40, Reason: "STALE_EPOCH"})
		if got := b.wait(hostile.ID); got.Outcome != lane.Completed ||
			!strings.Contains(got.Text, "did not run this call") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
	})
}

func TestSecretsStayOutOfResultsThatOthersRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		def.Env = agent.Env{"TOKEN": new("${SECRET}")}
		b := newBench(t, def)
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "echo $TOKEN")
		synctest.Wait()
		b.record(running, tool.ExecReply{
			Stdout:    tool.Captured{Head: []byte("it is hunter2hunter2\n")},
			Confirmed: true,
		})
		if got := b.wait(sub.ID); !strings.HasPrefix(got.Text, "it is ") ||
			strings.Contains(got.Text, "hunter2hunter2") {
			t.Errorf("the answer is %q", got.Text)
		}
	})
}

// A record that cannot be read is told as that, and is no reason to run into it for ever.
func TestUnreadableRecordIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "echo one")
		synctest.Wait()
		if _, err := b.store.CompleteCall(t.Context(), call.Outcome{
			CallID: running.Call.ID, State: call.Done,
			Reply: []byte("{"),
		}); err != nil {
			t.Fatal(err)
		}
		if got := b.wait(sub.ID); got.Outcome != lane.Completed || !strings.Contains(got.Text, "cannot be read") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
	})
}

// record is what a replica does that has the executor's connection and not the session.
func (b *bench) record(o *call.Order, reply tool.Reply) {
	b.Helper()
	body, err := tool.Encode(reply)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := b.store.CompleteCall(b.Context(), call.Outcome{
		CallID: o.Call.ID, State: call.Done,
		Reply: body,
	}); err != nil {
		b.Fatal(err)
	}
}

// A tombstone means that the result was recorded. While the record cannot be read, nothing is concluded.
func TestTombstoneWaitsForTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "echo done")
		synctest.Wait()
		b.counted.fails("TurnCalls", errAbsent)
		b.record(running, echo(running))
		b.executor.known[running.Call.ID] = call.TombstoneThere
		b.reconnect()
		time.Sleep(time.Minute)
		b.counted.fails("TurnCalls", nil)
		b.expect(b.wait(sub.ID), lane.Completed, "done")
	})
}

// A call that its loop has sent a moment ago is not looked for in the database, wherever its executor is connected.
func TestACallThatWasJustSentIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.expect(b.wait(b.submit("s", "echo one\necho two").ID), lane.Completed, "one\ntwo")
		if n := b.counted.looks.Load(); n != 0 {
			t.Errorf("calls were read %d times", n)
		}
	})
}

// While calls wait for an executor, or run at one that is connected here, their rows are not read again and again: with
// ten thousand of them that would be all that the database does. Elsewhere they are.
func TestCallsThatWaitAreNotRead(t *testing.T) {
	for name, c := range map[string]struct{ away, here, read bool }{
		"there is no executor": {away: true},
		"it is connected here": {here: true},
		"it is elsewhere":      {read: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				b.executor.here, b.executor.away = c.here, c.away
				b.executor.on = func(*call.Order) tool.Reply { return nil }
				b.submit("s", "echo x")
				time.Sleep(time.Minute)
				if n := b.counted.looks.Load(); (n > 1) != c.read {
					t.Errorf("calls were read %d times in a minute", n)
				}
			})
		})
	}
}

// An answer of an executor gets lost on its way between replicas: it is asked again.
func TestLostAnswerIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "echo x")
		synctest.Wait()
		b.executor.known[running.Call.ID] = call.Unknown // the order got lost
		b.executor.on = echo
		deliver := b.executor.deliver
		b.executor.deliver = func(call.Report) bool { return false } // and so does the answer
		b.reconnect()
		time.Sleep(time.Second)
		b.executor.deliver = deliver
		b.expect(b.wait(sub.ID), lane.Completed, "x")
	})
}

var errAbsent = errs.New(errs.Unavailable, "DATABASE_UNAVAILABLE", "the database cannot be reached; try again later")

// A database that is away for long costs time and no work, whichever words its driver has for it.
func TestUnavailableDatabaseFailsNothing(t *testing.T) {
	t.Run("while a definition is read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, agent.Shell())
			b.die()
			defs := &failing{agents: agents{agent.Shell()}, err: errAbsent}
			b.definitions = defs
			b.start(agent.Shell())
			b.counted.fails("Own", errAbsent)
			sub := b.submit("s", "say: hi")
			time.Sleep(10 * time.Minute)
			defs.set(nil)
			b.counted.fails("Own", nil)
			b.expect(b.wait(sub.ID), lane.Completed, "hi")
			if got, err := b.store.GetSubmission(b.Context(), "default", sub.ID); err != nil || got.Stalls != 0 {
				t.Errorf("charged %d stalls, %v", got.Stalls, err)
			}
		})
	})
	t.Run("while an answer is committed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, agent.Shell())
			b.counted.fails("Commit", errAbsent)
			sub := b.submit("s", "say: hi")
			time.Sleep(time.Minute)
			b.counted.fails("Commit", nil)
			b.expect(b.wait(sub.ID), lane.Completed, "hi")
		})
	})
}

// failing is definitions that cannot be read.
type failing struct {
	agents
	mu  sync.Mutex
	err error
}

func (f *failing) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failing) Definition(ctx context.Context, digest string) (agent.Definition, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return agent.Definition{}, f.err
	}
	return f.agents.Definition(ctx, digest)
}

// A run that fails hands its lane back, however long that takes: its owner lives, so nobody else would take the lane.
func TestFailingRunHandsItsLaneBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		defs := &failing{agents: agents{agent.Shell()}, err: errAbsent}
		b.definitions = defs
		b.start(agent.Shell())
		b.counted.fails("Release", errAbsent)
		sub := b.submit("s", "say: hi")
		time.Sleep(time.Minute)
		defs.set(nil)
		b.counted.fails("Release", nil)
		b.expect(b.wait(sub.ID), lane.Completed, "hi")
	})
}

// What nobody can read settles with a reason instead of being tried for ever.
func TestUnreadableInputIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		a := submission.Admission{
			ID: ident.New(), Key: key("s"), Input: []byte("{"),
			AgentDigest: agent.Shell().Digest(),
		}
		if _, err := b.store.Admit(b.Context(), a); err != nil {
			b.Fatal(err)
		}
		if got := b.wait(a.ID); got.Outcome != lane.Failed || got.Reason != "INPUT_UNREADABLE" {
			t.Errorf("settled as %+v", got)
		}
		b.expect(b.wait(b.submit("s", "say: hi").ID), lane.Completed, "hi")
	})
}

// A lane that was taken for this replica, which never heard so, is handed back: its owner lives, so nobody else would
// take it.
func TestOwnedLaneWithoutARunIsHandedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		input, err := json.Marshal(model.Message{Role: model.User, Content: []model.Block{{
			Type: model.TextBlock,
			Text: "say: hi",
		}}})
		if err != nil {
			t.Fatal(err)
		}
		a := submission.Admission{
			ID: ident.New(), Key: key("s"), Input: input, AgentDigest: agent.Shell().Digest(),
			Owner: b.id,
		}
		if got, err := b.store.Admit(b.Context(), a); err != nil || got.Lease == nil {
			t.Fatalf("%+v, %v", got, err)
		}
		b.expect(b.wait(a.ID), lane.Completed, "hi")
	})
}

// gated is a model whose second answer waits.
type gated struct {
	model.Model
	asked atomic.Int32
	open  chan struct{}
}

func (g *gated) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	if g.asked.Add(1) == 2 {
		<-g.open
	}
	return g.Model.Stream(ctx, req)
}

// A result that comes after it was given up is for the connection to record, while the run is at its next turn.
func TestLateResultIsNotSwallowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		g := &gated{Model: offline.New(), open: make(chan struct{})}
		b.model = g
		b.start(agent.Shell())
		var order *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { order = o; return nil }
		sub := b.submit("s", "rm -rf build")
		synctest.Wait()
		b.executor.mu.Lock()
		b.executor.away = true
		b.executor.mu.Unlock()
		b.bus.Publish(wake.Executor("x1"))
		time.Sleep(time.Hour / 2)
		if n := g.asked.Load(); n != 2 {
			t.Fatalf("the model was asked %d times", n)
		}
		if b.worker.Deliver(call.Report{
			Executor: order.Call.Executor, CallID: order.Call.ID, LaneID: sub.SessionID,
			Body: call.Ended{Reply: echo(order)},
		}) {
			t.Error("the run took a result that it does nothing with")
		}
		close(g.open)
		b.wait(sub.ID)
	})
}

// That a full disk refused to remember a Cancel says nothing about the call.
func TestRefusedCancelConfirmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.deaf = true
		var order *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { order = o; return nil }
		sub := b.submit("s", "sleep 1h")
		synctest.Wait()
		if _, err := b.service.Abort(b.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		b.worker.Deliver(call.Report{
			Executor: order.Call.Executor, CallID: order.Call.ID, LaneID: sub.SessionID,
			Body: call.Rejected{Epoch: 1 << 40, Reason: "NO_SPACE"},
		})
		if got := b.wait(sub.ID); got.Outcome != lane.Aborted || got.Cancellation == nil ||
			got.Cancellation.Confirmed {
			t.Errorf("settled %s, %+v", got.Outcome, got.Cancellation)
		}
	})
}

// The model is told that a call was not run, not only why: "disk full" could also be what a command came to.
func TestRefusedCallIsSaidNotToHaveRun(t *testing.T) {
	for _, reason := range []string{"NO_SPACE", "UNSUPPORTED"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, agent.Shell())
			b.executor.deaf = true
			var order *call.Order
			b.executor.on = func(o *call.Order) tool.Reply { order = o; return nil }
			sub := b.submit("s", "echo a")
			synctest.Wait()
			b.say(order.Call, order.Call.Executor, call.Rejected{
				Epoch: order.Epoch, Reason: reason, Message: "the disk of the executor's journal is full",
			})
			b.expect(b.wait(sub.ID), lane.Completed,
				"The executor did not run this call: the disk of the executor's journal is full")
		})
	}
}
