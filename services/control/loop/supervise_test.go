package loop_test

import (
	"context"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// hanging is a model that takes no notice of anything until it is let go, when it answers as if nothing had been.
type hanging struct {
	model.Model
	on      string // the prompt that it hangs on
	release chan struct{}
}

func (h hanging) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	if m := req.Messages; !strings.Contains(m[len(m)-1].Text(), h.on) {
		return h.Model.Stream(ctx, req)
	}
	return func(yield func(model.Part, error) bool) {
		<-h.release
		for p, err := range h.Model.Stream(context.WithoutCancel(ctx), req) {
			if !yield(p, err) {
				return
			}
		}
	}
}

// A replica that drains waits for an answer that streams for a while, and not for ever; the successor asks again, and
// nothing is charged.
func TestDrainInAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		b.model = patient{offline.New()}
		b.start(agent.Shell())
		sub := b.submit("s", "say: answered")
		synctest.Wait()
		began := time.Now()
		close(b.drain)
		if err := <-b.done; err != nil {
			t.Fatal(err)
		}
		b.done <- nil
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("it took %s", took)
		}
		b.model = offline.New()
		b.start(agent.Shell())
		got := b.wait(sub.ID)
		b.expect(got, lane.Completed, "answered")
		if got.Attempts != 0 || got.Stalls != 0 {
			t.Errorf("%d attempts and %d stalls were charged", got.Attempts, got.Stalls)
		}
	})
}

// patient is a model that says nothing until nobody wants to hear it any more.
type patient struct{ model.Model }

func (p patient) Stream(ctx context.Context, _ model.Request) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		<-ctx.Done()
		yield(model.Part{}, ctx.Err())
	}
}

// second runs another replica on the bench's database until the test ends.
func (b *bench) second(def agent.Definition) *lane.Worker {
	w := b.replica(b.store, event.NewService(b.store, wake.NewBus(nil)), agents{def})
	id := ident.New()
	if _, err := b.store.RegisterReplica(b.Context(), replica.Replica{ID: id}, time.Hour); err != nil {
		b.Fatal(err)
	}
	ctx, kill := context.WithCancel(context.WithoutCancel(b.Context()))
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx, id, nil, nil) }()
	b.Cleanup(func() { kill(); <-done })
	return w
}

// A provider that hangs so that its owner hangs with it: another replica ends the submission when its time is up, the
// next in the queue runs, and what the owner says when it wakes up is refused.
func TestOwnerThatHangsIsEnded(t *testing.T) {
	for name, c := range map[string]struct {
		abort   bool
		outcome lane.Outcome
		reason  string
		within  [2]time.Duration
	}{
		"past its deadline": {
			false, lane.Expired, lane.ReasonNotEnded,
			[2]time.Duration{90 * time.Second, 97 * time.Second},
		},
		"past its abort": {true, lane.Aborted, lane.ReasonNotEnded, [2]time.Duration{
			30 * time.Second,
			37 * time.Second,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				def := agent.Shell()
				def.Limits.Timeout = time.Minute
				b := newBench(t, def)
				b.die()
				release := make(chan struct{})
				var once sync.Once
				wake := func() { once.Do(func() { close(release) }) }
				b.model = hanging{offline.New(), "hang", release}
				b.start(def)
				t.Cleanup(wake)
				b.second(def)
				began := time.Now()
				sub, next := b.submit("s", "say: hang"), b.submit("s", "say: next")
				synctest.Wait()
				if c.abort {
					if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
						t.Fatal(err)
					}
				}
				got := b.wait(sub.ID)
				if got.Outcome != c.outcome || got.Reason != c.reason ||
					!strings.Contains(got.Message, "it was not ended within") || got.Attempts != 0 {
					t.Errorf("settled %s %s after %d attempts: %s", got.Outcome, got.Reason, got.Attempts, got.Message)
				}
				if took := time.Since(began); took < c.within[0] || took > c.within[1] {
					t.Errorf("it took %s", took)
				}
				b.expect(b.wait(next.ID), lane.Completed, "next")
				wake()
				synctest.Wait()
				logged, err := b.events.Read(t.Context(), sub.SessionID, 0)
				if err != nil {
					t.Fatal(err)
				}
				settled := 0
				for _, e := range logged {
					if e.SubmissionID == sub.ID && e.Type == event.Settled {
						settled++
					}
					if e.SubmissionID == sub.ID && strings.Contains(e.Text, "hang") {
						t.Errorf("a late write was taken: %+v", e)
					}
				}
				if settled != 1 {
					t.Errorf("it settled %d times", settled)
				}
			})
		})
	}
}

