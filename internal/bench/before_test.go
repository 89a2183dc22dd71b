package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The rows of an earlier run stand beside those of this one, with its commit. A row that goes on with the one above it
// ("…") is known by both, the order does not matter, and what the earlier run did not have is left empty.
func TestBefore(t *testing.T) {
	row := func(database, what string, q Quantity) Row {
		if q.Unit == PerSecond {
			return Row{Database: database, What: what, P50: took(time.Second), Rate: q}
		}
		return Row{Database: database, What: what, P50: q}
	}
	file, into := filepath.Join(t.TempDir(), "before.json"), filepath.Join(t.TempDir(), "benchmarks.md")
	err := writeJSON(file, []Row{
		row("memory", "gone", perSecond(1)),
		row("memory", "prompts", perSecond(1000)), row("memory", "… each", took(2*time.Millisecond)),
		row("sqlite", "prompts", perSecond(100)), row("sqlite", "… each", took(4*time.Millisecond)),
	})
	if err != nil {
		t.Fatal(err)
	}
	o, err := parse([]string{"-before", file})
	if err != nil {
		t.Fatal(err)
	}
	o.before.Run.Commit, o.before.Run.Date = "abc", "2026-11-30"
	if err := os.WriteFile(into, []byte(beginMark+endMark), 0o600); err != nil {
		t.Fatal(err)
	}
	err = putMarkdown(into, []Row{
		row("sqlite", "prompts", perSecond(150)), row("sqlite", "… each", took(3*time.Millisecond)),
		row("memory", "prompts", perSecond(950)), row("memory", "… new", took(time.Millisecond)),
		row("memory", "… each", bytes(1)),
	}, o.before)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(into)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), "commit abc, 2026-11-30") {
		t.Errorf("the commit is not named:\n%s", got)
	}
	var pairs []string
	for line := range strings.Lines(string(got)) {
		if cells := strings.Split(strings.TrimSpace(line), "|"); len(cells) > 3 {
			last := cells[len(cells)-3 : len(cells)-1]
			pairs = append(pairs, strings.TrimSpace(last[0])+", "+strings.TrimSpace(last[1]))
		}
	}
	want := []string{"100/s, 1.50×", "4 ms, 0.75×", "1,000/s, 0.95×", ", ", "2 ms, "}
	if !slices.Equal(pairs[2:], want) {
		t.Errorf("%q, want %q", pairs[2:], want)
	}
}

// A file that no run wrote is refused by its name.
func TestBeforeIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "before.json")
	for _, text := range []string{"", "no JSON", "{}"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := parse([]string{"-before", file}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
