package loop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Guests work side by side in the lane of a run, each in a conversation of its own, with sub-agents of their own, and
// tell the steps that have asked what they came to and what that has cost.
func TestGuests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := delegating()
		b := newHost(newBench(t, def), def, says("echo one"), says("task: echo deep"), says("fail: no"))
		r := b.begins()
		got := b.finished(r.ID)
		if got.Status != run.Completed {
			t.Errorf("the run is %s: %s %s", got.Status, got.Reason, got.Message)
		}
		one := b.answers(1, "one")
		b.answers(2, "deep")
		if f := b.fails(3, call.Done, "MODEL_FAILED"); f.Message != "no" {
			t.Errorf("it failed with %q", f.Message)
		}
		b.checkTree(r.ID, 4)

		var spent model.Usage
		for ord := 1; ord <= 3; ord++ {
			e := b.came(ord)
			if spent = spent.Add(e.usage); !e.told {
				t.Errorf("step %d was not told", ord)
			}
		}
		alone := b.wait(b.submit("alone", "echo one").ID)
		if b.came(1).usage != alone.Usage || got.Usage != spent || spent.Total() < 3*alone.Usage.Total() {
			t.Errorf("they have cost %+v, the run %+v, one alone %+v", spent, got.Usage, alone.Usage)
		}

		kids := b.children(r.ID)
		if len(kids) != 3 {
			t.Fatalf("the run has %d conversations", len(kids))
		}
		i := slices.IndexFunc(kids, func(s session.Session) bool { return s.ID == one.Details["session_id"] })
		if i < 0 {
			t.Fatalf("%q is not among the conversations", one.Details["session_id"])
		}
		entries, err := b.store.Entries(t.Context(), kids[i].ID, 0, 100)
		want := run.Key(r.Tenant, "w", r.ID)
		want.Name += "/task:" + kids[i].ParentCall
		if err != nil || len(entries) != 4 || kids[i].LaneID != r.ID || kids[i].Key != want {
			t.Errorf("conversation %+v has %d entries, %v", kids[i], len(entries), err)
		}

		for _, e := range b.stream(r.ID) {
			switch {
			case e.Type == event.TaskStarted && e.Loop.Task == kids[i].ParentCall:
				if l := e.Loop; l.Root != r.SubmissionID || l.Parent != "" || l.Session != kids[i].ID ||
					e.Task.Agent != "shell" || e.Task.Description != "step1" {
					t.Errorf("it is told to begin as %+v, %+v", e.Loop, e.Task)
				}
			case e.Type == event.ToolFinished && e.Call.ID == kids[i].ParentCall:
				if e.SubmissionID != r.SubmissionID || e.Turn != 1 || e.Loop != nil {
					t.Errorf("its call is told to end as %+v", e)
				}
			}
		}
	})
}

func TestGuestEndsWithAStructuredResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wants := func(w *loop.Work) { w.Options.ResultSchema = json.RawMessage(sized) }
		b := newHost(newBench(t, agent.Shell()), agent.Shell(), says("say: counted\n"+three, wants),
			says("give up: no lines", wants))
		b.finished(b.begins().ID)
		if a := b.answers(1, "counted"); string(a.Data) != `{"lines":3}` {
			t.Errorf("the result is %s", a.Data)
		}
		b.fails(2, call.Done, "GAVE_UP")
	})
}

// What the work says stands over what the agent's definition says, for those below it too.
func TestGuestIsWhatItsWorkSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := delegating(func(d *agent.Definition) {
			d.Sandbox = agent.Sandbox{Kind: agent.SandboxLocal}
			d.Limits.Turns, d.Thinking = 1, model.ThinkingLow
		})
		other := model.Ref{Provider: "other", ID: "model"}
		b := newBench(t, def)
		asked := &requests{Model: offline.New()}
		b.models = map[model.Ref]model.Model{other: asked}
		b = newHost(b, def, says("echo one", func(w *loop.Work) {
			w.Model, w.Thinking, w.Limits.Turns = &other, model.ThinkingHigh, 2
		}), says("echo two"), says("task: echo deep", func(w *loop.Work) {
			w.Limits.Turns = 2
			w.Sandbox = &agent.Sandbox{Kind: agent.SandboxExecutor, Labels: map[string]string{"role": "ci"}}
		}))
		b.executor.labels = map[string]string{"role": "ci"}
		b.finished(b.begins().ID)
		b.answers(1, "one")
		if f := b.fails(2, call.Done, "LIMIT_TURNS"); !strings.Contains(f.Message, "agent's limit of 1 turn") {
			t.Errorf("it failed with %q", f.Message)
		}
		b.answers(3, "deep")
		if len(asked.all) != 2 || asked.all[0].Thinking != model.ThinkingHigh {
			t.Errorf("the other model was asked %d times: %+v", len(asked.all), asked.all)
		}
		if !slices.ContainsFunc(b.executor.wanted, func(w fleet.Wanted) bool { return w.Labels["role"] == "ci" }) {
			t.Error("no call wanted the executor of the work")
		}
	})
}