// The database's clock is never compared with the replica's: wherever it is, a prompt has the time that it has.
func TestTheDatabasesClockMayBeAnywhere(t *testing.T) {
	for _, offset := range []time.Duration{-2 * time.Hour, -90 * time.Second, 10 * time.Minute} {
		t.Run(offset.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				def := agent.Shell()
				def.Limits.Timeout = time.Minute
				b := newBenchOn(t, def, sqlite.Options{Clock: sqlite.Clock{
					Wall: func() time.Time { return time.Now().Add(offset) },
				}})
				b.expect(b.wait(b.submit("s", "echo hi").ID), lane.Completed, "hi")
				b.executor.on = func(*call.Order) tool.Reply { return nil }
				began := time.Now()
				b.expect(b.wait(b.submit("s", "sleep 1000").ID), lane.Expired, "")
				if took := time.Since(began); took < time.Minute || took > 65*time.Second {
					t.Errorf("it expired after %s", took)
				}
			})
		})
	}
}

// Who dies hands nothing back, not even in the moment of death: others take over, and that is charged.
func TestTheDeadHandNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		for _, s := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"} {
			b.submit(s, "sleep 1000")
		}
		synctest.Wait()
		gate := make(chan struct{})
		b.executor.mu.Lock()
		b.executor.gate = gate
		b.executor.mu.Unlock()
		b.bus.Publish(wake.Executor("x1")) // so that they are busy when it happens
		synctest.Wait()
		b.kill()
		synctest.Wait()
		close(gate)
		b.die()
		if n := b.counted.releases.Load(); n != 0 {
			t.Errorf("%d lanes were handed back", n)
		}
	})
}

// What an abort settles with says whether nothing runs any more, and else which call may, where, and why that is not
// known.
func TestCancellationSaysWhatIsKnown(t *testing.T) {
	for name, c := range map[string]struct {
		executor func(*executor) // as it is when the abort is requested
		reason   string          // "" is confirmed
	}{
		"confirmed":          {func(*executor) {}, ""},
		"executor away":      {func(e *executor) { e.away = true }, call.ExecutorAway},
		"executor deaf":      {func(e *executor) { e.deaf = true }, call.NoAnswer},
		"processes are left": {func(e *executor) { e.leaves = true }, call.ProcessesLeft},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				var running *call.Order
				b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
				sub := b.submit("s", "sleep 1000")
				synctest.Wait()
				b.executor.mu.Lock()
				c.executor(b.executor)
				b.executor.mu.Unlock()
				began := time.Now()
				if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
					t.Fatal(err)
				}
				got := b.wait(sub.ID)
				b.expect(got, lane.Aborted, "")
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("it took %s", took)
				}
				z := got.Cancellation
				switch {
				case z == nil || z.Confirmed != (c.reason == ""):
					t.Fatalf("cancellation %+v", z)
				case c.reason == "":
					if len(z.Unconfirmed) != 0 || !strings.Contains(got.Message, "; confirmed: ") {
						t.Errorf("cancellation %+v, message %q", z, got.Message)
					}
				case len(z.Unconfirmed) != 1:
					t.Errorf("cancellation %+v", z)
				default:
					u := z.Unconfirmed[0]
					if u.CallID != running.Call.ID || u.Executor != "x1" || u.Tool != "bash" || u.Reason != c.reason ||
						u.Message == "" || !strings.Contains(got.Message, u.CallID) {
						t.Errorf("unconfirmed %+v, message %q", u, got.Message)
					}
				}
				logged, err := b.events.Read(t.Context(), sub.SessionID, 0)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(z, logged[len(logged)-1].Settlement.Cancellation); diff != "" {
					t.Errorf("the event tells otherwise (-row +event):\n%s", diff)
				}
			})
		})
	}
}

