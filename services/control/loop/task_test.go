package loop_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// delegating is an agent that may ask sub-agents.
func delegating(change ...func(*agent.Definition)) agent.Definition {
	def := agent.Shell()
	for _, f := range change {
		f(&def)
	}
	return def
}

// stream reads all events of a lane, and fails if a seq is missing.
func (b *bench) stream(laneID string) (all []event.Event) {
	b.Helper()
	for {
		page, err := b.store.Events(b.Context(), laneID, int64(len(all)), 1000)
		if err != nil {
			b.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		for _, e := range page {
			if e.Seq != int64(len(all))+1 {
				b.Fatalf("event %d follows event %d", e.Seq, len(all))
			}
			all = append(all, e)
		}
	}
}

// checkTree fails unless the stream tells that every call and every sub-agent has begun and ended once.
func (b *bench) checkTree(laneID string, tasks int) {
	b.Helper()
	begun, ended, settled := map[string]int{}, map[string]int{}, 0
	for _, e := range b.stream(laneID) {
		switch e.Type {
		case event.TaskStarted:
			begun[e.Loop.Task]++
		case event.TaskFinished:
			ended[e.Loop.Task]++
		case event.ToolFinished:
			ended["call "+e.Call.ID]++
		case event.Settled:
			settled++
		}
	}
	if len(begun) != tasks || settled != 1 {
		b.Errorf("%d sub-agents began, want %d; settled %d times", len(begun), tasks, settled)
	}
	for task, n := range begun {
		if n != 1 || ended[task] != 1 || ended["call "+task] != 1 {
			b.Errorf("sub-agent %s began %d times, ended %d times, and its call %d times", task, n, ended[task],
				ended["call "+task])
		}
	}
	for what, n := range ended {
		if n != 1 {
			b.Errorf("%s ended %d times", what, n)
		}
	}
}

// children lists the conversations of sub-agents of a session.
func (b *bench) children(id string) []session.Session {
	b.Helper()
	found, err := b.store.ListSessions(b.Context(), session.Filter{
		Tenant: session.DefaultTenant, ParentID: id, Limit: 100,
	})
	if err != nil {
		b.Fatal(err)
	}
	return found
}

// Sub-agents that are asked in one answer work side by side, each in a conversation of its own.
func TestSubAgentsWorkSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		orders := map[string]*call.Order{}
		b.executor.on = func(o *call.Order) tool.Reply { orders[o.Request.(tool.Exec).Command] = o; return nil }
		sub := b.submit("s", "task: echo one\n& task: echo two")
		synctest.Wait()
		if len(orders) != 2 {
			t.Fatalf("%d commands run", len(orders))
		}
		for _, o := range orders {
			if o.LaneID != sub.SessionID || o.Call.LoopID == sub.ID {
				t.Errorf("the order is of lane %s, loop %s", o.LaneID, o.Call.LoopID)
			}
			b.say(o.Call, "x1", call.Ended{Reply: echo(o)})
		}
		got := b.wait(sub.ID)
		b.expect(got, lane.Completed, "one\ntwo")
		b.checkTree(sub.SessionID, 2)
		kids := b.children(sub.SessionID)
		if len(kids) != 2 {
			t.Fatalf("%d conversations of sub-agents", len(kids))
		}
		for _, k := range kids {
			entries, err := b.store.Entries(t.Context(), k.ID, 0, 100)
			if err != nil || len(entries) != 4 || k.LaneID != sub.SessionID || k.Pending != 0 ||
				k.Key.Name != "s/task:"+k.ParentCall {
				t.Errorf("conversation %+v has %d entries, %v", k, len(entries), err)
			}
		}
		b.executor.on = echo
		alone := b.wait(b.submit("t", "echo one").ID)
		if got.Usage.Total() <= 2*alone.Usage.Total() {
			t.Errorf("two sub-agents and their caller have used %d tokens, one alone %d", got.Usage.Total(),
				alone.Usage.Total())
		}
		b.expect(b.wait(b.submit("s", "say: on").ID), lane.Completed, "on")
	})
}

