package agent

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestAnAgentHasTheServersThatItNames(t *testing.T) {
	dir := project(t, map[string]string{
		"agents/a.md":     using("[web_fetch, mcp__issues__create_issue, mcp__files, bash]"),
		"agents/b.md":     minimal,
		"agents/none.md":  "---\nmodel: a/b\nsandbox: none\ntools: [mcp__issues]\n---\n",
		"mcp/issues.yaml": "url: https://issues.test/mcp\nauth: {bearer: \"${TOKEN}\"}\n",
		"mcp/files.yaml":  "command: files\nenv: {KEY: \"x ${KEY}\"}\n",
		"mcp/other.yaml":  "command: other\n",
	})
	lookup := lookupIn(map[string]string{"TOKEN": "hunter2", "KEY": "hunter3"})
	c, err := Load(dir, lookup, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := got(t, c, "a")
	if want := []string{"bash", "mcp__files", "mcp__issues__create_issue", "web_fetch"}; !slices.Equal(a.Tools, want) {
		t.Errorf("tools %q, want %q", a.Tools, want)
	}
	if len(a.MCP) != 2 || a.MCP["issues"].HTTP.URL != "https://issues.test/mcp" || a.MCP["files"].Command == nil {
		t.Errorf("servers %+v", a.MCP)
	}
	if b := got(t, c, "b"); b.MCP != nil {
		t.Errorf("an agent that names none has %+v", b.MCP)
	}
	if none := got(t, c, "none"); none.MCP["issues"].Name != "issues" {
		t.Errorf("an agent without a sandbox has %+v", none.MCP)
	}
	secrets := a.Secrets(lookup)
	slices.Sort(secrets)
	if !slices.Equal(secrets, []string{"hunter2", "hunter3", "x hunter3"}) {
		t.Errorf("the secrets are %q", secrets)
	}
	body, err := json.Marshal(a)
	if err != nil || strings.Contains(string(body), "hunter") {
		t.Errorf("the definition has a secret: %v", err)
	}
	var stored Definition
	if err := json.Unmarshal(body, &stored); err != nil || !reflect.DeepEqual(stored, a) {
		t.Errorf("the stored definition is another one: %v", err)
	}
}

func TestServersThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"unknown": {
			map[string]string{"agents/a.md": using("[mcp__b]"), "mcp/a.yaml": "command: x\n"},
			[]string{"agents/a.md:3:9: tools: there is no tool mcp__b; there are read, write, edit, bash, grep, " +
				"glob, " +
				"task, web_fetch, mcp__a; one that an executor offers is named executor/NAME"},
		},
		"broken": {
			map[string]string{"agents/a.md": using("[mcp__a__b]"), "mcp/a.yaml": "comand: x\n"},
			[]string{
				"mcp/a.yaml:1:1: must have either url, of a server that control calls, or command, of one that " +
					"runs on " +
					"the executor of the session",
				"mcp/a.yaml:1:1: comand: unknown key; there are url, headers, auth, networks, command, args, env, " +
					"cwd, " +
					"tools, timeout, safety, prefix",
				"agents/a.md:3:9: tools: tool mcp__a cannot be used: its own file has a problem",
			},
		},
		"no sandbox": {
			map[string]string{
				"agents/a.md": "---\nmodel: a/b\nsandbox: none\ntools: [mcp__a]\n---\n", "mcp/a.yaml": "command: x\n",
			},
			[]string{"agents/a.md:4:9: tools: tool mcp__a needs a sandbox, and sandbox is none"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := problemsOf(t, project(t, c.files), lookupIn(nil))
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}
