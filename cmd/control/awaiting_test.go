package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/cli"
)

// begun is a command that runs.
type begun struct {
	said announcement
	out  bytes.Buffer
	done chan error
}

func begin(t *testing.T, args ...string) *begun {
	t.Helper()
	b := &begun{said: make(announcement, 100), done: make(chan error, 1)}
	c := command()
	c.SetArgs(args)
	c.SetOut(&b.out)
	c.SetErr(b.said)
	go func() { b.done <- cli.Execute(t.Context(), c) }()
	return b
}

// Commands that wait say what for: an approval, their turn, whoever works.
func TestCommandsSayWhatTheyWaitFor(t *testing.T) {
	s := start(t, t.TempDir(), "--agents", ruledProject(t))
	run := func(args ...string) string {
		t.Helper()
		out, stderr, err := invoke(t, append(args, "--data", s.data)...)
		if err != nil {
			t.Fatalf("%v: %v\n%s%s", args, err, out, stderr)
		}
		return out
	}
	asks := func(b *begun) (id string) {
		t.Helper()
		text := b.said.until(t, "or show, or deny")
		told := regexp.MustCompile(`(?s)\[bash waits for an approval\] rm x.*approve ([0-9a-f-]{36})`).
			FindStringSubmatch(text)
		if told == nil {
			t.Fatalf("%q", text)
		}
		return told[1]
	}
	ends := func(b *begun, want string) {
		t.Helper()
		if err := <-b.done; (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q: %s", err, want, b.out.String())
		}
	}
	run("sessions", "create", "cleaner/w")
	first := begin(t, "sessions", "shell", "cleaner/w", "rm x", "--data", s.data)
	id := asks(first)
	if list := run("approvals", "list", "--session", "cleaner/w"); !strings.Contains(list, id) {
		t.Errorf("approvals of the session: %s", list)
	}
	queued := begin(t, "sessions", "shell", "cleaner/w", "echo two", "--data", s.data)
	queued.said.until(t, "[queued behind 1 of session cleaner/w: submission ")
	compacts := begin(t, "sessions", "compact", "cleaner/w", "--data", s.data)
	compacts.said.until(t, "[queued behind 2 of session cleaner/w: submission ")
	all := regexp.MustCompile(`(?m)^[0-9a-f-]{36}`).FindAllString(run("submissions", "list", "cleaner/w"), -1)
	if len(all) != 3 {
		t.Fatalf("%v", all)
	}
	if got := asks(begin(t, "wait", all[2], "--data", s.data)); got != id {
		t.Errorf("wait tells of the approval %s, not of %s", got, id)
	}
	begin(t, "wait", all[1], "--data", s.data).said.until(t, "[queued behind 1 of session cleaner/w")
	run("abort", all[0])
	run("abort", all[1]) // which never began: no event tells of its end
	ends(compacts, "ABORTED")
	ends(queued, "ABORTED")
	run("abort", all[2])
	ends(first, "ABORTED")
	third := begin(t, "sessions", "shell", "cleaner/w", "sleep 2; echo three", "--data", s.data)
	third.said.until(t, "[the command runs]")
	last := regexp.MustCompile(`(?m)^[0-9a-f-]{36}`).FindString(run("submissions", "list", "cleaner/w"))
	waits := begin(t, "wait", last, "--data", s.data)
	waits.said.until(t, "` shows what it does]")
	ends(waits, "")
	ends(third, "")
	if third.out.String() != "three\n" {
		t.Errorf("%q", third.out.String())
	}
}

// What is done with labels is told, and what to do instead.
func TestLabelsOfSessionsAreTold(t *testing.T) {
	s := start(t, t.TempDir(), "--executor", "none")
	for _, c := range []struct {
		args string
		want string
	}{
		{"sessions create shell/a --label team=core", "is made\n"},
		{"sessions create shell/a", "is there with other labels or metadata: `control sessions label shell/a`"},
		{"sessions label shell/a --label stage=x", "is labelled stage=x,team=core\n"},
		{"sessions label shell/a --remove stage --remove team", "is without labels\n"},
	} {
		out, said, _ := invoke(t, append(strings.Fields(c.args), "--data", s.data)...)
		if !strings.Contains(out+said, c.want) {
			t.Errorf("%s: %q, want %q", c.args, out+said, c.want)
		}
	}
}
