package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
)

// What cleans up after a run is made to end a minute before the run itself would be.
func TestCleanUpThatHangs(t *testing.T) {
	for name, again := range map[string]func(b *bench){"goes on": func(*bench) {}, "killed": (*bench).restart} {
		t.Run(name, func(t *testing.T) {
			try(t, map[string]string{"w": `
steps:
  - shell: made
    undo: [{shell: hold}]
  - signal: x
`}, func(b *bench) {
				id := b.begin("w", `{}`)
				b.wait(time.Minute)
				if _, err := b.runs.Cancel(b.Context(), session.DefaultTenant, id); err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				b.wait(2 * time.Minute)
				again(b)
				b.expect(b.end(id), "cancelled ABORTED the run was cancelled; confirmed: nothing of it runs any more")
				b.expect(b.steps(id), "shell-1 completed, signal-2 cancelled, shell-1.undo.shell-1 cancelled")
				if took := time.Since(began); took < 9*time.Minute || took > 9*time.Minute+10*time.Second {
					b.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestWorkflowsThatStartThemselves(t *testing.T) {
	try(t, map[string]string{"w": "steps: [{workflow: w}]"}, func(b *bench) {
		if got := b.end(b.begin("w", `{}`)); !strings.Contains(got, "runs have started one another 16 deep") {
			b.Error(got)
		}
		all, err := b.runs.List(b.Context(), run.Filter{Tenant: session.DefaultTenant, Limit: 100})
		if err != nil || len(all) != 17 {
			b.Errorf("%d runs, %v", len(all), err)
		}
	})
}