// A connection that comes and goes must not put the end off for ever.
func TestFlappingExecutorDoesNotPutTheEndOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		b.executor.deaf = true
		sub := b.submit("s", "sleep 1000")
		synctest.Wait()
		began := time.Now()
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			time.Sleep(3 * time.Second)
			b.reconnect()
		}
		got := b.wait(sub.ID)
		if took := got.SettledAt.Sub(began); got.Outcome != lane.Aborted || took > 25*time.Second {
			t.Errorf("settled %s after %s", got.Outcome, took)
		}
	})
}

// A call that was lost turns ago may still run when the submission is aborted, until its late reply has come.
func TestCallsLostInEarlierTurnsAreNotConfirmed(t *testing.T) {
	for name, late := range map[string]bool{"nobody knows": false, "it ended late": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				var orders []*call.Order
				b.executor.on = func(o *call.Order) tool.Reply { orders = append(orders, o); return nil }
				sub := b.submit("s", "rm -rf build\nsleep 1000")
				synctest.Wait()
				b.away(true)
				time.Sleep(3 * time.Minute)
				b.away(false)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if len(orders) != 2 {
					t.Fatalf("%d orders", len(orders))
				}
				if late {
					body, err := tool.Encode(echo(orders[0]))
					if err != nil {
						t.Fatal(err)
					}
					if _, err := b.store.CompleteCall(t.Context(), call.Outcome{
						CallID: orders[0].Call.ID,
						State:  call.Done, Reply: body,
					}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
					t.Fatal(err)
				}
				got := b.wait(sub.ID).Cancellation
				if got == nil || got.Confirmed != late {
					t.Fatalf("cancellation %+v", got)
				}
				if !late && (len(got.Unconfirmed) != 1 || got.Unconfirmed[0].CallID != orders[0].Call.ID ||
					got.Unconfirmed[0].Reason != call.OutcomeLost) {
					t.Errorf("cancellation %+v", got)
				}
			})
		})
	}
}

func (b *bench) away(away bool) {
	b.executor.mu.Lock()
	b.executor.away = away
	b.executor.epoch++
	b.executor.mu.Unlock()
	b.bus.Publish(wake.Executor("x1"))
}

// An abort that comes late is for the submission that it was requested for, never for the one that runs by then.
func TestAbortOfWhatHasSettledLeavesTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		first := b.submit("s", "say: first")
		b.wait(first.ID)
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		second := b.submit("s", "echo second")
		synctest.Wait()
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, first.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.say(running.Call, "x1", call.Ended{Reply: echo(running)})
		b.expect(b.wait(second.ID), lane.Completed, "second")
	})
}

