package main

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/debian"
	"github.com/pawl-dev/pawl/internal/proctest"
)

// files are blocks of docs/mcp.md that begin with the name of a file of a project.
var (
	files   = regexp.MustCompile("(?ms)^```(?:yaml|markdown)\n# ((?:mcp|agents)/\\S+)\n(.*?)^```$")
	prompts = regexp.MustCompile(`(?m)^\$ control prompt (\S+) '(.*)'\n(.*)$`)
)

// Servers of others, as real processes: on the built-in executor over their standard input and output, and over HTTP.
// The project is the one of docs/mcp.md.
func TestServersOfStrangers(t *testing.T) {
	dir := t.TempDir()
	root, project, data := filepath.Join(dir, "root"), filepath.Join(dir, "project"), filepath.Join(dir, "data")
	if err := os.CopyFS(root, os.DirFS("testdata/mcp")); err != nil {
		t.Fatal(err)
	}
	npmInstall(t, root)
	write(t, "of the workspace", root, "note.txt")
	remote := everythingOverHTTP(t, root)
	guide, err := os.ReadFile("../../docs/mcp.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := files.FindAllSubmatch(guide, -1)
	if len(shown) != 6 {
		t.Fatalf("docs/mcp.md has %d files", len(shown))
	}
	for _, f := range shown {
		content := strings.ReplaceAll(string(f[2]), "localhost:3917", remote)
		write(t, content, project, string(f[1]))
	}
	t.Setenv("MEMORY_FILE", filepath.Join(dir, "memory.json"))
	start(t, data, "--root", root, "--agents", filepath.Join(project, "agents"))
	all := prompts.FindAllSubmatch(guide, -1)
	if len(all) != 2 {
		t.Errorf("docs/mcp.md has %d prompts", len(all))
	}
	for _, p := range all {
		if got, trace := answer(t, data, string(p[1]), string(p[2])); got != string(p[3]) {
			t.Errorf("%s gave %q, %q", p[2], got, trace)
		}
	}
	for _, c := range []struct{ call, want string }{
		{`mcp__files__read_text_file: {"path": "note.txt"}`, "of the workspace"},
		{`mcp__files__read_text_file: {"path": "/etc/passwd"}`, "Access denied"},
		{`mcp__everything__get-structured-content: {"location": "New York"}`, `"temperature":33`},
		{`mcp__everything__get-tiny-image: {}`, "Here's the image you requested"},
		{`mcp__everything__trigger-long-running-operation: {"duration": 1, "steps": 4}`, "operation completed"},
		{`mcp__everything__simulate-research-query: {"topic": "x"}`, "requires task"},
		{`mcp__everything__read_resource: {}`, "demo://resource/"},
		{`mcp__everything__get_prompt: {"name": "simple-prompt"}`, "simple prompt without arguments"},
		{
			`mcp__memory__create_entities: {"entities": [{"name": "Ada", "entityType": "person", ` +
				`"observations": ["x"]}]}`,
			"Ada",
		},
		{`mcp__memory__read_graph: {}`, "Ada"},
		{
			`think_sequentialthinking: {"thought": "a", "nextThoughtNeeded": false, "thoughtNumber": 1, ` +
				`"totalThoughts": 1}`,
			"thoughtHistoryLength",
		},
		{`mcp__remote__echo: {"message": "from afar"}`, "Echo: from afar"},
	} {
		if got, trace := answer(t, data, "helper", "tool "+c.call); !strings.Contains(got, c.want) {
			t.Errorf("%s gave %q, %q", c.call, got, trace)
		}
	}
}

// everythingOverHTTP is the address of a server that listens.
func everythingOverHTTP(t *testing.T, root string) string {
	t.Helper()
	node, err := debian.Find(t.Context(), "node", "nodejs")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := proctest.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	var log proctest.Log
	script := filepath.Join(root, "node_modules/@modelcontextprotocol/server-everything/dist/index.js")
	p, err := proctest.StartWith(node, []string{script, "streamableHttp"}, append(os.Environ(), "PORT="+port), &log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.End(syscall.SIGKILL, time.Minute); err != nil {
			t.Error(err)
		}
	})
	if err := log.Await(t.Context(), p, "listening on port"); err != nil {
		t.Fatal(err)
	}
	return "localhost:" + port
}
