package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/cli"
)

// ruledProject is a project with the agent of docs/approvals.md.
func ruledProject(t *testing.T) (agents string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/approvals.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```markdown\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/approvals.md has no example")
	}
	agents = filepath.Join(t.TempDir(), "agents")
	if err := os.MkdirAll(agents, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(agents, "cleaner.md"), []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	return agents
}

// The agent of docs/approvals.md asks about what its rules say, `control prompt` tells how to decide, and the commands
// of the page decide.
func TestApprovalsPage(t *testing.T) {
	s := start(t, t.TempDir(), "--agents", ruledProject(t))
	run := func(wants string, args ...string) string {
		t.Helper()
		out, stderr, err := invoke(t, append([]string{"approvals", "--data", s.data}, args...)...)
		if err != nil || !regexp.MustCompile(wants).MatchString(out) {
			t.Errorf("approvals %v: %v\n%s%s", args, err, out, stderr)
		}
		return out
	}
	// prompting begins a prompt that waits, and returns the id of its approval.
	prompting := func(message string) (id string, ended func() string) {
		t.Helper()
		said := make(announcement, 100)
		var out bytes.Buffer
		c := command()
		c.SetArgs([]string{"prompt", "--data", s.data, "cleaner", message})
		c.SetOut(&out)
		c.SetErr(said)
		done := make(chan error, 1)
		go func() { done <- cli.Execute(t.Context(), c) }()
		text := said.until(t, "may decide")
		told := regexp.MustCompile("waits for an approval\\] [^\n]*\n  `control approvals approve ([0-9a-f-]{36})`, " +
			"or show, or deny\n  \\S+ may decide").FindStringSubmatch(text)
		if told == nil {
			t.Fatalf("the prompt says %q", text)
		}
		return told[1], func() string {
			t.Helper()
			if err := <-done; err != nil {
				t.Error(err)
			}
			close(said)
			rest := ""
			for line := range said {
				rest += line
			}
			return rest + out.String()
		}
	}
	const edit = `tool edit: {"path":"a","oldText":"b","newText":"c"}`
	id, ended := prompting(edit)
	run(`(?m)^`+id+` +open +cleaner\S* +edit .* a$`, "list")
	run(`(?s)state: +open\n.*because of: +rule 3 of cleaner: .*tool: +edit\n.*digest: +[0-9a-f]{64}\n`, "show", id)
	run(`approved\n$`, "approve", id, "--for-session")
	if text := ended(); !strings.Contains(text, "[edit: approved") {
		t.Errorf("the prompt says %q", text)
	}
	out, stderr, err := invoke(t, "prompt", "--data", s.data, "cleaner", edit) // nobody is asked
	if err != nil || strings.Contains(stderr, "waits for an approval") {
		t.Errorf("with a grant: %v\n%s%s", err, out, stderr)
	}
	grants := run(`(?m)^[0-9a-f-]{36} +cleaner\S* +edit +rule 3 of cleaner`, "grants")
	grant := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(grants)
	run(`^revoked\n$`, "revoke", grant)
	id, ended = prompting(edit)
	run(`denied\n$`, "deny", id, "--comment", "not on a Friday")
	if text := ended(); !strings.Contains(text, ": not on a Friday") || !strings.Contains(text, "[edit: denied by ") {
		t.Errorf("the prompt says %q", text)
	}
	if _, stderr, err := invoke(t, "approvals", "--data", s.data, "approve", id); err == nil ||
		!strings.Contains(stderr, "it was denied already by ") {
		t.Errorf("decided twice: %v, %s", err, stderr)
	}
	id, _ = prompting("rm x")
	if _, stderr, err := invoke(t, "approvals", "--data", s.data, "approve", id); err == nil ||
		!strings.Contains(stderr, "wants somebody else to decide") {
		t.Errorf("whoever has asked decides: %v, %s", err, stderr)
	}
	run(`(?m)^`+id+` +open `, "list", "--state", "open", "--agent", "cleaner")
}