// A hint from the replica at which an abort was requested is acted on at once, without one the poll finds it.
func TestAbortIsFoundWithAndWithoutAHint(t *testing.T) {
	for name, hint := range map[string]bool{"with a hint": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				b.executor.on = func(*call.Order) tool.Reply { return nil }
				sub := b.submit("s", "sleep 1000")
				time.Sleep(10*time.Second + 123*time.Millisecond)
				began := time.Now()
				if _, err := b.store.RequestAbort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
					t.Fatal(err)
				}
				if hint {
					b.bus.Heard([]string{sub.SessionID})
				}
				got := b.wait(sub.ID)
				b.expect(got, lane.Aborted, "")
				if took := got.SettledAt.Sub(began); hint && took > 0 || took > 2*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// A session is aborted with all that it has: what runs and what waits.
func TestAbortOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		subs := []submission.Submission{
			b.submit("s", "sleep 1000"), b.submit("s", "echo one"),
			b.submit("s", "echo two"),
		}
		synctest.Wait()
		settled, running, err := b.service.AbortSession(t.Context(), session.DefaultTenant, subs[0].SessionID)
		if err != nil || settled != 2 || running == nil || running.ID != subs[0].ID || !running.AbortRequested {
			t.Fatalf("settled %d, running %+v, %v", settled, running, err)
		}
		for _, s := range subs {
			got := b.wait(s.ID)
			if got.Outcome != lane.Aborted || got.Cancellation == nil || !got.Cancellation.Confirmed {
				t.Errorf("settled %s: %+v", got.Outcome, got.Cancellation)
			}
		}
		if len(b.executor.ran) != 1 || len(b.executor.cancels) != 1 {
			t.Errorf("ran %q, %d cancels", b.executor.ran, len(b.executor.cancels))
		}
		b.executor.on = echo
		b.expect(b.wait(b.submit("s", "echo usable").ID), lane.Completed, "usable")
	})
}

// The owner gives a call up in the very moment in which another replica records its result: the conversation has the
// result.
func TestResultThatIsRecordedFirstIsNotLost(t *testing.T) {
	for name, message := range map[string]string{"the only call": "echo one", "one of two": "echo one\n& echo two"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, agent.Shell())
				orders := map[string]*call.Order{}
				b.executor.on = func(o *call.Order) tool.Reply { orders[o.Call.ID] = o; return nil }
				recorded := 0
				b.counted.before = func(c lane.Commit) {
					for _, o := range c.Steps[0].Outcomes {
						if o.State != call.Lost {
							continue
						}
						body, err := tool.Encode(echo(orders[o.CallID]))
						if err != nil {
							t.Error(err)
						}
						if _, err := b.store.CompleteCall(context.Background(),
							call.Outcome{CallID: o.CallID, State: call.Done, Reply: body}); err != nil {
							t.Error(err)
						}
						recorded++
					}
				}
				sub := b.submit("s", message)
				synctest.Wait()
				b.away(true)
				got := b.wait(sub.ID)
				want := "one"
				if len(orders) == 2 {
					want = "one\ntwo"
				}
				b.expect(got, lane.Completed, want)
				if recorded != len(orders) {
					t.Errorf("%d of %d calls met the race", recorded, len(orders))
				}
				logged, err := b.events.Read(t.Context(), sub.SessionID, 0)
				if err != nil {
					t.Fatal(err)
				}
				finished := 0
				for _, e := range logged {
					if e.Type == event.ToolFinished {
						finished++
						if e.Call.State != "done" {
							t.Errorf("event %+v", e.Call)
						}
					}
				}
				if finished != len(orders) {
					t.Errorf("%d of %d calls were told to have finished", finished, len(orders))
				}
			})
		})
	}
}

// After an outage nobody else counts as dead, but for those who are known to be.
func TestNobodyIsDeclaredDeadAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		sub := b.submit("s", "sleep 1000")
		synctest.Wait()
		b.die()
		var over atomic.Bool
		b.mayReap = over.Load
		gone, err := b.store.RegisterReplica(t.Context(), replica.Replica{ID: ident.New(), Host: "h", Lock: "l"},
			time.Hour)
		if err != nil || len(gone) != 1 {
			t.Fatalf("predecessors %v, %v", gone, err)
		}
		b.startAs("elsewhere", agent.Shell())
		attempts := func() int {
			got, err := b.service.Get(t.Context(), session.DefaultTenant, sub.ID)
			if err != nil {
				t.Fatal(err)
			}
			return got.Attempts
		}
		time.Sleep(time.Minute)
		if n := attempts(); n != 0 {
			t.Fatalf("the lane was taken over %d times", n)
		}
		over.Store(true)
		time.Sleep(10 * time.Second)
		if n := attempts(); n != 1 {
			t.Errorf("the lane was taken over %d times once the outage is over", n)
		}
	})
}
