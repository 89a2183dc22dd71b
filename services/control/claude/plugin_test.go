package claude

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/agent"
)

// A plugin of Claude Code becomes one of the open format, which loads, and its agents have it.
func TestAPluginIsTurned(t *testing.T) {
	dir := project(t, map[string]string{
		".claude-plugin/plugin.json": `{"name": "acme", "version": "2", "author": {"name": "a"}, "commands": "./x",
			"mcpServers": {"inline": {"type": "http", "url": "https://a.test"}}}`,
		".mcp.json": `{"mcpServers": {
			"db": {"command": "${CLAUDE_PLUGIN_ROOT}/bin/db", "args": ["${CLAUDE_PLUGIN_DATA}/x"], "env": {"A": "b"}},
			"secret": {"command": "x", "env": {"TOKEN": "${TOKEN}"}}}}`,
		"skills/sum/SKILL.md": "---\nname: sum\ndescription: Sums.\n---\nSum.",
		"agents/clerk.md":     "---\nname: clerk\ndescription: d\n---\nYou work.",
		"agents/reader.md":    "---\nname: reader\ndescription: d\ntools: Read\n---\nYou read.",
		"hooks/hooks.json":    "{}", "commands/go.md": "go", "bin/db": "#!/bin/sh", ".env": "A=b",
	})
	if err := os.Chmod(filepath.Join(dir, "bin/db"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir, "offline/shell")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		".claude-plugin/plugin.json: commands: the open format", "hooks: Pawl runs no hooks", "commands: Pawl has no",
		".env: looks like a secret", ".mcp.json: server secret: a plugin reads no variable such as TOKEN",
	} {
		if !slices.ContainsFunc(got.Left, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("not said: %s", want)
		}
	}
	if len(got.Left) != 5 {
		t.Errorf("left out:\n%s", strings.Join(got.Left, "\n"))
	}
	to := t.TempDir()
	if err := got.Write(to); err != nil {
		t.Fatal(err)
	}
	c, err := agent.Load(filepath.Join(to, "agents"), nil, nil)
	if err != nil || len(c.Warnings()) > 0 {
		t.Fatalf("%v, %v", err, c.Warnings())
	}
	reader, err := c.Get("default", "reader")
	if err != nil || !slices.Equal(reader.Skills, []string{"acme:sum"}) ||
		!slices.Equal(reader.Tools, []string{"read"}) {
		t.Errorf("an agent that names its tools: %+v, %v", reader, err)
	}
	d, err := c.Get("default", "clerk")
	if err != nil || !slices.Equal(d.Skills, []string{"acme:sum"}) || d.PluginVersions["acme"].Version != "2" ||
		d.MCP["acme_db"].Command.Program != "./bin/db" || d.MCP["acme_inline"].HTTP == nil || len(d.MCP) != 2 ||
		d.MCP["acme_db"].Command.Args[0] != "${PLUGIN_DATA}/x" {
		t.Errorf("%+v, %v", d, err)
	}
}