// The loop that asked finds the outcome of a task in its rows, beside a command that runs, before the sub-agent has
// told it. The end of the task is told once, and what it has cost is counted.
func TestTaskThatIsFoundInItsRowIsTakenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		var held *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { held = o; return nil }
		b.counted.after = func(c lane.Commit) {
			if c.Steps[0].End != nil && c.Steps[0].Outcomes != nil {
				b.bus.Publish(wake.Executor("x1")) // the loop that asked looks at its rows
				time.Sleep(time.Millisecond)
			}
		}
		const prompt = "echo one\n& task: say: two"
		sub := b.submit("s", prompt)
		time.Sleep(time.Second)
		synctest.Wait()
		b.say(held.Call, "x1", call.Ended{Reply: echo(held)})
		got := b.wait(sub.ID)
		b.expect(got, lane.Completed, "one\ntwo")
		b.checkTree(sub.SessionID, 1)
		b.executor.mu.Lock()
		b.counted.failMu.Lock()
		b.executor.on, b.counted.after = echo, nil
		b.counted.failMu.Unlock()
		b.executor.mu.Unlock()
		if plain := b.wait(b.submit("t", prompt).ID); got.Usage != plain.Usage {
			t.Errorf("it has cost %+v, and %+v when nobody looks meanwhile", got.Usage, plain.Usage)
		}
	})
}

// deep is a prompt that goes so many levels down.
func deep(levels int, line string) string { return strings.Repeat("task: ", levels) + line }

// Sub-agents ask sub-agents, down to a depth at which they are not offered to any more.
func TestSubAgentsOfSubAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		for levels := range 5 {
			name := fmt.Sprint(levels)
			sub := b.submit(name, deep(levels, "echo deep"))
			b.expect(b.wait(sub.ID), lane.Completed, "deep")
			b.checkTree(sub.SessionID, levels)
		}
		got := b.wait(b.submit("5", deep(5, "echo deep")).ID)
		if got.Outcome != lane.Completed || !strings.Contains(got.Text, "not found") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
	})
}

// At most eight sub-agents work for one loop at once; the others wait their turn.
func TestSubAgentsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		var orders []*call.Order
		b.executor.on = func(o *call.Order) tool.Reply { orders = append(orders, o); return nil }
		lines := make([]string, 20)
		for i := range lines {
			lines[i] = fmt.Sprint("& task: echo ", i)
		}
		sub := b.submit("s", strings.TrimPrefix(strings.Join(lines, "\n"), "& "))
		for done := 0; done < 20; done++ {
			synctest.Wait()
			if want := min(20-done, 8); len(orders)-done != want {
				t.Fatalf("after %d have ended %d work, want %d", done, len(orders)-done, want)
			}
			b.say(orders[done].Call, "x1", call.Ended{Reply: echo(orders[done])})
		}
		if got := b.wait(sub.ID); got.Outcome != lane.Completed || !strings.HasSuffix(got.Text, "19") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
		b.checkTree(sub.SessionID, 20)
	})
}

// A tree ends that has more loops waiting for sub-agents of their own than may work at once in a lane.
func TestWideTreesOfSubAgentsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		program := "say: one"
		for range 3 {
			ask, err := json.Marshal(map[string]string{"prompt": program})
			if err != nil {
				t.Fatal(err)
			}
			program = strings.TrimPrefix(strings.Repeat("\n& tool task: "+string(ask), 8), "\n& ")
		}
		sub := b.submit("s", program)
		got := b.wait(sub.ID)
		if n := strings.Count(got.Text, "one"); got.Outcome != lane.Completed || n != 8*8*8 {
			t.Errorf("settled %s with %d answers: %.200q", got.Outcome, n, got.Text)
		}
		b.checkTree(sub.SessionID, 8+8*8+8*8*8)
	})
}

// A loop that waits for sub-agents holds no stream that they need.
func TestStreamsAreNotHeldWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		b.die()
		b.streams = 1
		b.start(delegating())
		b.expect(b.wait(b.submit("s", "task: task: say: one\n& task: say: two").ID), lane.Completed, "one\ntwo")
	})
}

