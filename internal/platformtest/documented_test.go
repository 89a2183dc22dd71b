package platformtest_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// What docs/reliability.md says of the crash matrix is what TestMatrix runs.
func TestMatrixIsDocumented(t *testing.T) {
	const file, begin, end = "../../docs/reliability.md", "<!-- matrix: begin -->\n", "<!-- matrix: end -->"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), begin)
	got, _, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no table between its marks", file)
	}
	var want strings.Builder
	want.WriteString("| row | fault | outcome |\n|---|---|---|\n")
	for _, r := range matrix {
		fmt.Fprintf(&want, "| %s | %s | %s |\n", r.row, r.name, r.outcome)
	}
	if got != want.String() {
		t.Errorf("%s has another table than TestMatrix. Put this there:\n%s", file, &want)
	}
}
