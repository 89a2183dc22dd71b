package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/cli"
)

// projectDir writes files of a project, each by its path, and returns its directory.
func projectDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const helper = "---\nmodel: offline/shell\ntenants: [a]\n---\n"

func TestCheck(t *testing.T) {
	good := projectDir(t, map[string]string{
		"agents/helper.md":     helper,
		"tools/resize.yaml":    "description: Resizes.\ncommand: resize\n",
		"workflows/one.yaml":   "tenants: [a]\nagent: helper\nsteps: [{prompt: x}, {call: resize}, {workflow: two}]\n",
		"workflows/two.yaml":   "steps: [{log: x}]\n",
		"workflows/notes.txt":  "not a workflow",
		"workflows/.two.yaml~": "an editor's",
	})
	out, _, err := invoke(t, "check", good)
	if err != nil || out != "1 agent and 2 workflows are good\n" {
		t.Errorf("%q, %v", out, err)
	}
	bad := projectDir(t, map[string]string{
		"agents/helper.md":   helper,
		"workflows/one.yaml": "agent: helpr\nsteps: [{prompt: hello}, {call: resize}, {workflow: three}]\n",
		"workflows/two.yaml": "agent: helper\nsteps:\n  - log: ${{ nothing }}\n",
	})
	_, said, err := invoke(t, "check", bad)
	if cli.Code(err) != cli.Failed {
		t.Errorf("code %d", cli.Code(err))
	}
	for _, want := range []string{
		"one.yaml:1:8: there is no agent helpr: did you mean helper?",
		"one.yaml:2:33: there is no tool resize; there are read,",
		"one.yaml:2:53: there is no workflow three; there are one, two",
		"two.yaml:1:8: agent helper is for a only, and the workflow is for all tenants",
		"two.yaml:3:14: there is no nothing (there are env, input, run, steps)",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%s is not told:\n%s", want, said)
		}
	}
	if n := strings.Count(said, "\n"); n != 5 {
		t.Errorf("%d problems:\n%s", n, said)
	}
	doubtful := projectDir(t, map[string]string{
		"agents/helper.md":   helper,
		"workflows/one.yaml": "tenants: [a]\nagent: helper\nsteps:\n- {skill: review}\n",
	})
	out, said, err = invoke(t, "check", doubtful)
	if err != nil || out != "1 agent and 1 workflow are good\n" || !strings.HasPrefix(said, "warning: ") ||
		!strings.Contains(said, "one.yaml:4:11: agent helper names no skill review: the step fails unless its ") {
		t.Errorf("%v, %q, %q", err, out, said)
	}
	// A broken agent is told, and not that workflows name it.
	broken := projectDir(t, map[string]string{
		"agents/helper.md":   "---\nmodle: x\n---\n",
		"workflows/one.yaml": "agent: helper\nsteps: [{prompt: hello}, {sleep: x}]\n",
	})
	_, said, _ = invoke(t, "check", broken)
	if !strings.Contains(said, "helper.md:2:1: modle: unknown key") || strings.Contains(said, "there is no agent") ||
		!strings.Contains(said, "one.yaml:2:34: \"x\" is no") {
		t.Errorf("%s", said)
	}
	if _, said, err = invoke(t, "check", t.TempDir()); err == nil || !strings.Contains(said, "directory of a project") {
		t.Errorf("%s, %v", said, err)
	}
}

func TestGraph(t *testing.T) {
	dir := projectDir(t, map[string]string{"workflows/one.yaml": "steps: [{log: x}]\n"})
	out, _, err := invoke(t, "graph", "one", "--dir", dir)
	if err != nil || !strings.HasPrefix(out, "flowchart TD\n    start([\"one\"])\n") {
		t.Errorf("%q, %v", out, err)
	}
	if _, said, err := invoke(t, "graph", "two", "--dir", dir); err == nil ||
		!strings.Contains(said, `no such workflow: "two"; workflows: one`) {
		t.Errorf("%s, %v", said, err)
	}
}

// Another's validator takes the good files, and refuses the bad ones: editors use such validators.
func TestSchemasOfStrangers(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/schema")); err != nil {
		t.Fatal(err)
	}
	npmInstall(t, dir)
	good, err := filepath.Glob("../../services/control/workflow/testdata/good/*.yaml")
	if err != nil || len(good) < 10 {
		t.Fatalf("%v, %v", good, err)
	}
	shown, err := filepath.Glob("../../examples/*/workflows/*.yaml")
	if err != nil || len(shown) < 4 {
		t.Fatalf("%v, %v", shown, err)
	}
	good = append(good, shown...)
	bad := projectDir(t, map[string]string{
		"key.yaml":    "steps: [{log: x, levl: info}]\n",
		"word.yaml":   "steps: [{approve: x, on_timeout: later}]\n",
		"kind.yaml":   "steps: [{shel: make}]\n",
		"inner.yaml":  "steps: [{foreach: [1], do: [{group: [{sleep: soon}]}]}]\n",
		"root.yaml":   "inputs: {}\nsteps: [{log: x}]\n",
		"script.yaml": "steps: [{shell: 'rm ${{ input.path }}'}]\n",
		"two.yaml":    "steps: [{log: x, fail: y}]\n",
	})
	refuses(t, dir, "workflow", good, bad)
	agents := projectDir(t, map[string]string{
		"a.md": "---\nmodel: [a/b, c/d]\ntools: [bash]\ncompaction: off\nlimits: {turns: 3}\n---\nBe kind.\n",
		"b.md": "---\nmodel: offline/shell\nsandbox: {executor: {labels: {gpu: a100}}}\nenv: {A: b}\n---\n",
	})
	shown, err = filepath.Glob("../../examples/*/agents/*.md")
	if err != nil || len(shown) < 3 {
		t.Fatalf("%v, %v", shown, err)
	}
	refuses(t, dir, "agent", append(shown, filepath.Join(agents, "a.md"), filepath.Join(agents, "b.md")),
		projectDir(t, map[string]string{
			"key.md": "---\nmodel: a/b\ntool: [bash]\n---\n", "none.md": "---\ntools: []\n---\n",
			"word.md": "---\nmodel: a/b\nexpose: [ftp]\n---\n",
		}))
}

// refuses checks that the schema of a kind takes the good files and none of those in a directory.
func refuses(t *testing.T, npm, kind string, good []string, bad string) {
	t.Helper()
	out, _, err := invoke(t, "schema", kind)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(npm, kind+".json"), []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(bad, "*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for i, file := range good {
		if good[i], err = filepath.Abs(file); err != nil {
			t.Fatal(err)
		}
	}
	args := slices.Concat([]string{"validate.mjs", kind + ".json"}, good, files)
	said := runIn(t, npm, nil, "node", args...)
	for _, file := range good {
		if strings.Contains(said, file) {
			t.Errorf("a good file is refused:\n%s", said)
		}
	}
	for _, file := range files {
		if !strings.Contains(said, file+": ") {
			t.Errorf("%s is accepted", filepath.Base(file))
		}
	}
}
