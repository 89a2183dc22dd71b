package platformtest_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// parted is a workflow whose steps are commands and agents, one after the other and beside each other, and a sleep.
const parted = `
agent: shell
steps:
  - id: first
    shell: sleep 2s;add effects first;echo first
  - id: both
    parallel:
      l: [{id: command, shell: "sleep 3s;add effects command;echo command"}]
      r: [{id: agent, prompt: "sleep 4s;add effects agent;echo agent"}]
  - sleep: 20s
finally:
  - shell: sleep 1s;add effects last;echo last
output: "${{ steps.first.stdout.trim() }} ${{ steps.both.l.command.stdout.trim() }} ${{ steps.both.r.agent.text }}"
`

// partedEffects is what its commands leave.
var partedEffects = []string{"agent", "command", "first", "last"}

func workflows(t *testing.T) *workflow.Catalogue {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "parted.yaml"), []byte(parted), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := workflow.Load(dir, func() workflow.Surrounding { return workflow.Surrounding{} })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tryRun starts the run, which has one idempotency key.
func (w *world) tryRun(p *platformtest.Platform) (*pawlv1.StartRunResponse, error) {
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	return pawlv1.NewRunServiceClient(p.GRPC).StartRun(ctx, &pawlv1.StartRunRequest{
		Workflow: "parted", IdempotencyKey: "once",
	})
}

// atRunCommit is atCommit, and commits take no time: who waits for the mutex that a run holds while it commits keeps
// fake time from passing.
func (w *world) atRunCommit(p *platformtest.Platform, n int64, after bool, f func() error) (met *atomic.Bool) {
	var count atomic.Int64
	met = &atomic.Bool{}
	p.DB.Strike(func(s platformtest.Step) error {
		if s.Commit == nil || s.After != after || count.Add(1) != n {
			return nil
		}
		met.Store(true)
		return f()
	})
	return met
}

// finishRun waits for the run, as a replica that lives knows it, and fails unless it has come to what it comes to when
// nobody is disturbed, having done everything once.
func (w *world) finishRun(p *platformtest.Platform, id string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Hour)
	defer cancel()
	got, err := pawlv1.NewRunServiceClient(p.GRPC).WaitRun(ctx, &pawlv1.WaitRunRequest{RunId: id},
		grpc.WaitForReady(true))
	if err != nil {
		w.Fatal(err)
	}
	r := got.GetRun()
	if out := r.GetOutput().GetStringValue(); r.GetStatus() != pawlv1.RunStatus_RUN_STATUS_COMPLETED ||
		out != "first command agent" {
		w.Errorf("the run is %v with %q %v", r.GetStatus(), out, r.GetError())
	}
	w.sleep(time.Minute) // whatever comes late
	if effects := slices.Sorted(slices.Values(w.effects())); !slices.Equal(effects, partedEffects) {
		w.Errorf("effects %q", effects)
	}
	steps, err := w.c.Store.ListSteps(w.Context(), id, 0, 100)
	if err != nil {
		w.Fatal(err)
	}
	var states []string
	for _, s := range steps {
		states = append(states, s.Path+" "+s.State.String())
	}
	slices.Sort(states)
	if got := strings.Join(states, ", "); got != "both completed, both.l completed, both.l.command completed, "+
		"both.r completed, both.r.agent completed, finally.shell-1 completed, first completed, sleep-3 completed" {
		w.Errorf("steps %s", got)
	}
}

// A replica is killed before and after every commit of a run. Another one goes on, and the outcome is the same.
func TestRunsKilledAtEveryCommit(t *testing.T) {
	atEveryCommitOf(t, workflows(t), 10, func(w *world, n int64, after bool) bool {
		met := w.atRunCommit(w.a, n, after, w.a.Strike)
		_, _ = w.tryRun(w.a) // the answer may get lost
		select {
		case <-w.a.Dead():
		case <-time.After(time.Hour):
		}
		w.a.DB.Strike(nil)
		p := w.a
		if met.Load() {
			p = w.next(w.a)
		}
		got, err := w.tryRun(p)
		if err != nil || !got.GetReplayed() {
			w.Fatalf("the replay: %v, %v", got, err)
		}
		w.finishRun(p, got.GetRun().GetRunId())
		return met.Load()
	})
}

// A replica drains at every commit of a run. Another one goes on.
func TestRunsDrainedAtEveryCommit(t *testing.T) {
	atEveryCommitOf(t, workflows(t), 10, func(w *world, n int64, after bool) bool {
		b := w.c.Start("b", nil)
		w.move(b) // the executor stays
		stop := make(chan struct{})
		met := w.atRunCommit(w.a, n, after, func() error { close(stop); return nil })
		got, err := w.tryRun(w.a)
		if err != nil {
			w.Fatal(err)
		}
		go func() {
			select {
			case <-stop:
				w.a.Stop()
			case <-w.Context().Done():
			}
		}()
		w.finishRun(b, got.GetRun().GetRunId())
		return met.Load()
	})
}
