package project

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/workflow"
)

// files writes those of a project, and removes those that are empty.
func files(t *testing.T, dir string, all map[string]string) {
	t.Helper()
	for name, text := range all {
		path := filepath.Join(dir, name)
		if text == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func lookup(name string) (string, bool) { return "set", name == "THERE" }

const helper = "---\nmodel: offline/shell\n---\n"

// Agents and workflows are checked against each other whenever they are read.
func TestReloadFindsWhatAgentsHaveBroken(t *testing.T) {
	dir := t.TempDir()
	files(t, dir, map[string]string{
		"agents/helper.md": helper, "agents/other.md": helper, "tools/resize.yaml": "description: R.\ncommand: r\n",
		"workflows/a.yaml": "agent: helper\nsteps: [{prompt: x}]\n",
		"workflows/b.yaml": "steps:\n- call: resize\n",
	})
	p, err := Open(Files{Agents: filepath.Join(dir, "agents"), Lookup: lookup})
	if err != nil {
		t.Fatal(err)
	}
	files(t, dir, map[string]string{"agents/helper.md": "", "tools/resize.yaml": ""})
	if change := p.Agents.Reload(); len(change.Problems) > 0 {
		t.Fatalf("%+v", change)
	}
	change := p.Workflows.Reload()
	said := []string{}
	for _, p := range change.Problems {
		if !p.Kept {
			t.Errorf("%s is out of force", p.Name)
		}
		said = append(said, strings.TrimPrefix(p.Err.Error(), dir+"/workflows/"))
	}
	if len(said) != 2 || said[0] != "a.yaml:1:8: there is no agent helper; there are other" ||
		!strings.HasPrefix(said[1], "b.yaml:2:9: there is no tool resize") {
		t.Errorf("%q", said)
	}
	files(t, dir, map[string]string{"agents/helper.md": helper, "workflows/b.yaml": ""})
	p.Agents.Reload()
	if change = p.Workflows.Reload(); len(change.Problems) > 0 || !reflect.DeepEqual(change.Removed, []string{"b"}) {
		t.Errorf("%+v", change)
	}
}

// A project need not have workflows, and may have them later. What is wrong with its files is told in one go.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	at := Files{Agents: filepath.Join(dir, "agents"), Lookup: lookup}
	if _, err := Open(at); err == nil || !strings.Contains(err.Error(), "the directory of agents") {
		t.Errorf("%v", err)
	}
	at.AgentsLater = true
	p, err := Open(at)
	if err != nil || len(p.Workflows.All()) > 0 {
		t.Fatal(err)
	}
	files(t, dir, map[string]string{"workflows/a.yaml": "env: [THERE]\nsteps: [{log: x}]\n"})
	if change := p.Workflows.Reload(); !reflect.DeepEqual(change.Added, []string{"a"}) {
		t.Errorf("%+v", change)
	}
	if p, err = Open(Files{}); err != nil || len(p.Workflows.All()) > 0 {
		t.Errorf("no directory: %v", err)
	}
	files(t, dir, map[string]string{
		"agents/helper.md": "---\nmodle: x\n---\n",
		"workflows/a.yaml": "env: [THERE, GONE]\nsteps:\n- {shell: x, env: {A: '${{ secrets.NONE }}'}}\n- {sleep: x}\n",
	})
	_, err = Open(at)
	for _, want := range []string{
		"helper.md:2:1: modle: unknown key", "a.yaml:1:14: variable GONE is not set in the environment of control",
		"a.yaml:3:28: secret NONE is not set", `a.yaml:4:11: "x" is no`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not told: %v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "THERE") {
		t.Errorf("%v", err)
	}
	at.Lookup = nil // as `control check` does
	files(t, dir, map[string]string{"agents/helper.md": helper, "workflows/a.yaml": "env: [GONE]\nsteps: [{log: x}]\n"})
	if _, err = Open(at); err != nil {
		t.Errorf("%v", err)
	}
}

// Workflows know the tools and the skills of the project.
func TestToolsAndSkillsOfTheProject(t *testing.T) {
	dir := t.TempDir()
	files(t, dir, map[string]string{
		"agents/helper.md": "---\nmodel: offline/shell\nsandbox: none\nskills: [review]\n---\n",
		"tools/resize.yaml": "description: R.\ncommand: r\n" +
			"arguments: {type: object, required: [width], properties: {width: {type: integer}}}\n",
		"mcp/files.yaml":         "url: http://127.0.0.1:1\n",
		"skills/review/SKILL.md": "---\nname: review\ndescription: Reviews.\n---\nLook.\n",
		"workflows/good.yaml": "agent: helper\nsteps:\n- {skill: review}\n- {call: resize, with: {width: 3}}\n" +
			"- {call: bash, with: {command: ls}}\n- {call: mcp__files__list, with: {any: 1}}\n" +
			"- {call: executor/gpu, with: {any: 1}}\n",
	})
	p, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.Workflows.Get("default", "good")
	if err != nil || len(d.Commands) != 1 || d.Commands["resize"].Command != "r" {
		t.Errorf("%v, %+v", err, d.Commands)
	}
	files(t, dir, map[string]string{
		"workflows/good.yaml": "agent: helper\nsteps:\n- {skill: revue}\n- {call: resize, with: {width: wide}}\n" +
			"- {call: bash, with: {command: 1}}\n- {call: task}\n",
	})
	change := p.Workflows.Reload()
	for _, want := range []string{
		"good.yaml:3:11: agent helper has no skill revue", "good.yaml:4:32: tool resize takes width as a whole number",
		"good.yaml:5:32: tool bash takes command as text, and is given a whole number",
		"good.yaml:6:10: there is no tool task", // which is a part of an agent
	} {
		if len(change.Problems) != 1 || !strings.Contains(change.Problems[0].Err.Error(), want) {
			t.Errorf("%s is not told: %+v", want, change.Problems)
		}
	}
	// Another command is another workflow.
	files(t, dir, map[string]string{"workflows/good.yaml": "steps: [{call: resize, with: {width: 3}}]\n"})
	p.Workflows.Reload()
	files(t, dir, map[string]string{
		"tools/resize.yaml": "description: R.\ncommand: other\narguments: {type: object}\n",
	})
	p.Agents.Reload()
	if change = p.Workflows.Reload(); !reflect.DeepEqual(change.Changed, []string{"good"}) {
		t.Errorf("%+v", change)
	}
}

// What is checked without being in force is checked beside what its tenant has, and nothing else.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	agent := "---\nmodel: offline/shell\n%s---\nHi.\n"
	files(t, dir, map[string]string{
		"agents/ours.md":      fmt.Sprintf(agent, ""),
		"agents/theirs.md":    fmt.Sprintf(agent, "tenants: [elsewhere]\n"),
		"workflows/leaf.yaml": "steps: [{log: hi}]\noutput: done\n",
		"workflows/over.yaml": "steps: [{workflow: leaf}]\n",
		"workflows/far.yaml":  "tenants: [elsewhere]\nsteps: [{log: hi}]\n",
	})
	p, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]string{
		"steps: [{prompt: hi, agent: ours}]":                                        "",
		"steps: [{prompt: hi, agent: theirs}]":                                      "there is no agent theirs",
		"steps: [{skill: x, agent: theirs}]":                                        "there is no agent theirs",
		"steps: [{workflow: leaf, id: a}, {log: '${{ steps.a.output }}'}]":          "",
		"steps: [{workflow: leaf, id: a}, {log: '${{ steps.a.output.x }}'}]":        "x.yaml:1:59: ",
		"steps: [{workflow: far}]":                                                  "there is no workflow far",
		"steps: [{workflow: laef}]":                                                 "did you mean leaf?",
		"steps: [{workflow: leaf}, {shell: a, env: {A: '${{ secrets.NOT_SET }}'}}]": "",
	} {
		switch d, err := p.Check("default", "x", []byte(source)); {
		case want == "" && (err != nil || d.Name != "x"):
			t.Errorf("%s: %v", source, err)
		case want != "" && (!errors.Is(err, workflow.ErrInvalid) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", source, err, want)
		}
	}
	for name, want := range map[string]string{
		"leaf": "leaf → over → leaf is a circle", "over": "over → over is a circle",
	} {
		if _, err := p.Check("default", name, []byte("steps: [{workflow: over}]")); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	theirs := []byte("steps: [{workflow: far}, {prompt: hi, agent: theirs}]")
	if _, err := p.Check("elsewhere", "x", theirs); err != nil {
		t.Error(err)
	}
}
