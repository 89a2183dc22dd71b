package loop_test

import (
	"context"
	"encoding/json"
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
	"github.com/pawl-dev/pawl/services/control/tool"
)

// wide asks n sub-agents to do the same.
func wide(t *testing.T, n int, prompt string) string {
	t.Helper()
	args, err := json.Marshal(map[string]string{"prompt": prompt})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(strings.Repeat("\n& tool task: "+string(args), n), "\n& ")
}

// At most 64 loops of a lane work at once. Those that wait for sub-agents never keep these from beginning.
func TestLoopsOfALaneTakeTurns(t *testing.T) {
	for name, prompt := range map[string]string{
		"broad": wide(t, 8, wide(t, 9, "task: say: done")),
		"deep":  wide(t, 8, wide(t, 8, wide(t, 2, "task: say: done"))),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, delegating())
				sub := b.submit("s", prompt)
				got := b.wait(sub.ID)
				if want := strings.Count(prompt, "done"); got.Outcome != lane.Completed ||
					!strings.Contains(got.Text, "done") {
					t.Fatalf("settled %s %s, %d leaves: %s", got.Outcome, got.Reason, want, got.Message)
				}
				at, most := 1, 0 // the root is one of them
				for _, e := range b.stream(sub.SessionID) {
					switch e.Type {
					case event.TaskStarted:
						at++
					case event.TaskFinished:
						at--
					}
					most = max(most, at)
				}
				if most > 64 || most < 40 {
					t.Errorf("%d loops worked at once", most)
				}
			})
		})
	}
}

// broken is a model whose answers to a prompt cannot be made sense of.
type broken struct {
	model.Model
	on string
}

func (m broken) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	if !strings.Contains(req.Messages[len(req.Messages)-1].Text(), m.on) {
		return m.Model.Stream(ctx, req)
	}
	return func(yield func(model.Part, error) bool) {
		yield(model.Part{Type: model.PartWaiting}, nil) // without what it waits for: the loop panics
	}
}

// A loop that panics in the midst of an answer lets others stream.
func TestStreamIsGivenBackAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		b.streams, b.model = 1, broken{offline.New(), "poison"}
		b.start(agent.Shell())
		if got := b.wait(b.submit("s", "say: poison").ID); got.Outcome != lane.Interrupted {
			t.Errorf("settled %s %s: %s", got.Outcome, got.Reason, got.Message)
		}
		b.expect(b.wait(b.submit("t", "say: fine").ID), lane.Completed, "fine")
	})
}

// secretive is an agent without variables, whose sub-agent has a secret.
func secretive() agent.Definition {
	secret := "${SECRET}"
	worker := agent.Shell()
	worker.Name, worker.Env = "worker", agent.Env{"TOKEN": &secret}
	return delegating(func(d *agent.Definition) {
		d.Subagents, d.Team = []string{"worker"}, map[string]agent.Definition{"worker": worker}
	})
}

// The agents of a tree work on the same files: the secrets of one are redacted in what another one runs.
func TestSecretsOfSubAgentsAreRedactedEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, secretive())
		watch := b.events.Subscribe(key("s"), event.Want{Children: event.AllOfChildren})
		defer watch.Close()
		b.executor.on = func(o *call.Order) tool.Reply {
			b.say(o.Call, "x1", call.Output{Data: []byte("hunter2hunter2\n")})
			return tool.ExecReply{
				Stdout: tool.Captured{Head: []byte("hunter2hunter2\n"), Size: 15}, Confirmed: true,
			}
		}
		sub := b.submit("s", "cat token\n& task worker: cat token\n& task: cat token")
		b.expect(b.wait(sub.ID), lane.Completed, "[redacted]\n[redacted]\n[redacted]")
		for _, e := range b.stream(sub.SessionID) {
			if body, err := json.Marshal(e); err != nil || strings.Contains(string(body), "hunter2") ||
				e.Output != nil && strings.Contains(string(e.Output.Data), "hunter2") {
				t.Errorf("event %d has the secret: %s, %v", e.Seq, body, err)
			}
		}
	})
}

