package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/pawl-dev/pawl/internal/cli"
)

// until is what was said until a line that holds a text.
func (a announcement) until(t *testing.T, text string) string {
	t.Helper()
	var all strings.Builder
	for line := range a {
		all.WriteString(line)
		if strings.Contains(line, text) {
			return all.String()
		}
	}
	t.Fatalf("%q did not come: %s", text, all.String())
	return ""
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
	want := `^\[bash waits\] true\n  no executor is connected: .*; waits since \d\d:\d\d:\d\d, until \d\d:\d\d:\d\d\n$`
	if text := said.until(t, "no executor"); !regexp.MustCompile(want).MatchString(text) {
		t.Errorf("%q", text)
	}
	interrupt()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	want = `^control: interrupted; submission [0-9a-f-]{36} is on record and goes on: ` +
		"`control wait [0-9a-f-]{36}`\n$"
	if line := said.until(t, "goes on"); !regexp.MustCompile(want).MatchString(line) {
		t.Errorf("%q", line)
	}
}

// A prompt goes on where it was when its control plane ends and comes back.
func TestPromptOutlivesItsControlPlane(t *testing.T) {
	data := t.TempDir()
	s := start(t, data, "--executor", "none")
	said := make(announcement, 100)
	var out bytes.Buffer
	c := command()
	c.SetArgs([]string{"prompt", "--data", data, "shell", "echo one"})
	c.SetOut(&out)
	c.SetErr(said)
	done := make(chan error, 1)
	go func() { done <- cli.Execute(t.Context(), c) }()
	said.until(t, "no executor")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	said.until(t, "[the control plane has ended; waiting for it to come back]\n")
	start(t, data)
	if err := <-done; err != nil || out.String() != "one\n" {
		t.Errorf("%v, %q", err, &out)
	}
	said.until(t, "[bash on builtin] echo one\n")
}

// What was accepted of an agent goes on, and can be followed, though the agent is gone when its control plane comes
// back.
func TestPromptOutlivesItsAgent(t *testing.T) {
	data, agents := t.TempDir(), t.TempDir()
	file := write(t, "---\nmodel: offline/shell\n---\n", agents, "a.md")
	s := start(t, data, "--executor", "none", "--agents", agents)
	said := make(announcement, 100)
	var out bytes.Buffer
	c := command()
	c.SetArgs([]string{"prompt", "--data", data, "a", "echo one"})
	c.SetOut(&out)
	c.SetErr(said)
	done := make(chan error, 1)
	go func() { done <- cli.Execute(t.Context(), c) }()
	said.until(t, "no executor")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	start(t, data, "--agents", agents)
	if err := <-done; err != nil || out.String() != "one\n" {
		t.Errorf("%v, %q", err, &out)
	}
}

