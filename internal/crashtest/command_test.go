package crashtest_test

import (
	"os"
	"path/filepath"
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/proctest"
)

// project writes the files of a project, and returns the directory of its agents.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "agents")
}

// newProject is a control plane with a project's agents, and a machine of it.
func newProject(t *testing.T, files map[string]string) (*plane, *machine) {
	t.Helper()
	programs, err := built()
	if err != nil {
		t.Fatal(err)
	}
	c, err := proctest.NewControl(programs, t.TempDir(), "", "--executor", "none", "--agents", project(t, files))
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, Control: c}
	p.start()
	return p, newMachine(t, p)
}

// A command tool has the guarantees of a command. Its daemon is killed while it runs, before it has read its arguments:
// it runs once, with these, and its result arrives.
func TestACommandToolOutlivesItsDaemon(t *testing.T) {
	t.Parallel()
	p, m := newProject(t, map[string]string{
		"agents/shell2.md": "---\nmodel: offline/shell\ntools: [bash, greet]\n---\n",
		"tools/greet.yaml": `
description: Greets.
arguments:
  type: object
  properties: {name: {type: string}}
  required: [name]
command: |
  echo run >> runs
  until [ -e go ]; do sleep 0.05; done
  echo end >> runs
  printf '{"line": "%s of %s", "args": ' "$ARG_NAME" "$PLACE"; cat; printf '}'
env: {PLACE: here}
timeout: 1m
output: json
`,
	})
	sub := p.submitAs("shell2", "i", `tool greet: {"name": "$(id) & ;"}`)
	m.awaitRunning()
	m.kill()
	m.start()
	m.release()
	got := p.wait(sub.GetSubmissionId())
	const want = `{"line":"$(id) & ; of here","args":{"name":"$(id) & ;"}}`
	if got.GetOutcome() != pawlv1.Outcome_OUTCOME_COMPLETED || got.GetResult().GetText() != want {
		t.Errorf("settled %v: %q %v", got.GetOutcome(), got.GetResult().GetText(), got.GetError())
	}
	if runs := m.read("runs"); runs != "run\nend\n" {
		t.Errorf("it left %q", runs)
	}
}
