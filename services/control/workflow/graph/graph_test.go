package graph

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/workflow"
)

const source = `
steps:
  - id: first
    if: "run.attempt < 2"
    approve: Go on?
  - parallel:
      left: [{sleep: 1h}]
      right: [{fail: "no", reason: never}]
  - id: each
    foreach: ["a"]
    do:
      - shell: echo "x|y"
        undo: [{log: undone}]
      - log: done
catch: [{log: failed}]
finally: [{log: over}]
`

const want = `flowchart TD
    start(["x"])
    s1{{"first: approve"}}
    start -->|"if run.attempt #60; 2"| s1
    subgraph s2 ["parallel"]
        subgraph s2_1 ["left"]
            s3(["sleep"])
        end
        subgraph s2_2 ["right"]
            s4[["fail never"]]
        end
    end
    s1 --> s2
    subgraph s5 ["each: foreach item"]
        subgraph s6 ["shell echo #34;x#124;y#34;"]
            subgraph s6_1 ["undo"]
                s7["log"]
            end
        end
        s8["log"]
        s6 --> s8
    end
    s2 --> s5
    s5 --> done([done])
    subgraph on_failure ["when the run has failed"]
        s9["log"]
    end
    s5 -. failed .-> on_failure
    subgraph in_any_case ["in any case"]
        s10["log"]
    end
    done --> in_any_case
`

func TestMermaid(t *testing.T) {
	d, err := workflow.Parse("x", "x.yaml", []byte(source), workflow.Surrounding{})
	if err != nil {
		t.Fatal(err)
	}
	if got := Mermaid(d); got != want {
		t.Errorf("got\n%s", got)
	}
}

// Every step of every example is drawn, in lines that Mermaid reads one by one.
func TestMermaidOfExamples(t *testing.T) {
	c, err := workflow.Load(filepath.Join("..", "testdata", "good"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range c.All() {
		drawn := Mermaid(d)
		steps := 0
		for range d.All() {
			steps++
		}
		if frames := strings.Count(drawn, "subgraph"); frames != strings.Count(drawn, " end\n") {
			t.Errorf("%s: frames that do not end:\n%s", d.Name, drawn)
		}
		if last := "s" + strconv.Itoa(steps); !strings.Contains(drawn, last) ||
			strings.Contains(drawn, "s"+strconv.Itoa(steps+1)) {
			t.Errorf("%s has %d steps:\n%s", d.Name, steps, drawn)
		}
	}
}