// An abort reaches every depth, and is confirmed for the whole tree.
func TestAbortReachesEveryDepth(t *testing.T) {
	for levels := range 5 {
		t.Run(fmt.Sprint(levels), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, delegating())
				b.executor.on = func(*call.Order) tool.Reply { return nil }
				sub := b.submit("s", deep(levels, "sleep 1000"))
				synctest.Wait()
				began := time.Now()
				if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
					t.Fatal(err)
				}
				got := b.wait(sub.ID)
				b.expect(got, lane.Aborted, "")
				if !got.Cancellation.Confirmed || len(b.executor.cancels) != 1 || time.Since(began) > time.Second {
					t.Errorf("%+v after %s, %d cancels", got.Cancellation, time.Since(began), len(b.executor.cancels))
				}
				b.checkTree(sub.SessionID, levels)
				b.executor.on = echo
				b.expect(b.wait(b.submit("s", "echo next").ID), lane.Completed, "next")
			})
		})
	}
}

// What a sub-agent's call leaves behind is told with the whole.
func TestCancellationOfATreeSaysWhatIsLeft(t *testing.T) {
	for reason, prepare := range map[string]func(*executor){
		call.NoAnswer:      func(e *executor) { e.deaf = true },
		call.ProcessesLeft: func(e *executor) { e.leaves = true },
		call.ExecutorAway:  func(e *executor) { e.away = true },
	} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, delegating())
				b.executor.on = func(*call.Order) tool.Reply { return nil }
				sub := b.submit("s", "task: task: sleep 1000\n& sleep 2000")
				synctest.Wait()
				b.executor.mu.Lock()
				prepare(b.executor)
				b.executor.mu.Unlock()
				if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
					t.Fatal(err)
				}
				got := b.wait(sub.ID)
				b.expect(got, lane.Aborted, "")
				left := got.Cancellation.Unconfirmed
				if len(left) != 2 || left[0].Reason != reason || left[1].Reason != reason {
					t.Errorf("unconfirmed %+v", left)
				}
			})
		})
	}
}

// Limits hold over the tree; a sub-agent that reaches one ends, and whoever asked is told.
func TestSubAgentThatExceedsALimit(t *testing.T) {
	for name, c := range map[string]struct {
		limit func(*agent.Limits)
		says  string
	}{
		"turns":   {func(l *agent.Limits) { l.Turns = 3 }, "limit of 3 turns"},
		"timeout": {func(l *agent.Limits) { l.Timeout = time.Minute }, "limit of 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				worker := agent.Shell()
				worker.Name = "worker"
				c.limit(&worker.Limits)
				def := delegating(func(d *agent.Definition) {
					d.Subagents, d.Team = []string{"worker"}, map[string]agent.Definition{"worker": worker}
				})
				b := newBench(t, def)
				b.executor.on = func(o *call.Order) tool.Reply {
					if strings.HasPrefix(o.Request.(tool.Exec).Command, "sleep") {
						return nil
					}
					return echo(o)
				}
				prompt := `tool task: {"agent":"worker","prompt":"echo 1\necho 2\necho 3\nsleep 1000"}`
				got := b.wait(b.submit("s", prompt).ID)
				if got.Outcome != lane.Completed || !strings.Contains(got.Text, c.says) {
					t.Errorf("settled %s: %q", got.Outcome, got.Text)
				}
			})
		})
	}
}

// A sub-agent may spend what is left to whoever asked it.
func TestTokensAreCountedOverTheTree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := newBench(t, delegating())
		spent := free.wait(free.submit("s", "echo 1").ID).Usage.Total()
		free.die()
		def := delegating(func(d *agent.Definition) { d.Limits.Tokens = 2 * spent })
		b := newBench(t, def)
		prompt := `tool task: {"prompt":"echo 1\necho 2\necho 3\necho 4\necho 5"}`
		got := b.wait(b.submit("s", prompt).ID)
		if got.Outcome != lane.Failed || got.Reason != "LIMIT_TOKENS" {
			t.Errorf("settled %s %s: %s", got.Outcome, got.Reason, got.Message)
		}
		if got.Usage.Total() > 4*spent {
			t.Errorf("%d tokens were used, the limit was %d", got.Usage.Total(), 2*spent)
		}
		if n := len(b.executor.ran); n == 0 || n == 5 {
			t.Errorf("%d commands ran", n)
		}
	})
}

// A sub-agent whose executor vanishes answers with what is known of its call.
func TestSubAgentWhoseExecutorVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		sub := b.submit("s", "task: rm -rf build")
		synctest.Wait()
		b.away(true)
		if got := b.wait(sub.ID); got.Outcome != lane.Completed || !strings.Contains(got.Text, "unknown") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
	})
}

