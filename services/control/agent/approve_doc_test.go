package agent

import (
	"os"
	"strings"
	"testing"
)

// The example of the guide can be copied.
func TestApprovalsAreDocumentedAsTheyAre(t *testing.T) {
	text, err := os.ReadFile("../../../docs/approvals.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```markdown\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the guide has no example")
	}
	d, err := parse(example)
	if err != nil || len(d.Approve) != 4 {
		t.Errorf("the example has %d rules, %v", len(d.Approve), err)
	}
}
