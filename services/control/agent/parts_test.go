package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// deploy is a command tool.
const deploy = "description: Deploys.\ncommand: ./deploy\n"

// using is a file of an agent that names tools.
func using(tools string) string { return "---\nmodel: a/b\ntools: " + tools + "\n---\n" }

// project writes files below a new directory, and returns that of its agents.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	return filepath.Join(tree(t, files), "agents")
}

// problemsOf are the problems of a load, one line each, without the directory.
func problemsOf(t *testing.T, dir string, lookup Lookup) []string {
	t.Helper()
	_, err := Load(dir, lookup, nil, Shell())
	if err == nil {
		return nil
	}
	return strings.Split(strings.ReplaceAll(err.Error(), filepath.Dir(dir)+"/", ""), "\n")
}

func TestAnAgentHasTheCommandToolsThatItNames(t *testing.T) {
	dir := project(t, map[string]string{
		"agents/a.md":       using("[smoke, deploy, bash, executor/cad]"),
		"agents/b.md":       minimal,
		"agents/c.md":       asking("Asks.", "a"),
		"tools/deploy.yaml": deploy,
		"tools/smoke.yaml":  deploy + "env: {TOKEN: \"${TOKEN}\"}\n",
		"tools/unused.yaml": deploy,
		"tools/go.mod":      "not a tool",
		"tools/x/y.yaml":    "not a tool",
		"tools/.swp.yaml":   "not a tool",
	})
	lookup := lookupIn(map[string]string{"TOKEN": "hunter2"})
	c, err := Load(dir, lookup, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := got(t, c, "a")
	if want := []string{"bash", "deploy", "executor/cad", "smoke"}; !slices.Equal(a.Tools, want) {
		t.Errorf("tools %q, want %q", a.Tools, want)
	}
	if len(a.Commands) != 2 || a.Commands["deploy"].Command != "./deploy" || a.Commands["smoke"].Name != "smoke" {
		t.Errorf("command tools %+v", a.Commands)
	}
	if b := got(t, c, "b"); b.Commands != nil || slices.Contains(b.Tools, "deploy") {
		t.Errorf("an agent that names none has %+v", b.Commands)
	}
	asks := got(t, c, "c")
	if sub, ok := asks.Subagent("a"); !ok || sub.Digest() != a.Digest() || len(sub.Commands) != 2 {
		t.Errorf("as a sub-agent: %+v", sub)
	}
	for what, d := range map[string]Definition{"it": a, "an agent that can reach it": asks} {
		if secrets := d.Secrets(lookup); !slices.Equal(secrets, []string{"hunter2"}) {
			t.Errorf("of %s the secrets are %q", what, secrets)
		}
	}
	body, err := json.Marshal(asks)
	if err != nil || strings.Contains(string(body), "hunter2") {
		t.Errorf("the definition has a secret: %v", err)
	}
	var stored Definition
	if err := json.Unmarshal(body, &stored); err != nil || !reflect.DeepEqual(stored, asks) {
		t.Errorf("the stored definition is another one: %v", err)
	}
}

func TestPartsThatCannotBe(t *testing.T) {
	const thereAre = "; one that an executor offers is named executor/NAME"
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"unknown": {
			map[string]string{"agents/a.md": using("[bash, reed]"), "tools/read-all.yaml": deploy},
			[]string{"agents/a.md:3:15: tools: there is no tool reed; there are read, write, edit, bash, grep, glob, " +
				"task, web_fetch, read-all" + thereAre},
		},
		"unknown, without tools": {
			map[string]string{"agents/a.md": using("\n - read\n - reed")},
			[]string{"agents/a.md:5:4: tools: there is no tool reed; there are read, write, edit, bash, grep, glob, " +
				"task, web_fetch" + thereAre},
		},
		"broken": {
			map[string]string{"agents/a.md": using("[deploy]"), "tools/deploy.yaml": "comand: x\ncommand: y"},
			[]string{
				"tools/deploy.yaml:1:1: comand: unknown key; there are description, arguments, command, cwd, env, " +
					"timeout, safety, output",
				"tools/deploy.yaml:1:1: description: is required: what the tool does, and when the model is to call it",
				"agents/a.md:3:9: tools: tool deploy cannot be used: its own file has a problem",
			},
		},
		"broken, and named by none": {
			map[string]string{"agents/a.md": minimal, "tools/deploy.yaml": "- a"},
			[]string{
				"tools/deploy.yaml:1:1: must be a mapping of keys to values, got a list",
				"tools/deploy.yaml:1:1: description: is required: what the tool does, and when the model is to call it",
				"tools/deploy.yaml:1:1: command: is required: the command line that is run",
			},
		},
		"taken names": {
			map[string]string{
				"agents/a.md": minimal, "tools/bash.yaml": deploy, "tools/mcp__a__b.yaml": deploy,
				"tools/finish.yaml": deploy,
			},
			[]string{
				"tools/bash.yaml: the name bash is taken; give your tool another one",
				"tools/finish.yaml: the name finish is taken; give your tool another one",
				"tools/mcp__a__b.yaml: the name mcp__a__b is taken; give your tool another one",
			},
		},
		"no sandbox": {
			map[string]string{
				"agents/a.md": "---\nmodel: a/b\nsandbox: none\ntools: [deploy]\n---\n", "tools/deploy.yaml": deploy,
			},
			[]string{"agents/a.md:4:9: tools: tool deploy needs a sandbox, and sandbox is none"},
		},
		"a variable that is not set": {
			map[string]string{"agents/a.md": minimal, "tools/deploy.yaml": deploy + "env: {A: \"${NOPE}\"}"},
			[]string{"tools/deploy.yaml:3:10: env.A: variable NOPE is not set in the environment of control"},
		},
		"no folder": {
			map[string]string{"agents/a.md": minimal, "tools": "a file"},
			[]string{"the directory of tools tools cannot be read: not a directory"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, c.files)
			if got := problemsOf(t, dir, lookupIn(nil)); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// An edit of a part changes the agents that name it. A fault in it, or a folder that cannot be read, costs no agent
// what it had.
func TestReloadOfParts(t *testing.T) {
	dir := project(t, map[string]string{
		"agents/a.md": using("[deploy]"), "agents/b.md": minimal, "agents/c.md": asking("Asks.", "a"),
		"tools/deploy.yaml": deploy,
	})
	c, err := Load(dir, lookupIn(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	pinned, _, err := c.Digest(home, "c")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "..", "tools", "deploy.yaml")
	uses := func(what, command string) {
		t.Helper()
		top := got(t, c, "c")
		sub, ok := top.Subagent("a")
		if now := got(t, c, "a"); !ok || now.Commands["deploy"].Command != command ||
			sub.Commands["deploy"].Command != command {
			t.Errorf("%s: the agent uses %+v, the sub-agent %+v", what, now.Commands, sub.Commands)
		}
	}
	put(t, file, "description: Deploys.\ncommand: ./new\n")
	if change := c.Reload(); !reflect.DeepEqual(change, Change{Changed: []string{"a", "c"}}) {
		t.Errorf("an edit changed %+v", change)
	}
	uses("edited", "./new")
	if d, err := c.ByDigest(pinned); err != nil || d.Team["a"].Commands["deploy"].Command != "./deploy" {
		t.Errorf("pinned work has %+v, %v", d.Team["a"].Commands, err)
	}

	put(t, file, "broken")
	put(t, filepath.Join(dir, "a.md"), using("[deploy, read]"))
	change := c.Reload()
	if len(change.Problems) != 1 || !change.Problems[0].Kept || change.Problems[0].Name != "" ||
		!slices.Equal(change.Changed, []string{"a", "c"}) {
		t.Errorf("a fault changed %+v", change)
	}
	uses("broken", "./new")
	if d := got(t, c, "a"); !slices.Contains(d.Tools, "read") {
		t.Errorf("the agent's own edit is lost: %v", d.Tools)
	}

	put(t, filepath.Join(dir, "..", "tools", "new.yaml"), "broken")
	put(t, filepath.Join(dir, "b.md"), using("[new]"))
	change = c.Reload()
	if len(change.Problems) != 3 || change.Problems[1].Kept || !change.Problems[2].Kept ||
		change.Problems[2].Name != "b" {
		t.Errorf("a new part with a fault: %+v", change)
	}

	folder := filepath.Dir(file)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	put(t, folder, "a file")
	change = c.Reload()
	if len(change.Problems) != 1 || !change.Problems[0].Kept || change.Changed != nil || change.Removed != nil {
		t.Errorf("a folder that cannot be read changed %+v", change)
	}
	uses("unreadable", "./new")
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	change = c.Reload()
	if len(change.Problems) != 2 || !change.Problems[0].Kept || change.Changed != nil || change.Removed != nil {
		t.Errorf("a folder that is gone changed %+v", change)
	}
	uses("gone", "./new")
}
