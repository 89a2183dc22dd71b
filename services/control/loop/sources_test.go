package loop_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// asking is a source without tools that notes who asks.
type asking struct {
	mu    sync.Mutex
	asked []loop.Offer
}

func (a *asking) Tools(_ context.Context, of loop.Offer) ([]*tool.Tool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, of)
	return nil, nil
}

func TestEachLoopAsksEachSourceOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		source := &asking{}
		b.sources = append(loop.Sources(), source)
		b.start(agent.Shell())
		b.expect(b.wait(b.submit("s", "echo 1").ID), lane.Completed, "1")
		b.expect(b.wait(b.submit("s", `tool task: {"prompt":"echo 2"}`).ID), lane.Completed, "2")
		source.mu.Lock()
		defer source.mu.Unlock()
		if len(source.asked) != 3 {
			t.Fatalf("asked %d times by 3 loops", len(source.asked))
		}
		for i, want := range []struct {
			depth    int
			executor string
		}{{0, ""}, {0, "x1"}, {1, "x1"}} {
			of := source.asked[i]
			if of.Depth != want.depth || of.Executor != want.executor || of.Definition.Name != "shell" ||
				of.Loop.Key.Tenant != session.DefaultTenant {
				t.Errorf("loop %d is depth %d at executor %q of agent %s and tenant %q", i, of.Depth, of.Executor,
					of.Definition.Name, of.Loop.Key.Tenant)
			}
		}
	})
}

// Two tools of one name cannot be told apart: the submission fails, and says where both come from.
func TestToolsOfOneNameEndTheSubmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		other := spec("task", tool.Pure)
		other.Source = "another server"
		b.sources = append(loop.Sources(), always{define(t, other)})
		b.start(agent.Shell())
		got := b.wait(b.submit("s", "echo 1").ID)
		if got.Outcome != lane.Failed || got.Reason != "TOOL_INVALID" ||
			!strings.Contains(got.Message, "one of the built-in tools, one of another server") {
			t.Errorf("settled %s %s: %s", got.Outcome, got.Reason, got.Message)
		}
	})
}

// always offers a tool to every loop.
type always struct{ tool *tool.Tool }

func (a always) Tools(context.Context, loop.Offer) ([]*tool.Tool, error) {
	return []*tool.Tool{a.tool}, nil
}

func spec(name string, safety tool.Safety) tool.Spec {
	return tool.Spec{
		Name: name, Source: "a test", Safety: safety, Schema: json.RawMessage(`{"type": "object"}`),
		How: tool.ByLoop(func(_ ping, a tool.Answer) tool.Result { return tool.RenderAnswer(a, nil) }),
	}
}

func define(t *testing.T, s tool.Spec) *tool.Tool {
	t.Helper()
	d, err := tool.Define(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What a call has come to stays true when its tool goes away before the model has read it. A call that was not made is
// not made any more.
func TestACallOutlivesItsTool(t *testing.T) {
	for what, c := range map[string]struct {
		ends   bool // before the death
		safety tool.Safety
		want   string
	}{
		"that has ended":       {true, tool.AtMostOnce, "pong"},
		"that may have run":    {false, tool.AtMostOnce, "The outcome of this call is unknown"},
		"that could run again": {false, tool.Idempotent, "the tool is not offered any more: the call was not made"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := withFunction(t, c.safety, func(ctx context.Context, _ tool.Call) (tool.Reply, error) {
					if !c.ends {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return tool.Answer{Text: "pong"}, nil
				})
				b.executor.on = func(*call.Order) tool.Reply { return nil } // the turn goes on after the death
				sub := b.submit("s", askPing+"\n& sleep 5")
				synctest.Wait()
				b.die()
				b.executor.results = map[string]tool.Reply{}
				for id := range b.executor.known {
					b.executor.results[id] = tool.ExecReply{Confirmed: true}
				}
				b.sources = nil
				b.start(pinging())
				got := b.wait(sub.ID)
				if got.Outcome != lane.Completed || !strings.Contains(got.Text, c.want) {
					t.Errorf("settled %s %s: %q", got.Outcome, got.Message, got.Text)
				}
			})
		})
	}
}