// dying is a database whose replica dies at the n-th commit, before or after it is written.
type dying struct {
	mu    sync.Mutex
	n     int
	after bool
	die   func()
}

var errDying = errors.New("the process has died")

func (d *dying) commit(ctx context.Context, write func() (lane.Committed, error)) (lane.Committed, error) {
	d.mu.Lock()
	d.n--
	strike := d.n == 0
	dead := d.n < 0
	d.mu.Unlock()
	switch {
	case dead && d.die != nil:
		return lane.Committed{}, errDying
	case !strike:
		return write()
	}
	if d.after {
		if _, err := write(); err != nil {
			return lane.Committed{}, err
		}
	}
	d.die()
	return lane.Committed{}, ctx.Err()
}

// died waits until the replica has died; false when a submission settles before.
func (b *bench) died(id string) bool {
	b.Helper()
	for {
		select {
		case <-b.done:
			b.done <- nil
			return true
		case <-time.After(10 * time.Millisecond):
		}
		settled, err := b.store.Settled(b.Context(), []string{id})
		if err != nil {
			b.Fatal(err)
		}
		if len(settled) > 0 {
			return false
		}
	}
}

// Whenever its owner dies, a tree goes on where its rows say: nothing runs twice, and every loop ends once.
func TestTreeSurvivesADeathAtEveryCommit(t *testing.T) {
	const prompt = `tool task: {"prompt":"echo one\ntask: echo two"}` + "\n& task: echo three\n& echo four"
	commits := 0
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		var mu sync.Mutex
		b.counted.before = func(lane.Commit) { mu.Lock(); commits++; mu.Unlock() }
		b.wait(b.submit("s", prompt).ID)
	})
	for n := 1; n <= commits; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprint(n, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, delegating())
					b.counted.setDying(&dying{n: n, after: after, die: b.kill})
					sub := b.submit("s", prompt)
					if !b.died(sub.ID) {
						return // with fewer commits this time: what several loops want at once is one
					}
					b.start(delegating())
					got := b.wait(sub.ID)
					if got.Outcome != lane.Completed || !strings.Contains(got.Text, "four") {
						t.Fatalf("settled %s %s %s: %q", got.Outcome, got.Reason, got.Message, got.Text)
					}
					slices.Sort(b.executor.ran)
					want := []string{"echo four", "echo one", "echo three", "echo two"}
					if !slices.Equal(b.executor.ran, want) {
						t.Errorf("ran %q", b.executor.ran)
					}
					b.checkTree(sub.SessionID, 3)
				})
			})
		}
	}
}

// A sub-agent that kills its owners is given up alone: whoever asked is told, and its siblings are not charged.
func TestSubAgentThatKillsItsOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		b.executor.on = func(o *call.Order) tool.Reply {
			if strings.Contains(o.Request.(tool.Exec).Command, "poison") {
				return nil
			}
			return echo(o)
		}
		sub := b.submit("s", "task: echo poison\n& task: echo fine")
		for range 3 {
			synctest.Wait()
			b.die()
			b.start(delegating())
		}
		got := b.wait(sub.ID)
		if got.Outcome != lane.Completed || !strings.Contains(got.Text, "fine") ||
			!strings.Contains(got.Text, "given up as the likely cause") {
			t.Errorf("settled %s %s %s: %q", got.Outcome, got.Reason, got.Message, got.Text)
		}
		b.checkTree(sub.SessionID, 2)
	})
}

// A sub-agent whose conversation cannot be read is given up alone, too.
func TestSubAgentWhoseConversationCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		orders := map[string]*call.Order{}
		b.executor.on = func(o *call.Order) tool.Reply { orders[o.Request.(tool.Exec).Command] = o; return nil }
		sub := b.submit("s", "task: echo one\n& task: echo two")
		synctest.Wait()
		for _, k := range b.children(sub.SessionID) {
			if k.ParentCall == b.parentOf(orders["echo one"]) {
				b.counted.unreadable(k.ID)
			}
		}
		b.die()
		b.executor.results = map[string]tool.Reply{}
		for _, o := range orders {
			b.executor.known[o.Call.ID], b.executor.results[o.Call.ID] = call.FinishedThere, echo(o)
		}
		b.start(delegating())
		got := b.wait(sub.ID)
		if got.Outcome != lane.Completed || !strings.Contains(got.Text, "two") ||
			!strings.Contains(got.Text, "cannot be decoded") {
			t.Errorf("settled %s %s %s: %q", got.Outcome, got.Reason, got.Message, got.Text)
		}
	})
}

