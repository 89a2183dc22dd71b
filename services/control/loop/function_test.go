package loop_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

type ping struct {
	Text string `json:"text"`
}

// function is a tool that control carries out itself.
func function(t *testing.T, safety tool.Safety, run tool.Run) loop.Source {
	t.Helper()
	f, err := tool.Define(tool.Spec{
		Name: "ping", Source: "a test", Safety: safety, Schema: json.RawMessage(`{
			"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]
		}`),
		How: tool.ByControl(run, func(_ ping, a tool.Answer) tool.Result { return tool.RenderAnswer(a, nil) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	set, err := tool.NewSet(f)
	if err != nil {
		t.Fatal(err)
	}
	return loop.Fixed(set)
}

func pinging() agent.Definition {
	def := agent.Shell()
	def.Tools = append(def.Tools, "ping")
	return def
}

// withFunction is a bench whose control has the tool.
func withFunction(t *testing.T, safety tool.Safety, run tool.Run) *bench {
	t.Helper()
	b := newBench(t, pinging())
	b.die()
	b.sources = append(loop.Sources(), function(t, safety, run))
	b.start(pinging())
	return b
}

const askPing = `tool ping: {"text":"hello"}`

func TestControlCarriesCallsOutItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := withFunction(t, tool.AtMostOnce, func(_ context.Context, c tool.Call) (tool.Reply, error) {
			return tool.Answer{Text: "pong " + c.Request.(ping).Text}, nil
		})
		b.expect(b.wait(b.submit("s", askPing+"\n& echo beside").ID), lane.Completed, "pong hello\nbeside")
		b.expect(b.wait(b.submit("s", askPing).ID), lane.Completed, "pong hello")
	})
}

// A function that was under way when its owner died runs again if it may, and else its outcome is unknown.
func TestFunctionsAfterADeath(t *testing.T) {
	for safety, want := range map[tool.Safety]string{tool.AtMostOnce: "unknown", tool.Idempotent: "pong"} {
		t.Run(safety.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var runs atomic.Int32
				b := withFunction(t, safety, func(ctx context.Context, _ tool.Call) (tool.Reply, error) {
					if runs.Add(1) == 1 {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return tool.Answer{Text: "pong"}, nil
				})
				sub := b.submit("s", askPing)
				synctest.Wait()
				b.die()
				b.start(pinging())
				got := b.wait(sub.ID)
				if got.Outcome != lane.Completed || !strings.Contains(got.Text, want) {
					t.Errorf("settled %s %s: %q", got.Outcome, got.Message, got.Text)
				}
				if n := runs.Load(); (n == 1) != (safety == tool.AtMostOnce) {
					t.Errorf("it ran %d times", n)
				}
			})
		})
	}
}

// A function that must run once is waited for when the process drains, and is ended by an abort.
func TestFunctionsEnd(t *testing.T) {
	t.Run("before a drain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := withFunction(t, tool.AtMostOnce, func(context.Context, tool.Call) (tool.Reply, error) {
				time.Sleep(5 * time.Second)
				return tool.Answer{Text: "pong"}, nil
			})
			sub := b.submit("s", askPing+"\n& echo beside")
			synctest.Wait()
			close(b.drain)
			<-b.done
			b.done <- nil
			b.start(pinging())
			b.expect(b.wait(sub.ID), lane.Completed, "pong\nbeside")
		})
	})
	t.Run("by an abort", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := withFunction(t, tool.AtMostOnce, func(ctx context.Context, _ tool.Call) (tool.Reply, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			sub := b.submit("s", askPing)
			synctest.Wait()
			if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
				t.Fatal(err)
			}
			b.expect(b.wait(sub.ID), lane.Aborted, "")
		})
	})
}

// A function that panics is told as a failure. One that takes no notice of an abort does not put the end off for long,
// and may still run, as the end says.
func TestFunctionsThatMisbehave(t *testing.T) {
	t.Run("by a panic", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := withFunction(t, tool.Idempotent, func(context.Context, tool.Call) (tool.Reply, error) {
				panic("secret details")
			})
			got := b.wait(b.submit("s", askPing).ID)
			if got.Outcome != lane.Completed || !strings.Contains(got.Text, "failed for a reason of its own") ||
				strings.Contains(got.Text, "secret") {
				t.Errorf("settled %s %s: %q", got.Outcome, got.Message, got.Text)
			}
		})
	})
	for name, prompt := range map[string]string{
		"by hanging": askPing, "by hanging in a sub-agent": "task: " + askPing,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				b := withFunction(t, tool.AtMostOnce, func(context.Context, tool.Call) (tool.Reply, error) {
					<-release
					return tool.Answer{Text: "late"}, nil
				})
				sub := b.submit("s", prompt)
				synctest.Wait()
				began := time.Now()
				if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
					t.Fatal(err)
				}
				got := b.wait(sub.ID)
				b.expect(got, lane.Aborted, "")
				if left := got.Cancellation.Unconfirmed; len(left) != 1 || left[0].Tool != "ping" ||
					time.Since(began) > 15*time.Second {
					t.Errorf("unconfirmed %+v after %s", left, time.Since(began))
				}
				close(release)
				b.expect(b.wait(b.submit("s", "say: next").ID), lane.Completed, "next")
			})
		})
	}
}
