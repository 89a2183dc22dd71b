package loop_test

import (
	"bytes"
	"image"
	"image/png"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/command"
)

// commanding is an agent that has a command tool.
func commanding(change func(*command.Definition)) agent.Definition {
	d := command.Definition{
		Name: "draw", Description: "Draws.", Arguments: []byte(`{"type":"object"}`), Command: "./draw",
		Safety: tool.Pure, Output: command.Text,
	}
	change(&d)
	def := agent.Shell()
	def.Env = agent.Env{"A": new("agent's"), "B": new("agent's")}
	def.Tools = append(def.Tools, d.Name)
	def.Commands = map[string]command.Definition{d.Name: d}
	return def
}

// The variables of a command tool are set over the agent's for its commands alone, and what they stand for is nowhere
// shown.
func TestVariablesOfACommandTool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := commanding(func(d *command.Definition) {
			d.Env = map[string]*string{"KEY": new("${SECRET}"), "B": new("tool's"), "HOME": nil}
		})
		b := newBench(t, def)
		ran := map[string]*call.Order{}
		b.executor.on = func(o *call.Order) tool.Reply {
			ran[o.Call.Tool] = o
			return tool.ExecReply{Stdout: tool.Captured{Head: []byte("it is hunter2hunter2")}, Confirmed: true}
		}
		got := b.wait(b.submit("s", "tool draw: {}\n& echo").ID)
		if got.Outcome != lane.Completed || strings.Contains(got.Text, "hunter2") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
		env := ran["draw"].Env
		for name, want := range map[string]string{"KEY": "hunter2hunter2", "A": "agent's", "B": "tool's"} {
			if env[name] == nil || *env[name] != want {
				t.Errorf("%s is %v, want %s", name, env[name], want)
			}
		}
		if v, there := env["HOME"]; !there || v != nil {
			t.Error("HOME was not taken away")
		}
		if other := ran["bash"].Env; len(other) != 2 || *other["B"] != "agent's" {
			t.Errorf("another tool has %v", other)
		}
	})
	t.Run("not set", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, commanding(func(d *command.Definition) {
				d.Env = map[string]*string{"KEY": new("${NOPE}")}
			}))
			got := b.wait(b.submit("s", "echo").ID)
			if got.Outcome != lane.Failed || got.Reason != "AGENT_VARIABLE" ||
				!strings.Contains(got.Message, "tools/draw.yaml: env.KEY: variable NOPE is not set") {
				t.Errorf("settled %s %s: %s", got.Outcome, got.Reason, got.Message)
			}
		})
	})
}

// A command's image reaches the model. Its bytes are no output that anybody is shown.
func TestImageOfACommandTool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file bytes.Buffer
		if err := png.Encode(&file, image.NewGray(image.Rect(0, 0, 5, 3))); err != nil {
			t.Fatal(err)
		}
		def := commanding(func(d *command.Definition) { d.Output = command.Image })
		b := newBench(t, def)
		b.die()
		b.executor.on = func(o *call.Order) tool.Reply {
			if !o.Request.(tool.Exec).Image {
				t.Error("the executor was asked for text")
			}
			go func() {
				say := func(body call.ReportBody) {
					b.worker.Deliver(call.Report{Executor: "x1", CallID: o.Call.ID, LaneID: o.LaneID, Body: body})
				}
				say(call.Output{Data: file.Bytes()})
				say(call.Output{Stderr: true, Data: []byte("drawing")})
				say(call.Ended{Reply: tool.ExecReply{
					Image: file.Bytes(), Stdout: tool.Captured{Size: int64(file.Len())},
					Stderr: tool.Captured{Head: []byte("drawing"), Size: 7}, Confirmed: true,
				}})
			}()
			return nil
		}
		m := modeltest.New(
			modeltest.Ask(model.Block{CallID: "1", Tool: "draw", Args: []byte(`{}`)}), modeltest.Say("done"),
		)
		b.model = m
		b.start(def)
		sub := b.submit("s", "draw")
		b.expect(b.wait(sub.ID), lane.Completed, "done")
		asked := m.Requests()
		told := asked[len(asked)-1].Messages
		if last := told[len(told)-1].Content[0]; last.Image == nil || !bytes.Equal(last.Image.Data, file.Bytes()) {
			t.Errorf("the model was told %q", last.Text)
		}
		if s := b.story(sub.SessionID); s.output != "drawing" || s.skipped != 0 || s.finished != 1 {
			t.Errorf("the stream has %q, and %d bytes are missing", s.output, s.skipped)
		}
	})
}
