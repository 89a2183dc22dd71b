package flowtest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
)

// Call is what a workflow works with.
type Call struct {
	Payload json.RawMessage
	run     *run
}

// Emit adds an event with own fields of its own: an object, or nothing.
func (c *Call) Emit(kind string, fields string) { c.run.emit(kind, json.RawMessage(fields)) }

// Log says something.
func (c *Call) Log(level, message string) {
	c.run.emit(flue.LogType, flue.LogLine(level, message, nil))
}

// failure is an error as a run has it.
func failure(err error) json.RawMessage {
	var f *Failure
	if errors.As(err, &f) {
		return flue.FailureOf(f.Name, f.Message)
	}
	return flue.FailureOf("Error", "the workflow failed")
}

// Large is how many bytes of text the workflows large and loud say: more than an event may have.
const Large = 2 << 20

// Gate is what a workflow waits for.
type Gate chan struct{}

// Wait returns when the gate is open, or with ctx's error.
func (g Gate) Wait(ctx context.Context) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Standard is a workflow for each way in which one can go: echo, fail, panic, nothing, slow, agentic, large, loud,
// chatty. Those that wait wait for gate. Of those that are not offered everywhere, plain is offered over HTTP, socket
// over WebSocket, and hidden nowhere.
func Standard(gate Gate) []Workflow {
	everywhere := []agent.Surface{agent.HTTP, agent.WebSocket}
	echo := func(_ context.Context, c *Call) (any, error) {
		c.Log("info", "echoing")
		return map[string]json.RawMessage{"echo": c.Payload}, nil
	}
	return []Workflow{
		{"echo", everywhere, echo},
		{"plain", everywhere[:1], echo},
		{"socket", everywhere[1:], echo},
		{"hidden", nil, echo},
		{"fail", everywhere, func(_ context.Context, c *Call) (any, error) {
			c.Log("warn", "about to fail")
			return nil, &Failure{"TypeError", "workflow boom"}
		}},
		{"panic", everywhere, func(context.Context, *Call) (any, error) { panic("password=hunter2") }},
		{"nothing", everywhere, func(context.Context, *Call) (any, error) { return nil, nil }},
		{"slow", everywhere, func(ctx context.Context, c *Call) (any, error) {
			c.Log("info", "waiting")
			err := gate.Wait(ctx)
			return "waited", err
		}},
		{"agentic", everywhere, func(ctx context.Context, c *Call) (any, error) {
			c.Emit("text_delta", `{"text":"Hel","session":"default","harness":"default"}`)
			c.Emit("message_end", `{"message":{"role":"assistant"}}`)
			if err := gate.Wait(ctx); err != nil {
				return nil, err
			}
			c.Emit("text_delta", `{"text":"lo","session":"default","harness":"default"}`)
			c.Emit(flue.IdleType, "")
			return "Hello", nil
		}},
		{"large", everywhere, func(context.Context, *Call) (any, error) { return strings.Repeat("x", Large), nil }},
		{"chatty", everywhere, func(_ context.Context, c *Call) (any, error) {
			for range 40 {
				c.Log("info", strings.Repeat("x", 64<<10))
			}
			return nil, nil
		}},
		{"loud", everywhere, func(_ context.Context, c *Call) (any, error) {
			c.Log("info", strings.Repeat("ü", Large/2))
			c.Log("info", "heard")
			return "said", nil
		}},
	}
}
