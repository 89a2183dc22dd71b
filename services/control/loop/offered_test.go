package loop_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// offering is an agent that names a tool of executors.
func offering() agent.Definition {
	def := agent.Shell()
	def.Tools = append(def.Tools, agent.Offered+"cad")
	return def
}

func cad(safety tool.Safety) []tool.Offered {
	return []tool.Offered{{
		Name: "cad", Description: "Draws.", Safety: safety,
		Schema: []byte(`{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}`),
	}}
}

// drawing is an executor that answers calls of its tool.
func drawing(o *call.Order) tool.Reply {
	q, ok := o.Request.(tool.CallTool)
	if !ok {
		return echo(o)
	}
	return tool.Said{
		Text: "drew " + string(q.Args) + " with hunter2hunter2", Structured: []byte(`{"by":"hunter2hunter2"}`),
	}
}

func TestAModelCallsAnExecutorsTool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := offering()
		def.Env = agent.Env{"KEY": new("${SECRET}")}
		b := newBench(t, def)
		b.executor.tools, b.executor.on = cad(tool.Pure), drawing
		b.expect(b.wait(b.submit("s", `tool cad: {"n": 12345678901234567}`).ID), lane.Completed,
			`drew {"n":12345678901234567} with [redacted]`)
		got := b.wait(b.submit("s", `tool cad: {"m": 1}`).ID)
		if !strings.Contains(got.Text, "n: is required") {
			t.Errorf("against the schema: %q", got.Text)
		}
	})
}

// A tool that the executor of the session does not offer is told of as that, and a call of it fails.
func TestAModelIsToldOfAToolThatIsNotOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, offering())
		b.expect(b.wait(b.submit("s", "echo 1").ID), lane.Completed, "1") // which binds the session
		for prompt, want := range map[string]string{
			"s": "the executor of this session, x1, does not offer it.",
			"t": "no executor that this agent can have offers it.",
		} {
			got := b.wait(b.submit(prompt, `tool cad: {"n": 1}`).ID)
			if got.Outcome != lane.Completed || got.Text != "The call was not made: "+want {
				t.Errorf("settled %s %s: %q", got.Outcome, got.Message, got.Text)
			}
		}
	})
}

// What a call has come to stays true when its executor comes back without the tool, and the loop with another owner.
func TestACallOutlivesTheOfferOfItsTool(t *testing.T) {
	for what, c := range map[string]struct {
		reply tool.Reply
		want  string
	}{
		"with its result":    {tool.Said{Text: "drew it"}, "drew it"},
		"which was cut off":  {tool.Failure{Reason: tool.ReasonInterrupted}, "The outcome of this call is unknown"},
		"which was not done": {tool.Failure{Reason: "NOT_FOUND", Message: "no such tool"}, "no such tool"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, offering())
				b.executor.tools = cad(tool.AtMostOnce)
				b.executor.on = func(*call.Order) tool.Reply { return nil }
				sub := b.submit("s", `tool cad: {"n": 1}`)
				synctest.Wait()
				b.die()
				b.executor.tools = nil
				b.executor.results = map[string]tool.Reply{}
				for id := range b.executor.known {
					b.executor.results[id] = c.reply
				}
				b.start(offering())
				got := b.wait(sub.ID)
				if got.Outcome != lane.Completed || !strings.Contains(got.Text, c.want) {
					t.Errorf("settled %s %s: %q", got.Outcome, got.Message, got.Text)
				}
			})
		})
	}
}

// changes are what watchers of a session are told of its tools.
func (b *bench) changes(session string) (all []event.Tools) {
	for _, e := range b.stream(session) {
		if e.Type == event.ToolsChanged {
			all = append(all, *e.Tools)
		}
	}
	return all
}

// A tool that is offered only later can be called from the next turn on, and watchers are told.
func TestAToolThatIsOfferedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, offering())
		b.executor.on = func(o *call.Order) tool.Reply {
			if _, ok := o.Request.(tool.CallTool); !ok {
				b.executor.tools = cad(tool.Pure) // it says Hello again
			}
			return drawing(o)
		}
		sub := b.wait(b.submit("s", `tool cad: {"n": 1}`+"\necho 1\n"+`tool cad: {"n": 2}`).ID)
		if sub.Outcome != lane.Completed || !strings.Contains(sub.Text, `drew {"n":2}`) {
			t.Errorf("settled %s %s: %q", sub.Outcome, sub.Message, sub.Text)
		}
		got := b.changes(sub.SessionID)
		if len(got) != 2 || len(got[0].Missing) != 1 ||
			!strings.HasPrefix(got[0].Missing[0], "tool cad cannot be called") ||
			!slices.Equal(got[1].Added, []string{"cad"}) || got[1].Missing != nil {
			t.Errorf("told %+v", got)
		}
	})
}

// leaving is a model beside which something happens as it answers.
type leaving struct {
	model.Model
	leave func()
}

func (m leaving) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		for part, err := range m.Model.Stream(ctx, req) {
			m.leave()
			if !yield(part, err) {
				return
			}
		}
	}
}

// A call whose tool is not offered any more when it is to be placed is not made, and the model is told so.
func TestACallWhoseToolIsGoneBeforeItIsPlaced(t *testing.T) {
	for what, c := range map[string]struct {
		prompts []string // before
		leave   func(*bench)
		want    string
	}{
		"the session's executor does not offer it": {
			[]string{"echo 1"},
			func(b *bench) { b.executor.tools = nil },
			"The call was not made, and nothing has happened: the executor of this session, x1, does not offer cad " +
				"any more.",
		},
		"nobody offers it": {
			nil, func(b *bench) { b.executor.tools = nil },
			"no executor that offers cad to this agent was available for 2m0s; the call was never started",
		},
		"its executor has left": {
			nil, func(b *bench) { b.executor.away = true },
			"no executor that offers cad to this agent was available for 2m0s; the call was never started",
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, offering())
				b.executor.tools, b.executor.on = cad(tool.AtMostOnce), drawing
				for _, p := range c.prompts {
					b.wait(b.submit("s", p).ID)
				}
				b.die()
				b.model = leaving{offline.New(), func() {
					b.executor.mu.Lock()
					defer b.executor.mu.Unlock()
					c.leave(b)
				}}
				b.start(offering())
				got := b.wait(b.submit("s", `tool cad: {"n": 1}`).ID)
				if got.Outcome != lane.Completed || !strings.Contains(got.Text, c.want) {
					t.Errorf("settled %s %s: %q", got.Outcome, got.Message, got.Text)
				}
				if len(b.executor.known) > len(c.prompts) {
					t.Error("the executor was asked for it")
				}
			})
		})
	}
}