// Whoever takes the lane over goes on with the guests: it asks a model again that has not answered, and attaches to
// calls that run.
func TestGuestsAreTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := delegating()
		b := newBench(t, def)
		b.model = hanging{offline.New(), "say: answered", make(chan struct{})}
		b = newHost(b, def, says("say: answered"), says("echo slow"), says("task: echo slow deep"))
		var running []*call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = append(running, o); return nil }
		r := b.begins()
		if len(running) != 2 {
			t.Fatalf("%d commands run", len(running))
		}
		close(b.model.(hanging).release)
		b.die()
		b.model = offline.New()
		b.start(def)
		synctest.Wait()
		for _, o := range running {
			if !b.say(o.Call, "x1", call.Ended{Reply: echo(o)}) {
				t.Error("the successor does not wait for a call")
			}
		}
		b.finished(r.ID)
		b.answers(1, "answered")
		b.answers(2, "slow")
		b.answers(3, "slow deep")
		b.checkTree(r.ID, 4)
		if len(b.executor.ran) != 2 || b.host.had != 2 {
			t.Errorf("%q ran, with %d owners", b.executor.ran, b.host.had)
		}
	})
}

// Whenever the owner dies, before or after a commit, every guest and every call ends once, and costs what it costs.
func TestGuestsSurviveADeathAtEveryCommit(t *testing.T) {
	work := []loop.Work{says("echo one\ntask: echo deep"), says(`finish: {"lines": 3}`, func(w *loop.Work) {
		w.Options.ResultSchema = json.RawMessage(sized)
	})}
	var cost model.Usage
	check := func(t *testing.T, n int, after bool) (commits int) {
		synctest.Test(t, func(t *testing.T) {
			def := delegating()
			b := newHost(newBench(t, def), def, work...)
			b.counted.before = func(lane.Commit) { commits++ }
			if n > 0 {
				b.counted.setDying(&dying{n: n, after: after, die: b.kill})
			}
			r := b.begins()
			for range 10 {
				synctest.Wait()
				b.revive(def)
				time.Sleep(time.Second)
			}
			b.finished(r.ID)
			b.checkTree(r.ID, 3)
			one := b.answers(1, "one\ndeep")
			two := b.answers(2, "")
			if string(two.Data) != `{"lines":3}` {
				t.Errorf("the result is %s", two.Data)
			}
			if spent := b.came(1).usage; n == 0 {
				cost = spent
			} else if spent != cost {
				t.Errorf("it has cost %+v, and %+v when nobody dies", spent, cost)
			}
			for _, a := range []tool.Answer{one, two} {
				if s, err := b.store.GetSession(t.Context(), r.Tenant, a.Details["session_id"]); err != nil ||
					s.Pending != 0 || s.ParentID != r.ID {
					t.Errorf("its conversation is %+v, %v", s, err)
				}
			}
			if ran := b.executor.commands(); len(ran) != 2 {
				t.Errorf("%q ran", ran)
			}
		})
		return commits
	}
	commits := check(t, 0, false)
	for n := 1; n <= commits; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprint(n, after), func(t *testing.T) { check(t, n, after) })
		}
	}
}

