package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/proctest"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/executor"
)

// answer prompts an agent and returns what it answers and what it did.
func answer(t *testing.T, data, agent, message string) (answer, trace string) {
	t.Helper()
	answer, trace, err := invoke(t, "prompt", "--data", data, agent, message)
	if err != nil {
		t.Fatalf("%s: %v, %q, %q", message, err, answer, trace)
	}
	return strings.TrimSuffix(answer, "\n"), trace
}

// Every tool, from a model's call over the executor's connection to the files and back to what the model reads of it.
func TestTools(t *testing.T) {
	dir := t.TempDir()
	root, agents, data := filepath.Join(dir, "root"), filepath.Join(dir, "agents"), filepath.Join(dir, "data")
	write(t, "---\nmodel: offline/shell\ncwd: sub\n---\n", agents, "deep.md")
	write(t, "", root, "sub", "empty")
	start(t, data, "--root", root, "--agents", agents)
	// in this order: the first sees the second's files
	for _, at := range [][2]string{{"shell", root}, {"deep", filepath.Join(root, "sub")}} {
		agent, cwd := at[0], at[1]
		for _, c := range []struct{ call, want string }{
			{`write {"path": "d/a.txt", "content": "one\nTwo é\nthree.\n"}`, "Successfully wrote 18 bytes to d/a.txt"},
			{`write {"path": "d/b.md", "content": "two.\n"}`, "Successfully wrote 5 bytes to d/b.md"},
			{`read {"path": "d/a.txt"}`, "one\nTwo é\nthree.\n"},
			{`read {"path": "d/a.txt", "offset": 2, "limit": 1}`, "Two é\n\n[Showing lines 2-2 of 3. Use offset=3 to " +
				"continue.]"},
			{`read {"path": "d"}`, "a.txt\nb.md"},
			{`read {"path": "missing"}`, cwd + "/missing: no such file or directory"},
			{`edit {"path": "d/a.txt", "oldText": "one", "newText": "1"}`, "Successfully edited d/a.txt\n\n--- " +
				"a/d/a.txt\n+++ b/d/a.txt\n@@ -1,3 +1,3 @@\n-one\n+1\n Two é\n three."},
			{`edit {"path": "d/a.txt", "oldText": "e", "newText": "x"}`, "d/a.txt: the old text was found 2 times, " +
				"in lines 3, 3; give more of the text around it, or replace all"},
			{
				`edit {"path": "d/a.txt", "oldText": "e", "newText": "E", "replaceAll": true}`,
				"Replaced 2 occurrences in d/a.txt\n\n--- a/d/a.txt\n+++ b/d/a.txt\n@@ -1,3 +1,3 @@\n 1\n Two " +
					"é\n-three.\n+thrEE.",
			},
			{`grep {"pattern": "^t.o", "ignoreCase": true}`, "d/a.txt:2: Two é\nd/b.md:1: two."},
			{`grep {"pattern": "^t.o"}`, "d/b.md:1: two."},
			{`grep {"pattern": "o.", "literal": true}`, "d/b.md:1: two."},
			{`grep {"pattern": "o", "include": "*.txt"}`, "d/a.txt:2: Two é"},
			{`grep {"pattern": ".", "path": "d/b.md"}`, "d/b.md:1: two."},
			{`grep {"pattern": "nowhere"}`, "No matches found."},
			{`grep {"pattern": "("}`, "No matches found.\n\n[The pattern is not a regular expression (missing " +
				"closing ): `(`) and was searched as plain text.]"},
			{`glob {"pattern": "**/*.txt"}`, "d/a.txt"},
			{`glob {"pattern": "*.md", "path": "d"}`, "d/b.md"},
			{`glob {"pattern": "*.md"}`, "No files found."},
			{`bash {"command": "cat d/a.txt; exit 3"}`, "1\nTwo é\nthrEE.\n\nCommand exited with code 3"},
		} {
			if got, trace := answer(t, data, agent, "tool "+strings.Replace(c.call, " ", ": ", 1)); got != c.want ||
				!strings.Contains(trace, " on builtin]") {
				t.Errorf("%s: %s gave %q, %q, want %q", agent, c.call, got, trace, c.want)
			}
		}
		if got, err := os.ReadFile(filepath.Join(cwd, "d", "a.txt")); err != nil ||
			string(got) != "1\nTwo é\nthrEE.\n" {
			t.Errorf("%s: the file holds %q, %v", agent, got, err)
		}
	}
}

