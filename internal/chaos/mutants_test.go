package main

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/pawl-dev/pawl/internal/chaos/check"
)

// A mutation whose text is gone breaks nothing any more, and nobody would notice.
func TestEveryMutationApplies(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range mutants {
		if names[m.name] {
			t.Errorf("there are two mutants %q", m.name)
		}
		names[m.name] = true
		if _, err := m.overlay(root, t.TempDir()); err != nil {
			t.Error(err)
		}
		if _, known := mixes[m.mix]; !known || m.seconds == 0 || len(m.seeds) == 0 {
			t.Errorf("mutant %q has no run to be found by", m.name)
		}
		for _, inv := range m.expect {
			if !slices.Contains(check.Invariants, inv) {
				t.Errorf("mutant %q breaks %s, which is not checked", m.name, inv)
			}
		}
	}
}

func TestMutationThatNoLongerApplies(t *testing.T) {
	m := mutant{name: "old", patches: []patch{{"internal/chaos/main.go", "no such text", "x"}}}
	if _, err := m.overlay("../..", t.TempDir()); err == nil {
		t.Error("nobody noticed")
	}
	m.patches[0].old = "err"
	if _, err := m.overlay("../..", t.TempDir()); err == nil {
		t.Error("nobody noticed that it applies at several places")
	}
}
