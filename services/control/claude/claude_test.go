package claude

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/agent"
)

// project writes files below a new directory.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var whole = map[string]string{
	".claude/agents/reviewer.md": `---
name: reviewer
description: Reviews code. Examples: user: "look at this" → it does: so
tools: Read, Grep, Bash(git diff:*), NotebookEdit, mcp__github__search, mcp__gone__x
model: opus
color: red
permissionMode: bypassPermissions
hooks:
  PreToolUse: [{matcher: Bash}]
---

You review.
--- It is so.
`,
	".claude/agents/all.md": "---\nname: all\ndescription: \"Does \\\"all\\\".\"\nmaxTurns: 7\nmodel: inherit\n" +
		"---\nWork.",
	".claude/agents/less.md": "---\nname: less\ndescription: d\n" +
		"disallowedTools: Bash(rm:*), Write, mcp__files, mcp__github__x\n---\nx",
	".claude/agents/fewer.md": "---\nname: fewer\ndescription: d\ntools: Read, mcp__files__*, mcp__github__a, " +
		"mcp__files__b\ndisallowedTools: mcp__github, mcp__files__b, Write\n---\nx",
	".claude/agents/plain.md": "No front matter.",
	".claude/agents/bad.md":   "---\nname: a b\ndescription: d\n---\nx",
	".claude/agents/twice.md": "---\nname: all\ndescription: d\ntools: [Task]\nmodel: claude-x-1\n---\nx",
	".claude/settings.json": `{"hooks": {"Stop": []}, "permissions": {"defaultMode": "bypassPermissions",
		"allow": ["Bash"]}, "enableAllProjectMcpServers": true}`,
	".claude/settings.local.json": `{`,
	".mcp.json": `{"mcpServers": {
		"github": {"type": "http", "url": "https://mcp.example.com/mcp", "headers": {"X-Key": "${KEY:-none}"},
			"oauth": {}},
		"files": {"command": "npx", "args": ["-y", "server", "."], "env": {"TOKEN": "${TOKEN}"}},
		"plain": {"command": "run", "args": ["${ROOT}/x"], "env": {"API_KEY": "sk-123", "LEVEL": "debug"}},
		"old": {"type": "sse", "url": "https://a.example.com"},
		"none": {}, "bad name": {"command": "x"}, "list": []
	}}`,
}

func TestRead(t *testing.T) {
	got, err := Read(project(t, whole), "offline/shell")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"agents/reviewer.md": `---
model: "anthropic/claude-opus-4-6"
description: "Reviews code. Examples: user: \"look at this\" → it does: so"
tools: ["read","grep","bash","mcp__github__search"]
approve: [{tool: ["bash"], do: ask}]
---
You review.
--- It is so.
`,
		"agents/all.md": `---
model: "offline/shell"
description: "Does \"all\"."
tools: ["read","write","edit","bash","grep","glob","task","mcp__files","mcp__github","mcp__plain"]
limits: {turns: 7}
---
Work.
`,
		"agents/less.md": `---
model: "offline/shell"
description: "d"
tools: ["read","edit","bash","grep","glob","task","mcp__github","mcp__plain"]
approve: [{tool: ["mcp__github__x"], do: deny}, {tool: ["bash"], do: ask}]
---
x
`,
		"agents/fewer.md": `---
model: "offline/shell"
description: "d"
tools: ["read","mcp__files"]
approve: [{tool: ["mcp__files__b"], do: deny}]
---
x
`,
		"mcp/plain.yaml": "command: \"run\"\nargs: [\"${ROOT}/x\"]\n" +
			"env: {\"API_KEY\":\"sk-123\",\"LEVEL\":\"debug\"}\n",
		"mcp/github.yaml": "url: \"https://mcp.example.com/mcp\"\nheaders: {\"X-Key\":\"${KEY}\"}\n",
		"mcp/files.yaml":  "command: \"npx\"\nargs: [\"-y\",\"server\",\".\"]\nenv: {\"TOKEN\":\"${TOKEN}\"}\n",
	}
	if names := slices.Sorted(maps.Keys(got.Files)); !slices.Equal(names, slices.Sorted(maps.Keys(want))) {
		t.Errorf("the files are %v", names)
	}
	for name, text := range want {
		if string(got.Files[name]) != text {
			t.Errorf("%s:\n%s\nwant\n%s", name, got.Files[name], text)
		}
	}
	for _, want := range []string{
		".mcp.json: server github: oauth: see the key auth",
		".mcp.json: server github: headers: the default of a variable",
		".mcp.json: server plain: args: the values of variables, which stand in env and headers only",
		".mcp.json: server plain: env.API_KEY: that it is a secret; put it into a variable, and ${API_KEY} into",
		".mcp.json: server old: Pawl speaks streamable HTTP",
		".mcp.json: server none, which cannot be loaded: ",
		".mcp.json: server bad name, which cannot be loaded: ",
		".mcp.json: server list, which cannot be read: ",
		".claude/agents/reviewer.md: tool Bash(git diff:*): its limit; each call asks",
		".claude/agents/less.md: disallowed tool Bash(rm:*): its limit; each call asks",
		".claude/agents/reviewer.md: tool NotebookEdit: Pawl has no such tool",
		".claude/agents/reviewer.md: tool mcp__gone__x: Pawl has no such tool",
		".claude/agents/reviewer.md: permissionMode: ",
		".claude/agents/reviewer.md: hooks: Pawl runs no hooks",
		".claude/agents/plain.md: it has no front matter",
		".claude/agents/bad.md: the agent, which cannot be loaded: ",
		".claude/agents/twice.md: the agent, because another file has its name too",
		".claude/settings.json: hook Stop: Pawl runs no hooks",
		".claude/settings.json: permission mode bypassPermissions: ",
		".claude/settings.json: 1 permissions: ",
		".claude/settings.json: MCP servers that a workspace enables: ",
		".claude/settings.local.json: it cannot be read: ",
	} {
		if !slices.ContainsFunc(got.Left, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("not said: %s", want)
		}
	}
	if len(got.Left) != 22 {
		t.Errorf("%d things are left out:\n%s", len(got.Left), strings.Join(got.Left, "\n"))
	}
}

// What is written can be loaded, and replaces nothing.
func TestWrite(t *testing.T) {
	all, err := Read(project(t, whole), "offline/shell")
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := all.Write(to); err != nil {
		t.Fatal(err)
	}
	set := func(name string) (string, bool) { return name, true }
	catalogue, err := agent.Load(filepath.Join(to, "agents"), set, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(catalogue.All()); got != 4 {
		t.Errorf("%d agents are loaded", got)
	}
	if err := os.Remove(filepath.Join(to, "agents", "all.md")); err != nil {
		t.Fatal(err)
	}
	if err := all.Write(to); err == nil || !strings.Contains(err.Error(), "agents/fewer.md is there already") {
		t.Errorf("a second time: %v", err)
	}
	if _, err := os.Stat(filepath.Join(to, "agents", "all.md")); err == nil {
		t.Error("some files were written")
	}
}

func TestNothingToImport(t *testing.T) {
	if _, err := Read(project(t, map[string]string{"a": ""}), "a/b"); !errors.Is(err, ErrNothing) {
		t.Errorf("got %v", err)
	}
}
