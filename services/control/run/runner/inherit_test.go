package runner_test

import (
	"bytes"
	"image"
	"image/png"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/command"
)

// held are the calls that the executor has not ended yet.
func (m *machine) held() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.orders {
		if _, over := m.replies[id]; !over {
			ids = append(ids, id)
		}
	}
	return ids
}

// endHeld ends what runs at the executor.
func (m *machine) endHeld(reply tool.Reply) {
	for _, id := range m.held() {
		m.end(id, reply)
	}
}

// An agent that begins under a later owner than the one that has read the images sees them all the same.
func TestImagesOfAnAgentThatBeginsLater(t *testing.T) {
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	try(t, map[string]string{"w": `
agent: shell
steps:
  - id: both
    parallel:
      first:
        - prompt: "run: hold"
          session: one
      second:
        - prompt: "say: seen"
          images: [a.png]
          session: one
`}, func(b *bench) {
		b.machine.files["a.png"] = picture.String()
		id := b.begin("w", `{}`)
		b.wait(2 * time.Second)
		b.restart()
		b.wait(time.Second)
		b.machine.endHeld(tool.ExecReply{Confirmed: true})
		b.expect(b.end(id), "completed ")
		var images int
		for _, entries := range b.conversations(id) {
			for _, e := range entries {
				for _, block := range e.Message.Content {
					if block.Type == model.ImageBlock {
						images++
					}
				}
			}
		}
		if images != 1 {
			b.Errorf("%d images in the conversation", images)
		}
	})
}

// A step that ends is progress: replicas that die with a run which goes on do not make it one that is stalled.
func TestStepsAreProgress(t *testing.T) {
	try(t, map[string]string{"w": `
steps:
  - foreach: [1, 2, 3, 4, 5, 6, 7, 8]
    do: [{shell: hold}]
`}, func(b *bench) {
		id := b.begin("w", `{}`)
		for range 8 {
			b.wait(500 * time.Millisecond)
			b.machine.endHeld(tool.ExecReply{Confirmed: true, Whole: true})
			b.wait(100 * time.Millisecond)
			b.restart()
		}
		b.expect(b.end(id), "completed ")
	})
}

func TestSecretsInExpressions(t *testing.T) {
	for name, expression := range map[string]string{
		"number": "${{ string(int(secrets.TOKEN)) }}", "JSON": "${{ parse_json(secrets.TOKEN).x }}",
		"time": "${{ string(timestamp(secrets.TOKEN)) }}", "key": "${{ {'a': 'b'}[secrets.TOKEN] }}",
	} {
		t.Run(name, func(t *testing.T) {
			try(t, map[string]string{"w": `
steps:
  - shell: hello
    env: {T: "` + expression + `"}
`}, func(b *bench) {
				b.secrets["TOKEN"] = "tok-very-secret"
				if got := b.end(b.begin("w", `{}`)); strings.Contains(got, "very-secret") {
					b.Error(got)
				}
			})
		})
	}
}

// A command that was begun is ended when the step cannot go on with it, and nobody says that it had no effect.
func TestCommandsWhoseSecretsAreGone(t *testing.T) {
	try(t, map[string]string{"w": `
steps:
  - id: a
    shell: hold
    env: {T: "${{ secrets.TOKEN }}"}
`}, func(b *bench) {
		b.secrets["TOKEN"] = "tok-very-secret"
		id := b.begin("w", `{}`)
		b.wait(time.Second)
		delete(b.secrets, "TOKEN")
		b.restart()
		if got, want := b.end(id), "failed outcome_unknown a: the step had begun"; !strings.HasPrefix(got, want) {
			b.Errorf("%s\nwant %s…", got, want)
		}
		b.expect(b.steps(id), "a unknown")
		if all := b.machine.held(); len(all) > 0 {
			b.Errorf("%d commands run on", len(all))
		}
		b.expect(b.end(b.begin("w", `{}`)), "failed expression_failed a: secrets.TOKEN: no such key: TOKEN "+
			"(secrets.TOKEN has no value: the control plane has no variable TOKEN)")
	})
}

// Commands of tools have the variables of the tool and of its agent, and nobody is shown them.
func TestVariablesOfTools(t *testing.T) {
	try(t, map[string]string{"w": `
steps:
  - id: a
    call: draw
    agent: artist
output: "${{ steps.a.text }}"
`}, func(b *bench) {
		b.secrets["TOKEN"], b.secrets["BRUSH"] = "tok-very-secret", "brush-of-hair"
		token, brush := "${TOKEN}", "${BRUSH}"
		artist := agent.Shell()
		artist.Env = agent.Env{"BRUSH": &brush}
		artist.Tools = append(slices.Clone(artist.Tools), "draw")
		artist.Commands = map[string]command.Definition{"draw": {
			Name: "draw", Description: "Draws.", Arguments: []byte(`{"type":"object"}`), Safety: tool.AtMostOnce,
			Command: "with tok-very-secret and brush-of-hair", Output: command.Text, Env: agent.Env{"TOKEN": &token},
		}}
		b.agents["artist"] = artist
		b.expect(b.end(b.begin("w", `{}`)), `completed "with [redacted] and [redacted]{}"`)
		for _, o := range b.machine.orders {
			if o.Env["TOKEN"] == nil || *o.Env["TOKEN"] != "tok-very-secret" || o.Env["BRUSH"] == nil {
				b.Errorf("the command has %v", o.Env)
			}
		}
	})
}