// Calls of guests wait for approvals like any others, while the lane of the run rests. Who decides sees for what.
func TestGuestsCallsAreGated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := ruled(askAbout())
		by := model.Speaker{Name: "bob"}
		b := newHost(newBench(t, def), def, says("rm x", func(w *loop.Work) { w.Message.From = &by }),
			says("task: rm deep"))
		r := b.begins()
		time.Sleep(time.Second)
		all := b.open()
		if len(all) != 2 || b.worker.Owns(r.ID) {
			t.Fatalf("%d approvals are open, the lane rests: %v", len(all), !b.worker.Owns(r.ID))
		}
		var paths []string
		for _, a := range all {
			var path []string
			for _, stage := range a.Subject.Path {
				path = append(path, stage.Agent+"/"+stage.Description)
			}
			paths = append(paths, strings.Join(path, " "))
			if strings.Contains(string(a.Subject.Arguments), "rm x") && !slices.Equal(a.Subject.Requesters,
				[]model.Speaker{by}) {
				t.Errorf("it was asked for by %v", a.Subject.Requesters)
			}
		}
		slices.Sort(paths)
		if want := []string{"workflow:w/ shell/step1", "workflow:w/ shell/step2 shell/"}; !slices.Equal(paths, want) {
			t.Errorf("the ways are %q", paths)
		}
		b.decide(all[0])
		time.Sleep(10 * time.Minute)
		b.decide(all[1], denied("not now"))
		b.finished(r.ID)
		b.checkTree(r.ID, 3)
		b.expectTold(r.ID, map[string]int{"requested": 2, "approved": 1, "denied": 1})
		if ran := b.executor.commands(); len(ran) != 1 {
			t.Errorf("%q ran", ran)
		}
	})
}

// What ends the run ends its guests, and what ends a step ends its guest alone.
func TestGuestsAreEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := delegating()
		b := newHost(newBench(t, def), def, says("sleep 1"), says("task: sleep 2"), says("sleep 3"))
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		r := b.begins()
		two := b.host.now.step(2)
		two.stop = loop.Stop{Outcome: lane.Expired, Reason: "STEP_TIMEOUT", Message: "it takes too long"}
		close(two.above)
		time.Sleep(time.Second)
		synctest.Wait()
		if f := b.fails(2, call.Cancelled, "STEP_TIMEOUT"); !strings.HasPrefix(f.Message, "it takes too long") {
			t.Errorf("it failed with %q", f.Message)
		}
		if len(b.host.ended) != 1 || len(b.executor.cancels) != 1 {
			t.Errorf("%d steps ended, %d calls were cancelled", len(b.host.ended), len(b.executor.cancels))
		}
		if _, err := b.store.RequestAbort(t.Context(), r.Tenant, r.SubmissionID); err != nil {
			t.Fatal(err)
		}
		if got := b.finished(r.ID); got.Status != run.Cancelled {
			t.Errorf("the run is %s", got.Status)
		}
		b.fails(1, call.Cancelled, tool.ReasonCancelled)
		b.fails(3, call.Cancelled, tool.ReasonCancelled)
		b.checkTree(r.ID, 4)
	})
}

// The secrets of the run are shown to no guest, and kept in none of its records.
func TestSecretsOfTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "swordfish!"
		knows := func(w *loop.Work) { w.Secrets = []string{secret} }
		def := delegating(func(d *agent.Definition) { d.Env = agent.Env{"KEY": new("${SECRET}")} })
		b := newHost(newBench(t, def), def, says("echo swordfish! hunter2hunter2", knows),
			says("task: echo swordfish!", knows))
		r := b.begins()
		b.finished(r.ID)
		b.answers(1, "[redacted] [redacted]")
		b.answers(2, "[redacted]")
		all, err := json.Marshal(b.stream(r.ID))
		if err != nil || strings.Contains(string(all), secret) {
			t.Errorf("the stream has it: %s, %v", all, err)
		}
	})
}

// unreadable has no definitions.
type unreadable struct{ err error }

func (u unreadable) Definition(context.Context, string) (agent.Definition, error) {
	return agent.Definition{}, u.err
}