// executorToken makes a token for an executor.
func executorToken(t *testing.T, data, id string) string {
	t.Helper()
	secret, told, err := invoke(t, "token", "create", "--data", data, "--executor", id,
		"--allow-label", "gpu=*", "--allow-label", "zone=eu")
	if err != nil || !regexp.MustCompile(`^pawl_e_[A-Za-z0-9]{43}_[A-Za-z0-9]{6}\n$`).MatchString(secret) ||
		!regexp.MustCompile(`^token \S+ for executor `+id+` with gpu=\*, zone=eu, does not expire\n`+
			`(no control plane runs on \S+: the token works at those that start on sqlite:\S+\n)?$`).MatchString(told) {
		t.Fatalf("%v, %q, %q", err, secret, told)
	}
	return strings.TrimSpace(secret)
}

// executorDir is the data directory of an executor that has ended when the test does.
func executorDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := proctest.EndKeeper(dir, time.Minute); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// connect runs an executor until the test ends, and returns its working directory once it is connected.
func connect(t *testing.T, s *server, secret, id string, labels map[string]string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	root, connected, done := t.TempDir(), make(chan struct{}, 1), make(chan error, 1)
	data := executorDir(t)
	go func() {
		done <- executor.Run(ctx, executor.Config{
			ID: id, Labels: labels, Root: root, DataDir: data, Targets: []string{s.here.GRPC},
			Token: rpc.Static(secret), Logger: slog.New(slog.DiscardHandler),
			Connected: func() {
				select {
				case connected <- struct{}{}:
				default:
				}
			},
		})
	}()
	t.Cleanup(func() { stop(); <-done })
	select {
	case <-connected:
	case err := <-done:
		done <- err
		t.Fatalf("executor %s ended with %v", id, err)
	}
	return root
}

// An agent's calls run on an executor that has its labels. Tokens of executors work wherever they were made: before the
// first start, in the database, or at the control plane that runs.
func TestExecutorsByLabel(t *testing.T) {
	dir := t.TempDir()
	agents, data := filepath.Join(dir, "agents"), filepath.Join(dir, "data")
	for name, labels := range map[string]string{
		"small": "{gpu: t4}", "large": "{gpu: a100, zone: eu}",
		"none": "{gpu: a100, zone: us}",
	} {
		write(t, "---\nmodel: offline/shell\nsandbox: {executor: {labels: "+labels+"}}\n---\n", agents, name+".md")
	}
	early := executorToken(t, data, "gpu1")
	s := start(t, data, "--agents", agents, "--executor", "none", "--disconnect-grace", "1s")
	late := executorToken(t, data, "gpu2")
	roots := map[string]string{
		"small": connect(t, s, early, "gpu1", map[string]string{"gpu": "t4", "zone": "eu"}),
		"large": connect(t, s, late, "gpu2", map[string]string{"gpu": "a100", "zone": "eu"}),
	}
	for agent, id := range map[string]string{"small": "gpu1", "large": "gpu2"} {
		for range 2 { // both have room for both
			if got, trace := answer(t, data, agent, "pwd"); got != roots[agent] ||
				!strings.Contains(trace, "[bash on "+id+"] pwd\n") {
				t.Errorf("%s ran in %q: %q, want %q", agent, got, trace, roots[agent])
			}
		}
	}
	if got, trace := answer(t, data, "none", "pwd"); !strings.Contains(got, "no executor for this agent was "+
		"available for 1s; the call was never started") || !strings.Contains(trace, "[bash waits] pwd\n  no executor "+
		"with the labels gpu=a100, zone=us takes new calls") {
		t.Errorf("nowhere: %q, %q", got, trace)
	}
	// A token is for the executor that it names.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := executor.Run(ctx, executor.Config{
		ID: "gpu3", DataDir: executorDir(t), Targets: []string{s.here.GRPC},
		Token: rpc.Static(early),
	})
	if err == nil || !strings.Contains(err.Error(), `the token belongs to executor "gpu1", not "gpu3"`) {
		t.Errorf("with another's token: %v", err)
	}
}