// Every command that reads something has a table and JSON, and works against a control plane elsewhere as against
// one of this host.
func TestCommandsThatRead(t *testing.T) {
	dir := t.TempDir()
	data, agents := filepath.Join(dir, "data"), filepath.Join(dir, "agents")
	write(t, "---\nmodel: offline/shell\ndescription: mine\n---\n", agents, "mine.md")
	s := start(t, data, "--agents", agents)
	run := func(args ...string) string {
		t.Helper()
		out, stderr, err := invoke(t, args...)
		if err != nil {
			t.Errorf("%v: %v, %q", args, err, stderr)
		}
		return out
	}
	here := []string{"--data", data}
	var settled struct {
		SubmissionID string `json:"submissionId"`
		SessionID    string `json:"sessionId"`
		Outcome      string
		Result       struct{ Text string }
	}
	body := run(append(here, "prompt", "shell", "true\nsay: hello\x1b[31m", "--instance", "i", "-o", "json")...)
	if err := json.Unmarshal(
		[]byte(body),
		&settled,
	); err != nil || settled.Outcome != "OUTCOME_COMPLETED" ||
		settled.Result.Text != "hello\x1b[31m" {
		t.Fatalf("%v, %s", err, body)
	}
	run(append(here, "prompt", "shell", "task: say: done", "--instance", "parent")...)
	var children []struct{ SessionID, ParentSessionID, ParentCallID string }
	body = run(append(here, "sessions", "list", "--children-of", "shell/parent", "-o", "json")...)
	if err := json.Unmarshal([]byte(body), &children); err != nil || len(children) != 1 ||
		children[0].ParentSessionID == "" || children[0].ParentCallID == "" {
		t.Fatalf("%v, %s", err, body)
	}
	child := children[0].SessionID
	for _, where := range [][]string{here, {"--server", s.here.GRPC, "--token-file", filepath.Join(data, "token")}} {
		for _, c := range []struct {
			args  []string
			table string
		}{
			{
				[]string{"agents", "list"},
				`(?m)^NAME +MODEL +TOOLS +DESCRIPTION\nmine +offline/shell +read,\S+ +mine\nshell `,
			},
			{[]string{"agents", "get", "mine"}, `(?m)^name: +mine\nmodel: +offline/shell\ndescription: +mine\n`},
			{[]string{"executors", "list"}, `^ID +STATE +CALLS +LABELS +LAST SEEN\nbuiltin +connected +0/64 +- +\d`},
			{[]string{"executors", "get", "builtin"}, `^id: +builtin\nstate: +connected\n`},
			{
				[]string{"sessions", "list", "--agent", "shell", "--instance", "i"},
				`^SESSION +ID +PENDING +EXECUTOR +CREATED\nshell/i +` +
					settled.SessionID + ` +0 +builtin +\d`,
			},
			{[]string{"sessions", "get", "shell/i"}, `^session: +shell/i\nid: +` + settled.SessionID},
			{
				[]string{"sessions", "list", "--children-of", "shell/parent"},
				`^SESSION +ID +PENDING +EXECUTOR +CREATED\nshell/parent/default/task:\S+ +` + child + ` .*\n$`,
			},
			{[]string{"sessions", "get", child}, `(?m)^parent: +\S+, whose call \S+ it answers$`},
			{[]string{"sessions", "rebind", "shell/i", "builtin"}, `^session shell/i is with executor builtin now\n$`},
			{
				[]string{"submissions", "list", settled.SessionID},
				`^ID +STATE +ACCEPTED +TURNS +ANSWER\n` +
					settled.SubmissionID + ` +completed .* hello\\x1b\[31m\n$`,
			},
			{
				[]string{"submissions", "get", settled.SubmissionID},
				`^id: +` +
					settled.SubmissionID + `\n(?s:.*)answer: +hello\\x1b\[31m\n$`,
			},
			{[]string{"wait", settled.SubmissionID}, `(?m)^state: +completed$`},
			{[]string{"abort", settled.SubmissionID}, `(?m)^state: +completed$`},
			{[]string{"abort", "shell/i"}, `^queued ones settled: +0\nrunning: +none\n$`},
			{
				[]string{"audit", "list", "--since", "1h"},
				`^TIME +WHO +FROM +RESULT +METHOD +RESOURCE\n(?s:.*)SubmissionService/Prompt`,
			},
			{[]string{"token", "list"}, `^ID +TENANT +FOR +NAME +CREATED +STATE\n\S+ +default +operator `},
		} {
			if out := run(append(c.args, where...)...); !regexp.MustCompile(c.table).MatchString(out) {
				t.Errorf("%v: %s", c.args, out)
			}
			var v any
			if out := run(
				append(append(c.args, where...), "-o", "json")...); json.Unmarshal([]byte(out), &v) != nil ||
				strings.Contains(out, "\x1b") {
				t.Errorf("%v: %s", c.args, out)
			}
		}
	}
	for args, code := range map[string]int{
		"agents get nobody": cli.Failed, "wait 0": cli.Failed, "abort nobody": cli.Usage,
		"abort nobody/i": cli.Failed, "wait": cli.Usage, "agents": 0, "agents lst": cli.Usage,
		"agents list --server 127.0.0.1:1": cli.Unreachable, "agents list --data " + dir + "/nowhere": cli.Unreachable,
	} {
		words := strings.Fields(args)
		if !strings.Contains(args, "--") {
			words = append(words, here...)
		}
		if _, stderr, err := invoke(t, words...); cli.Code(err) != code {
			t.Errorf("%s: code %d, %v, %s", args, cli.Code(err), err, stderr)
		}
	}
	checkVariables(t, s)
}

