package loop_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
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