// A definition that cannot be read fails the step, also when that turns out by a take-over, and not the run.
func TestGuestWithoutADefinition(t *testing.T) {
	gone := errs.New(errs.FailedPrecondition, "DEFINITION_UNREADABLE", "it cannot be read")
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.definitions = unreadable{gone}
		b = newHost(b, agent.Shell(), says("echo one"))
		if got := b.finished(b.begins().ID); got.Status != run.Completed {
			t.Errorf("the run is %s", got.Status)
		}
		b.fails(1, call.Done, "DEFINITION_UNREADABLE")
	})
	synctest.Test(t, func(t *testing.T) {
		b := newHost(newBench(t, agent.Shell()), agent.Shell(), says("echo one"))
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		r := b.begins()
		b.die()
		b.definitions = unreadable{gone}
		b.start(agent.Shell())
		if got := b.finished(r.ID); got.Status != run.Completed {
			t.Errorf("the run is %s", got.Status)
		}
		b.fails(1, call.Done, "DEFINITION_UNREADABLE")
		if len(b.executor.cancels) != 1 {
			t.Errorf("%d calls were cancelled", len(b.executor.cancels))
		}
		b.checkTree(r.ID, 1)
	})
}

// A guest of which nobody knows what it has to do, or for whom, ends after three owners.
func TestGuestThatCannotGoOn(t *testing.T) {
	for name, spoil := range map[string]func(*hosting){
		"its work cannot be made": func(h *hosting) { h.odd = errOdd },
		"nobody waits for it":     func(h *hosting) { h.lost = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHost(newBench(t, agent.Shell()), agent.Shell(), says("echo one"), says("echo two"))
				b.executor.on = func(*call.Order) tool.Reply { return nil }
				r := b.begins()
				b.die()
				spoil(b.host)
				b.start(agent.Shell())
				if got := b.finished(r.ID); got.Status != run.Completed {
					t.Errorf("the run is %s: %s", got.Status, got.Message)
				}
				if b.host.lost {
					return // and so are what they came to
				}
				for ord := 1; ord <= 2; ord++ {
					if f := b.fails(ord, call.Done, lane.ReasonStalled); !strings.Contains(f.Message, errOdd.Error()) {
						t.Errorf("it failed with %q", f.Message)
					}
				}
				b.checkTree(r.ID, 2)
			})
		})
	}
}

// What the agents of a run may use in all, they may use together.
func TestLimitsOfTheRun(t *testing.T) {
	for name, c := range map[string]struct {
		limits agent.Limits
		reason string
	}{
		"turns":  {agent.Limits{Turns: 3}, "LIMIT_TURNS"},
		"tokens": {agent.Limits{Tokens: 300}, "LIMIT_TOKENS"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := "echo 1\necho 2\necho 3\necho 4\necho 5\necho 6"
				b := newHost(newBench(t, agent.Shell()), agent.Shell(), says(lines), says(lines))
				b.die()
				b.host.limits = c.limits
				b.start(agent.Shell())
				r := b.begins()
				b.finished(r.ID)
				for ord := 1; ord <= 2; ord++ {
					if f := b.fails(ord, call.Done, c.reason); !strings.HasPrefix(f.Message, "the run's limit of ") {
						t.Errorf("it failed with %q", f.Message)
					}
				}
				if n := len(b.executor.commands()); n < 2 || n > 4 {
					t.Errorf("%d commands ran", n)
				}
			})
		})
	}
}

// What agents had used before a take-over counts.
func TestLimitsOfTheRunAfterATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHost(newBench(t, agent.Shell()), agent.Shell(), says("echo 1\necho 2"), says("echo slow\nsay: done"))
		b.die()
		b.host.limits = agent.Limits{Turns: 4}
		b.start(agent.Shell())
		var slow *call.Order
		b.executor.on = func(o *call.Order) tool.Reply {
			if strings.Contains(o.Request.(tool.Exec).Command, "slow") {
				slow = o
				return nil
			}
			return echo(o)
		}
		r := b.begins()
		time.Sleep(time.Second)
		b.answers(1, "1\n2") // with 3 answers, and the other has 1
		b.die()
		b.start(agent.Shell())
		synctest.Wait()
		b.say(slow.Call, "x1", call.Ended{Reply: echo(slow)})
		b.finished(r.ID)
		b.fails(2, call.Done, "LIMIT_TURNS")
	})
}

