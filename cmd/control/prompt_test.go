package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/cli"
)

// Who sees the answer and what commands print in one place is not shown the same twice, unless asked for.
func TestBrief(t *testing.T) {
	for brief, want := range map[bool]string{false: "[bash: here]\nhello\n", true: "[bash: here]\n"} {
		var out, err bytes.Buffer
		p := &printer{out: &out, err: &err, brief: brief}
		p.event(&pawlv1.Event{Event: &pawlv1.Event_ToolStarted{ToolStarted: &pawlv1.ToolStarted{Name: "bash", ExecutorId: "here"}}})
		p.event(&pawlv1.Event{Event: &pawlv1.Event_ToolOutput{ToolOutput: &pawlv1.ToolOutput{Data: []byte("hello\n")}}})
		p.event(&pawlv1.Event{Event: &pawlv1.Event_Text{Text: &pawlv1.TextDelta{Text: "hello"}}})
		if out.String() != "hello" || err.String() != want {
			t.Errorf("brief %v: %q, %q", brief, out.String(), err.String())
		}
	}
}

// Who leaves, or is left, knows what becomes of the work.
func TestInterruptedPrompt(t *testing.T) {
	s := start(t, t.TempDir(), "--database", "memory", "--executor", "none")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	said := make(announcement, 10)
	c := command()
	c.SetArgs([]string{"prompt", "--data", s.data, "shell", "true"})
	c.SetErr(said)
	done := make(chan error, 1)
	go func() { done <- cli.Execute(ctx, c) }()
	if line := <-said; line != "[bash: waits for an executor]\n" {
		t.Errorf("%q", line)
	}
	interrupt()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	if line := <-said; !regexp.MustCompile(`^control: interrupted; submission [0-9a-f-]{36} is on record and goes on\n$`).MatchString(line) {
		t.Errorf("%q", line)
	}
}

// A prompt goes on where it was when its control plane ends and comes back.
func TestPromptOutlivesItsControlPlane(t *testing.T) {
	data := t.TempDir()
	s := start(t, data, "--executor", "none")
	said := make(announcement, 10)
	var out bytes.Buffer
	c := command()
	c.SetArgs([]string{"prompt", "--data", data, "shell", "echo one"})
	c.SetOut(&out)
	c.SetErr(said)
	done := make(chan error, 1)
	go func() { done <- cli.Execute(t.Context(), c) }()
	if line := <-said; line != "[bash: waits for an executor]\n" {
		t.Errorf("%q", line)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if line := <-said; line != "[the control plane has ended; waiting for it to come back]\n" {
		t.Errorf("%q", line)
	}
	start(t, data)
	if err := <-done; err != nil || out.String() != "one\n" {
		t.Errorf("%v, %q", err, &out)
	}
	close(said)
	var rest string
	for line := range said {
		rest += line
	}
	if rest != "[bash: builtin]\none\n" {
		t.Errorf("%q", rest)
	}
}

func TestOneTerminal(t *testing.T) {
	open := func(path string) *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	file := filepath.Join(t.TempDir(), "file")
	// The null device stands for a terminal: both are character devices.
	if !oneTerminal(open(os.DevNull), open(os.DevNull)) {
		t.Error("one device opened twice counts as two")
	}
	if oneTerminal(open(os.DevNull), open(file)) || oneTerminal(open(file), open(file)) || oneTerminal(open(os.DevNull), &bytes.Buffer{}) {
		t.Error("a file or a pipe counts as a terminal")
	}
}
