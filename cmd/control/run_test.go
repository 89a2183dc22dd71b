package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/cli"
)

// runnable are workflows whose runs are told apart by how they end.
func runnable(t *testing.T, dir string) {
	t.Helper()
	for name, text := range map[string]string{
		"greet": `
input: {type: object, properties: {who: {type: string, default: you}}}
steps:
  - id: hello
    shell: echo "hello $WHO"
    env: {WHO: "${{ input.who }}"}
  - id: each
    foreach: ["1", "2"]
    do: [{log: "at ${{ item }}"}]
output: {said: "${{ steps.hello.stdout.trim() }}"}
`,
		"fails": "steps: [{id: a, shell: exit 3}]\n",
		"waits": `
on: {schedule: [{cron: "0 3 * * *"}]}
steps:
  - id: go
    signal: go
    result: {type: object, required: [by], properties: {by: {type: string}}}
output: ${{ steps.go.result.by }}
`,
	} {
		write(t, text, dir, "workflows", name+".yaml")
	}
}

// Without a control plane a workflow is run by the command itself, which leaves nothing behind.
func TestRunAlone(t *testing.T) {
	dir := t.TempDir()
	runnable(t, dir)
	t.Setenv("TMPDIR", t.TempDir())
	data := filepath.Join(dir, "data")
	run := func(args ...string) (out, errs string, code int) {
		t.Helper()
		out, errs, err := invoke(t, append([]string{"run", "--data", data, "--dir", dir}, args...)...)
		return out, errs, cli.Code(err)
	}
	out, errs, code := run("greet", "--input", `{"who": "ada"}`)
	if code != 0 || out != "{\n  \"said\": \"hello ada\"\n}\n" || !strings.Contains(errs, "[hello] shell completed") ||
		!strings.Contains(errs, "] at 2\n") || strings.Contains(errs, "  | hello ada") {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
	write(t, `{"who": "bob"}`, dir, "input.json")
	out, errs, code = run("greet", "--input", "@"+filepath.Join(dir, "input.json"), "--follow", "-o", "json")
	if code != 0 || !strings.Contains(out, `"said": "hello bob"`) || !strings.Contains(out, "RUN_STATUS_COMPLETED") ||
		!strings.Contains(errs, "[hello] shell begins") {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
	out, errs, code = run("fails")
	if code != cli.Failed || out != "" || !strings.Contains(errs, "the run has failed: exit_code: a: ") {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
	for want, args := range map[string][]string{
		"workflows: fails, greet, waits":    {"other"},
		"who: must be a string":             {"greet", "--input", `{"who": 1}`},
		"--input is not JSON":               {"greet", "--input", `{`},
		"give one of --follow and --detach": {"greet", "--follow", "--detach"},
		"no such file":                      {"greet", "--input", "@" + filepath.Join(dir, "nothing")},
		"must be a host":                    {"greet", "--http-host", "https://a"},
	} {
		if _, errs, code = run(args...); code != cli.Usage || !strings.Contains(errs, want) {
			t.Errorf("%v: %d, %q", args, code, errs)
		}
	}
	if _, errs, code = run("greet", "--detach"); code != cli.Unreachable || !strings.Contains(errs, "start one with") {
		t.Errorf("%d, %q", code, errs)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("there is a data directory")
	}
}

// Runs of a control plane go on without the command that has started them.
func TestRunsOfAServer(t *testing.T) {
	dir := t.TempDir()
	runnable(t, dir)
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(filepath.Join(dir, "agents"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(t, data, "--agents", filepath.Join(dir, "agents"))
	do := func(args ...string) (out string) {
		t.Helper()
		out, errs, err := invoke(t, append(args, "--data", data)...)
		if err != nil {
			t.Fatalf("%v: %v, %q", args, err, errs)
		}
		return out
	}
	shows := func(out string, all ...string) {
		t.Helper()
		for _, want := range all {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	}
	if out := do("run", "greet"); out != "{\n  \"said\": \"hello you\"\n}\n" {
		t.Errorf("%q", out)
	}
	id := strings.TrimSpace(do("run", "waits", "--detach", "--idempotency-key", "k"))
	if again := strings.TrimSpace(do("run", "waits", "--detach", "--idempotency-key", "k")); again != id {
		t.Errorf("%s, and again %s", id, again)
	}
	shows(do("runs", "list", "--workflow", "waits", "--status", "active"), id)
	shows(do("runs", "signal", id, "go", "--body", `{"by": "ada"}`, "--message-id", "m"), "accepted\n")
	shows(do("runs", "logs", id, "--follow"), "[go] signal completed")
	shows(do("runs", "get", id), "status:    completed", `output:    "ada"`)
	shows(do("runs", "steps", id), "go    signal  completed")
	shows(do("runs", "logs", id, "-o", "json"), `"runSettled":`)
	shows(do("runs", "cancel", id), "completed")
	shows(do("runs", "fork", id, "--from", "go"), "fork of:   "+id)
	if _, errs, err := invoke(t, "run", "fails", "--data", data); cli.Code(err) != cli.Failed ||
		!strings.Contains(errs, "the run has failed") {
		t.Errorf("%v, %q", err, errs)
	}
	shows(do("runs", "list", "--status", "failed"), "exit_code: a: ")
	shows(do("workflows", "list"), "greet", "waits  0 3 * * *")
	shows(do("workflows", "get", "greet"), "each: foreach\n", "  log\n")
	shows(do("schedules", "list"), "waits     1       0 3 * * *")
	shows(do("schedules", "pause", "waits", "1"), "next:      paused")
	shows(do("schedules", "resume", "waits", "1"), "next:      2")
	shows(do("schedules", "trigger", "waits", "1"), "schedule:  1, due ")
	for _, args := range [][]string{
		{"runs", "list", "--status", "done"},
		{"schedules", "pause", "waits", "x"},
		{"run", "other"},
		{"runs", "signal", id, "go", "--body", "{"},
		{"runs", "fork", id, "--input", "1"},
	} {
		if _, errs, err := invoke(t, append(args, "--data", data)...); cli.Code(err) != cli.Usage {
			t.Errorf("%v: %v, %q", args, err, errs)
		}
	}
}
