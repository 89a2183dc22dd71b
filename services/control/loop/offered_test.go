package loop_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
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