// Steps that name one session take turns in one conversation, whoever owns the lane.
func TestGuestsShareAConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := func(name string) func(*loop.Work) { return func(w *loop.Work) { w.Session = name } }
		b := newBench(t, agent.Shell())
		told := &recording{Model: offline.New()}
		b.model = told
		b = newHost(b, agent.Shell(), says("echo 1", in("one")), says("echo 2", in("one")), says("echo 3", in("one")),
			says("echo 4", in("other")))
		var held []*call.Order
		b.executor.on = func(o *call.Order) tool.Reply { held = append(held, o); return nil }
		r := b.begins()
		if len(held) != 2 {
			t.Fatalf("%d commands run", len(held))
		}
		b.die()
		b.start(agent.Shell())
		time.Sleep(10 * time.Second)
		if len(held) != 2 {
			t.Errorf("%d commands run before one has ended", len(held))
		}
		for n := 0; n < len(held); n++ {
			b.say(held[n].Call, "x1", call.Ended{Reply: echo(held[n])})
			time.Sleep(time.Second)
			synctest.Wait()
		}
		b.finished(r.ID)
		b.checkTree(r.ID, 4)
		ids := map[string]int{}
		for ord := 1; ord <= 4; ord++ {
			ids[b.answers(ord, fmt.Sprint(ord)).Details["session_id"]]++
		}
		one := b.answers(1, "1").Details["session_id"]
		if len(ids) != 2 || ids[one] != 3 || len(b.children(r.ID)) != 2 {
			t.Fatalf("the conversations are %v", ids)
		}
		s, err := b.store.GetSession(t.Context(), r.Tenant, one)
		if err != nil || s.EntryHead != 12 || s.Key.Name != session.DefaultName+"/session:one" || s.Pending != 0 {
			t.Errorf("the conversation is %+v, %v", s, err)
		}
		if n := len(told.told); n != 11 {
			t.Errorf("the last one was told %d messages: %q", n, told.history())
		}
	})
}

// A step that waits for a conversation keeps the lane from resting as little as the one that has it.
func TestStepThatWaitsForAConversationRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := func(w *loop.Work) { w.Session = "one" }
		def := ruled(askAbout())
		b := newHost(newBench(t, def), def, says("rm 1", in), says("rm 2", in))
		r := b.begins()
		for n := 1; n <= 2; n++ {
			time.Sleep(10 * time.Second)
			a := b.asked()
			if b.worker.Owns(r.ID) {
				t.Fatal("the lane does not rest")
			}
			time.Sleep(10 * time.Minute)
			b.decide(a)
		}
		b.finished(r.ID)
		b.checkTree(r.ID, 2)
		if got := slices.Sorted(slices.Values(b.executor.commands())); strings.Join(got, ",") != "rm 1,rm 2" {
			t.Errorf("%q ran", got)
		}
	})
}

// The deadline of the run ends its guests.
func TestDeadlineOfTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newHost(newBench(t, agent.Shell()), agent.Shell(), says("sleep 1000"))
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		b.host.timeout = time.Minute
		r := b.begins()
		b.finished(r.ID)
		if f := b.fails(1, call.Cancelled, "LIMIT_TIMEOUT"); !strings.HasPrefix(f.Message,
			"the run's limit of 1m0s is reached") {
			t.Errorf("it failed with %q", f.Message)
		}
	})
}

// A guest that cleans up, and what it asks for, goes on although the run has to end. It ends when its step does.
func TestLateGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := delegating()
		b := newHost(newBench(t, def), def, says("echo 1\ntask: echo 2\necho 3"), says("task: sleep 4"),
			says("sleep 5"))
		b.host.late = map[int]bool{1: true, 2: true}
		var running []*call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = append(running, o); return nil }
		r := b.begins()
		if _, err := b.store.RequestAbort(t.Context(), r.Tenant, r.SubmissionID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		b.fails(3, call.Cancelled, tool.ReasonCancelled)
		b.die() // a successor knows it too
		b.start(def)
		for n := 0; n < len(running); n++ {
			if o := running[n]; strings.HasPrefix(o.Request.(tool.Exec).Command, "echo") {
				b.say(o.Call, "x1", call.Ended{Reply: echo(o)})
			}
			synctest.Wait()
		}
		b.answers(1, "1\n2\n3")
		b.host.now.step(2).stop = loop.Stop{Outcome: lane.Aborted, Reason: "CANCELLED", Message: "enough"}
		close(b.host.now.step(2).above)
		if got := b.finished(r.ID); got.Status != run.Cancelled {
			t.Errorf("the run is %s", got.Status)
		}
		b.fails(2, call.Cancelled, tool.ReasonCancelled)
	})
}