// parentOf is the task call whose sub-agent has asked for an order.
func (b *bench) parentOf(o *call.Order) string {
	b.Helper()
	for _, e := range b.stream(o.LaneID) {
		if e.Type == event.TaskStarted && e.SubmissionID == o.Call.LoopID {
			return e.Loop.Task
		}
	}
	b.Fatal("no sub-agent has asked for it")
	return ""
}

// Events of sub-agents' deltas are stored while somebody wants them, and else not.
func TestDeltasOfSubAgents(t *testing.T) {
	for name, c := range map[string]struct {
		want  event.Want
		shown bool
	}{"nobody wants them": {}, "somebody does": {event.Want{Children: event.AllOfChildren}, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, delegating())
				watch := b.events.Subscribe(key("s"), c.want)
				defer watch.Close()
				sub := b.submit("s", "task: say: hello")
				b.expect(b.wait(sub.ID), lane.Completed, "hello")
				shown := false
				for _, e := range b.stream(sub.SessionID) {
					shown = shown || e.Loop != nil && e.Type.IsDelta()
				}
				if shown != c.shown {
					t.Errorf("deltas of the sub-agent are stored: %v", shown)
				}
			})
		})
	}
}

// A sub-agent whose own time is up ends those that work for it, and whoever asked it goes on.
func TestTimeoutOfASubAgentEndsThoseBelow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := delegating(func(d *agent.Definition) { d.Name = "slow" })
		worker := delegating(func(d *agent.Definition) {
			d.Name, d.Limits.Timeout, d.Subagents = "worker", time.Minute, []string{"slow"}
		})
		b := newBench(t, delegating(func(d *agent.Definition) {
			d.Subagents, d.Team = []string{"worker"}, map[string]agent.Definition{"worker": worker, "slow": slow}
		}))
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		began := time.Now()
		sub := b.submit("s", "task worker: task slow: task: sleep 1000")
		got := b.wait(sub.ID)
		if took := time.Since(began); got.Outcome != lane.Completed || !strings.Contains(got.Text, "limit of 1m0s") ||
			took > 70*time.Second || len(b.executor.cancels) != 1 {
			t.Errorf("settled %s after %s, %d cancels: %q", got.Outcome, took, len(b.executor.cancels), got.Text)
		}
		b.checkTree(sub.SessionID, 3)
	})
}

// The end of a call that another replica has recorded is told once, whoever owns the lane later.
func TestRecordedEndIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		orders := map[string]*call.Order{}
		b.executor.on = func(o *call.Order) tool.Reply { orders[o.Request.(tool.Exec).Command] = o; return nil }
		sub := b.submit("s", "echo one\n& echo two")
		synctest.Wait()
		b.record(orders["echo one"], echo(orders["echo one"]))
		time.Sleep(10 * time.Second) // its owner has found it
		synctest.Wait()
		b.die()
		b.start(agent.Shell())
		synctest.Wait()
		b.say(orders["echo two"].Call, "x1", call.Ended{Reply: echo(orders["echo two"])})
		b.expect(b.wait(sub.ID), lane.Completed, "one\ntwo")
		b.checkTree(sub.SessionID, 0)
	})
}

// What was streamed of an answer whose owner died is said to be void, for every loop of the tree.
func TestOwnerChangeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		b.die()
		b.model = hanging{offline.New(), "slow", make(chan struct{})}
		b.start(delegating())
		ask := `tool task: {"prompt":"say: sl\u006fw"}` // which is no word of the root's
		sub := b.submit("s", ask+"\n& "+ask)
		synctest.Wait()
		b.kill()
		close(b.model.(hanging).release)
		b.die()
		b.model = offline.New()
		b.start(delegating())
		b.expect(b.wait(sub.ID), lane.Completed, "slow\nslow")
		told := map[string]bool{}
		for _, e := range b.stream(sub.SessionID) {
			if e.Type == event.Restarted {
				told[e.SubmissionID] = true
			}
		}
		if len(told) != 2 {
			t.Errorf("%d loops were told to begin their answers again, want 2", len(told))
		}
	})
}
