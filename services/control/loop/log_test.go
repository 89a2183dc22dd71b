package loop_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// The line about the end of a sub-agent has the sub-agent's name.
func TestLogNamesTheSubAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		worker := agent.Shell()
		worker.Name = "worker"
		def := delegating(func(d *agent.Definition) {
			d.Subagents, d.Team = []string{"worker"}, map[string]agent.Definition{"worker": worker}
		})
		b := newBench(t, def)
		b.die()
		var lines bytes.Buffer
		b.log = slog.New(slog.NewTextHandler(&lines, nil))
		b.start(def)
		b.expect(b.wait(b.submit("s", "task worker: say: done").ID), lane.Completed, "done")
		b.die()
		agents := map[string]string{}
		for line := range strings.Lines(lines.String()) {
			for _, what := range []string{"sub-agent ended", "submission settled"} {
				if _, after, ok := strings.Cut(line, what); ok {
					_, after, _ = strings.Cut(after, " agent=")
					agents[what], _, _ = strings.Cut(after, " ")
				}
			}
		}
		if agents["sub-agent ended"] != "worker" || agents["submission settled"] != "shell" {
			t.Errorf("%v in\n%s", agents, &lines)
		}
	})
}

// A tool that has the name of task is refused when the runner is made: models would be offered the wrong one.
func TestToolNamedTaskIsRefused(t *testing.T) {
	other, err := tool.Define(tool.Spec{
		Name: builtin.NameTask, Source: "tests", Safety: tool.Pure, Schema: []byte(`{"type": "object"}`),
		How: tool.ByLoop(func(_ ping, a tool.Answer) tool.Result { return tool.RenderAnswer(a, nil) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	tools, err := builtin.Tools().With(other)
	if err != nil {
		t.Fatal(err)
	}
	_, err = loop.NewRunner(loop.Deps{Tools: tools})
	if !errors.Is(err, tool.ErrInvalid) || !strings.Contains(err.Error(), "tests") {
		t.Errorf("%v", err)
	}
}

// When a call was made is the database's to say.
func TestCallsAreDatedByTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		made := 0
		b.counted.after = func(c lane.Commit) {
			for _, s := range c.Steps {
				for _, k := range s.Calls {
					if made++; !k.CreatedAt.IsZero() {
						t.Errorf("call %s is dated %v by its loop", k.ID, k.CreatedAt)
					}
				}
			}
		}
		b.expect(b.wait(b.submit("s", "echo one").ID), lane.Completed, "one")
		if made != 1 {
			t.Errorf("%d calls were made", made)
		}
	})
}
