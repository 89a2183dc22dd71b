package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/cli"
)

// A server reads the workflows beside its agents, refuses to start with one that is broken, and reads them again with
// the agents, each checked against the other.
func TestWorkflowsAreLoaded(t *testing.T) {
	dir := t.TempDir()
	data, agents := filepath.Join(dir, "data"), filepath.Join(dir, "agents")
	write(t, "---\nmodel: offline/shell\n---\n", agents, "a.md")
	write(t, "agent: b\nsteps: [{prompt: x}]\n", dir, "workflows", "one.yaml")
	_, stderr, err := invoke(t, "--data", data, "--agents", agents)
	if cli.Code(err) != cli.Failed ||
		!strings.Contains(stderr, "one.yaml:1:8: there is no agent b; there are a, shell") {
		t.Fatalf("a broken workflow: %d, %q", cli.Code(err), stderr)
	}
	write(t, "agent: a\nsteps: [{prompt: x}]\n", dir, "workflows", "one.yaml")
	s := start(t, data, "--agents", agents, "--log-format", "json")
	write(t, "agent: b\nsteps: [{prompt: x}]\n", dir, "workflows", "one.yaml")
	write(t, "tenants: [acme]\nsteps: [{skill: review, agent: a}]\n", dir, "workflows", "two.yaml")
	got, stderr, err := invoke(t, "agents", "reload", "--data", data)
	if err == nil || got != "workflows added:  two\n" ||
		!strings.Contains(stderr, "one.yaml:1:8: there is no agent b") ||
		!strings.Contains(stderr, "(what was there before stays in force)") ||
		!strings.Contains(stderr, "warning: workflow two: it is for tenants that there are not: acme\n") ||
		!strings.Contains(stderr, "two.yaml:2:17: agent a names no skill review") ||
		strings.Contains(stderr, "nothing has changed") {
		t.Errorf("%v, %q, %q", err, got, stderr)
	}
	// The agent comes with the same reload as the workflow that names it.
	write(t, "---\nmodel: offline/shell\n---\n", agents, "b.md")
	got, stderr, err = invoke(t, "agents", "reload", "--data", data)
	if want := "added:              b\nworkflows changed:  one\n"; err != nil || got != want {
		t.Errorf("%v, %q, %q", err, got, stderr)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if log := s.log.String(); !strings.Contains(log, `"msg":"workflows reloaded","added":["two"]`) ||
		!strings.Contains(log, `"msg":"a workflow's file cannot be used","workflow":"one","kept":true`) {
		t.Errorf("%s", log)
	}
}
