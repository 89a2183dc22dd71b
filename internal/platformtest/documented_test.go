package platformtest_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// What docs/reliability.md says of the crash matrix is what TestMatrix runs, and what is beside it.
func TestMatrixIsDocumented(t *testing.T) {
	const file = "../../docs/reliability.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var inside, outside strings.Builder
	inside.WriteString("| row | fault | outcome |\n|---|---|---|\n")
	for _, r := range matrix {
		fmt.Fprintf(&inside, "| %s | %s | %s |\n", r.row, r.name, r.outcome)
	}
	outside.WriteString("| row | fault | test |\n|---|---|---|\n")
	for _, x := range beside {
		fmt.Fprintf(&outside, "| %s | %s | `%s`: `%s` |\n", x.rows, x.fault, x.folder, strings.Join(x.tests, "`, `"))
	}
	for mark, want := range map[string]string{"matrix": inside.String(), "beside": outside.String()} {
		_, rest, begun := strings.Cut(string(doc), "<!-- "+mark+": begin -->\n")
		got, _, ended := strings.Cut(rest, "<!-- "+mark+": end -->")
		if !begun || !ended {
			t.Fatalf("%s has no table between the marks of %q", file, mark)
		}
		if got != want {
			t.Errorf("%s has another table %q than the tests. Put this there:\n%s", file, mark, want)
		}
	}
}