// What owners die of while sub-agents work is not charged to whoever waits for them.
func TestWhoWaitsForASubAgentIsNotCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		var order *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { order = o; return nil }
		sub := b.submit("s", "task: task: sleep 60")
		for range 7 {
			time.Sleep(5 * time.Second)
			b.die()
			b.start(delegating())
		}
		time.Sleep(5 * time.Second)
		b.say(order.Call, "x1", call.Ended{Reply: tool.ExecReply{
			Stdout: tool.Captured{Head: []byte("slept\n")}, Confirmed: true,
		}})
		b.expect(b.wait(sub.ID), lane.Completed, "slept")
	})
}

// What a sub-agent has left behind is told with the end of the whole, whoever owns the lane by then.
func TestWhatASubAgentHasLeftIsToldAfterADeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		worker := agent.Shell()
		worker.Name, worker.Limits.Timeout = "worker", time.Minute
		def := delegating(func(d *agent.Definition) {
			d.Subagents, d.Team = []string{"worker"}, map[string]agent.Definition{"worker": worker}
		})
		b := newBench(t, def)
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		b.executor.leaves = true
		sub := b.submit("s", "task worker: sleep 1000\n& sleep 2000")
		time.Sleep(2 * time.Minute) // the sub-agent has expired
		b.die()
		b.executor.leaves = false
		b.start(def)
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		got := b.wait(sub.ID)
		b.expect(got, lane.Aborted, "")
		if left := got.Cancellation.Unconfirmed; len(left) != 1 || left[0].Reason != call.ProcessesLeft {
			t.Errorf("unconfirmed %+v", left)
		}
	})
}

// unknown is definitions of which none is there any more, from a time on.
type unknown struct {
	agents
	gone *bool
}

func (u unknown) Definition(ctx context.Context, digest string) (agent.Definition, error) {
	if *u.gone {
		return agent.Definition{}, agent.ErrNotFound
	}
	return u.agents.Definition(ctx, digest)
}

// A tree whose definition is gone ends at once, from the top.
func TestTreeWithoutItsDefinitionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		b.die()
		gone := false
		b.definitions = unknown{agents{delegating()}, &gone}
		b.start(delegating())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		sub := b.submit("s", "task: task: sleep 1000")
		time.Sleep(5 * time.Second)
		b.die()
		gone = true
		b.start(delegating())
		began := time.Now()
		got := b.wait(sub.ID)
		if got.Outcome != lane.Failed || got.Reason != "AGENT_NOT_FOUND" || time.Since(began) > time.Second {
			t.Errorf("settled %s %s after %s: %s", got.Outcome, got.Reason, time.Since(began), got.Message)
		}
		b.checkTree(sub.SessionID, 2)
	})
}

// A task for an agent that is no sub-agent is refused with the names of those that are.
func TestTaskForAnUnknownAgentIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, secretive())
		got := b.wait(b.submit("s", "task nobody: say: hello").ID)
		if !strings.Contains(got.Text, "there is no such sub-agent; there are worker") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
		b.checkTree(got.SessionID, 0)
	})
}

// What an earlier turn has left behind is told with the end of a later one, whoever owns the lane by then.
func TestWhatAnEarlierTurnHasLeftIsTold(t *testing.T) {
	for _, dies := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			def := agent.Shell()
			b := newBench(t, def)
			b.executor.on = func(o *call.Order) tool.Reply {
				if strings.HasPrefix(o.Request.(tool.Exec).Command, "echo") {
					return tool.ExecReply{Stdout: tool.Captured{Head: []byte("one\n")}} // not confirmed
				}
				return nil
			}
			sub := b.submit("s", "echo one\n& echo two\nsleep 1000")
			time.Sleep(time.Second)
			if dies {
				b.die()
				b.start(def)
				time.Sleep(time.Second)
			}
			if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
				t.Fatal(err)
			}
			got := b.wait(sub.ID)
			b.expect(got, lane.Aborted, "")
			left := got.Cancellation.Unconfirmed
			if got.Cancellation.Confirmed || len(left) != 2 || left[0].Reason != call.ProcessesLeft ||
				left[1].Reason != call.ProcessesLeft || left[0].Executor != "x1" {
				t.Errorf("dies %v: unconfirmed %+v", dies, left)
			}
		})
	}
}