// checkVariables names the control plane and its token by variables.
func checkVariables(t *testing.T, s *server) {
	t.Helper()
	secret, err := os.ReadFile(filepath.Join(s.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir()) // where no data directory is
	t.Setenv("PAWL_SERVER", s.here.GRPC)
	if _, stderr, err := invoke(
		t,
		"agents",
		"list",
	); err == nil ||
		!strings.Contains(stderr, "a valid token is needed: give --token-file FILE") {
		t.Errorf("without a token: %v, %q", err, stderr)
	}
	t.Setenv("PAWL_TOKEN", string(secret))
	if _, stderr, err := invoke(t, "agents", "list"); err != nil {
		t.Errorf("PAWL_TOKEN: %q", stderr)
	}
	t.Setenv("PAWL_TOKEN", "wrong")
	t.Setenv("PAWL_TOKEN_FILE", filepath.Join(s.data, "token"))
	if _, stderr, err := invoke(t, "agents", "list"); err != nil {
		t.Errorf("PAWL_TOKEN_FILE: %q", stderr)
	}
	// Who names a data directory means that one.
	if _, stderr, err := invoke(t, "agents", "list", "--data", "nowhere"); cli.Code(err) != cli.Unreachable {
		t.Errorf("--data: %q", stderr)
	}
}

// Agent files are read again by a command and by SIGHUP. Work under way keeps its definition, and prompts of an
// agent that is gone are refused for a reason.
func TestAgentsAreReloaded(t *testing.T) {
	dir := t.TempDir()
	data, agents := filepath.Join(dir, "data"), filepath.Join(dir, "agents")
	write(t, "---\nmodel: offline/shell\n---\n", agents, "a.md")
	s := start(t, data, "--agents", agents, "--log-format", "json")
	running := make(chan error, 1)
	var out bytes.Buffer
	gate := filepath.Join(dir, "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	said := make(announcement, 100)
	c := command()
	c.SetArgs([]string{"prompt", "--data", data, "a", "cat " + gate})
	c.SetOut(&out)
	c.SetErr(said)
	go func() { running <- cli.Execute(t.Context(), c) }()
	said.until(t, "[bash on builtin]")
	if err := os.Rename(filepath.Join(agents, "a.md"), filepath.Join(agents, "b.md")); err != nil {
		t.Fatal(err)
	}
	write(t, "---\nmodel: offline/shell\nfoo: 1\n---\n", agents, "c.md")
	got, stderr, err := invoke(t, "agents", "reload", "--data", data)
	if err == nil || !regexp.MustCompile(`^added: +b\nremoved: +a\n$`).MatchString(got) ||
		!strings.Contains(stderr, "c.md:3:1: foo: unknown key") || !strings.Contains(stderr, "(it cannot be used)") {
		t.Errorf("%v, %q, %q", err, got, stderr)
	}
	if _, stderr, err := invoke(t, "prompt", "--data", data, "a", "true"); err == nil ||
		!strings.Contains(stderr, `agent "a" was removed: its file is gone; agents: b, shell; `) {
		t.Errorf("%v, %q", err, stderr)
	}
	if _, stderr, err := invoke(t, "prompt", "--data", data, "b", "true"); err != nil {
		t.Errorf("%v, %q", err, stderr)
	}
	if err := os.WriteFile(gate, []byte("went on\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-running; err != nil || out.String() != "went on\n" {
		t.Errorf("%v, %q", err, &out)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if log := s.log.String(); !strings.Contains(log, `"msg":"agents reloaded","added":["b"]`) ||
		!strings.Contains(log, "c.md:3:1: foo: unknown key") {
		t.Errorf("%s", log)
	}
}

// The first agent may come after the start, into a directory that was not there.
func TestFirstAgentIsLoaded(t *testing.T) {
	t.Chdir(t.TempDir())
	start(t, ".pawl")
	write(t, "---\nmodel: offline/shell\n---\n", "agents", "a.md")
	if got, stderr, err := invoke(t, "agents", "reload"); err != nil || got != "added:  a\n" {
		t.Errorf("%v, %q, %q", err, got, stderr)
	}
}

// A reload tells of agents that are in force and of no use, each time.
func TestReloadWarns(t *testing.T) {
	t.Chdir(t.TempDir())
	start(t, ".pawl", "--executor", "none")
	write(t, "---\nmodel: offline/shel\n---\n", "agents", "typo.md")
	write(t, "---\nmodel: offline/shell\ntenants: [acme]\n---\n", "agents", "theirs.md")
	write(t, "---\nmodel: offline/shell\ncompaction: {model: offline/shel}\n---\n", "agents", "long.md")
	for _, first := range []bool{true, false} {
		got, stderr, err := invoke(t, "agents", "reload")
		if err != nil || strings.HasPrefix(got, "added:") != first ||
			!strings.Contains(stderr, "warning: agent typo: its prompts will fail: ") ||
			!strings.Contains(stderr, "warning: agent long: its conversations cannot be summarised: ") ||
			!strings.Contains(stderr, "warning: agent theirs: it is for tenants that there are not: acme\n") {
			t.Errorf("%v, %q, %q", err, got, stderr)
		}
	}
	got, _, err := invoke(t, "agents", "reload", "-o", "json")
	if err != nil || !strings.Contains(got, `"warnings"`) {
		t.Errorf("%v, %q", err, got)
	}
}

// The program reads agent files again at SIGHUP.
func TestHangup(t *testing.T) {
	dir := t.TempDir()
	data, agents := filepath.Join(dir, "data"), filepath.Join(dir, "agents")
	write(t, "---\nmodel: offline/shell\n---\n", agents, "a.md")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(
		t.Context(),
		program,
		"--data",
		data,
		"--http",
		"127.0.0.1:0",
		"--grpc",
		"127.0.0.1:0",
		"--agents",
		agents,
		"--executor",
		"none",
	)
	c.Env = append(os.Environ(), asProgram+"=1")
	log := make(announcement, 100)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	log.until(t, "Try it")
	write(t, "---\nmodel: offline/shell\n---\n", agents, "b.md")
	if err := c.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	log.until(t, "agents reloaded")
	if _, stderr, err := invoke(t, "agents", "get", "--data", data, "b"); err != nil {
		t.Errorf("%v, %q", err, stderr)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}
