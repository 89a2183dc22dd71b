package loop_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// manyCalls runs a turn in which the model asks for n calls at once, and returns what its next request ended with, how
// many commands ran, and how many bytes all of it allocated.
func manyCalls(t *testing.T, def agent.Definition, n int) (results []model.Block, ran int, allocated uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, def)
		b.die()
		calls := make([]model.Block, n)
		for i := range calls {
			args, err := json.Marshal(map[string]string{"command": fmt.Sprint("echo ", i)})
			if err != nil {
				t.Fatal(err)
			}
			calls[i] = model.Block{CallID: fmt.Sprint("c", i), Tool: "bash", Args: args}
		}
		m := modeltest.New(modeltest.Ask(calls...), modeltest.Say("done"))
		b.model = m
		b.start(def)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		b.expect(b.wait(b.submit("s", "go").ID), lane.Completed, "done")
		runtime.ReadMemStats(&after)
		allocated, ran = after.TotalAlloc-before.TotalAlloc, len(b.executor.ran)
		for _, message := range m.Requests()[1].Messages {
			for _, block := range message.Content {
				if block.Type == model.ToolResultBlock {
					results = append(results, block)
				}
			}
		}
	})
	return results, ran, allocated
}

// A turn of 8,000 calls runs as many as the agent's limit says, answers each of the others, and costs as much for each
// call as a turn of 800.
func TestTurnsOfManyCallsAreBounded(t *testing.T) {
	def := agent.Shell()
	def.Limits.Calls = 50
	for _, c := range []struct {
		def       agent.Definition
		n, wanted int
	}{{agent.Shell(), 200, agent.DefaultCalls}, {def, 200, 50}, {def, 50, 50}} {
		results, ran, _ := manyCalls(t, c.def, c.n)
		if ran != c.wanted || len(results) != c.n {
			t.Fatalf("%d calls: %d ran, %d results", c.n, ran, len(results))
		}
		for i, r := range results {
			refused := strings.HasPrefix(
				r.Text, fmt.Sprintf("Not run: at most %d calls of one answer are run.", c.wanted),
			)
			right := r.CallID == fmt.Sprint("c", i) && (refused || r.Text == fmt.Sprint(i))
			if !right || refused != (i >= c.wanted) || r.IsError != refused {
				t.Errorf("result %d of %d: %+v", i, c.n, r)
			}
		}
	}
	_, _, few := manyCalls(t, agent.Shell(), 800)
	_, ran, many := manyCalls(t, agent.Shell(), 8_000)
	if ran != agent.DefaultCalls || many > 15*few {
		t.Errorf("%d ran; 800 calls allocate %d bytes, 8,000 allocate %d", ran, few, many)
	}
	t.Logf("800 calls allocate %d bytes, 8,000 allocate %d", few, many)
}
