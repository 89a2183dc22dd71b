package loop_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
)

// An executor that came back without the labels of the agent gets none of its calls, with which the agent's secrets
// would go.
func TestSecretsGoToLabelsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		def.Sandbox = agent.Sandbox{Kind: agent.SandboxExecutor, Labels: map[string]string{"gpu": "a100"}}
		def.Env = agent.Env{"TOKEN": new("${SECRET}")}
		b := newBench(t, def)
		relabel := func(labels map[string]string) {
			b.executor.mu.Lock()
			defer b.executor.mu.Unlock()
			b.executor.labels = labels
			b.executor.epoch++
		}
		relabel(map[string]string{"gpu": "t4"})
		sub := b.submit("s", "echo one")
		time.Sleep(10 * time.Second)
		b.executor.mu.Lock()
		ran := len(b.executor.ran)
		b.executor.mu.Unlock()
		if ran != 0 {
			t.Errorf("%d orders were sent", ran)
		}
		relabel(map[string]string{"gpu": "a100", "zone": "eu"})
		b.expect(b.wait(sub.ID), lane.Completed, "one")
	})
}
