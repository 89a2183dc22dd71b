package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestWideLines(t *testing.T) {
	fits, wide := strings.Repeat("ä", 120), strings.Repeat("ä", 121)
	tests := []struct {
		name, file, content string
		want                []int
	}{
		{"as wide as it may be", "a.go", fits + "\n", nil},
		{"one column more", "a.go", "x\n" + wide + "\nx\n", []int{2}},
		{"a tab is four columns", "a.go", "\t" + strings.Repeat("x", 117), []int{1}},
		{"a tab ends at a multiple of four", "a.go", "x\t" + strings.Repeat("x", 116), nil},
		{"a row of a table", "a.md", "| " + wide + " |\n" + wide, []int{2}},
		{"a bar in Go is no table", "a.go", "| " + wide, []int{1}},
	}
	for _, tt := range tests {
		if got := wideLines(tt.file, []byte(tt.content)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: lines %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestACountMayOnlyFall(t *testing.T) {
	before := map[string]int{"a.go": 2, "b.go": 2, "c.go": 2}
	faults := compare(before, map[string]int{"a.go": 1, "b.go": 3, "d.go": 1})
	if len(faults) != 2 || !strings.HasPrefix(faults[0].Error(), "b.go") ||
		!strings.HasPrefix(faults[1].Error(), "d.go") {
		t.Errorf("%v, want b.go and d.go to fail", faults)
	}
}

func TestProse(t *testing.T) {
	for name, want := range map[string]bool{
		"a.go": true, "docs/a.md": true, "Makefile": true, "internal/generator/a.go": true,
		"gen/pawl/v1/a.pb.go": false, "third_party/a.proto": false, "services/x/testdata/a.md": false, "go.sum": false,
	} {
		if prose(name) != want {
			t.Errorf("prose(%s) = %v", name, !want)
		}
	}
}

func TestCountsComeBack(t *testing.T) {
	counts := map[string]int{"b c.md": 1, "a.go": 12}
	got, err := parse(format(counts))
	if err != nil || !maps.Equal(got, counts) {
		t.Errorf("%v, %v; want %v", got, err, counts)
	}
	for _, bad := range []string{"x a.go\n", "3\n", "\n"} {
		if _, err := parse([]byte(bad)); err == nil {
			t.Errorf("%q was taken for counts", bad)
		}
	}
}
