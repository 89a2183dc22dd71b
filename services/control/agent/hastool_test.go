package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What may call a tool without an agent can name those that an agent's list can name.
func TestHasTool(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"agents/a.md":       "---\nmodel: offline/shell\n---\n",
		"tools/resize.yaml": "description: Resizes.\ncommand: resize\n",
		"mcp/files.yaml":    "url: http://127.0.0.1:1\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(filepath.Join(dir, "agents"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"bash": true, "resize": true, "mcp__files__list": true, "mcp__files": true, "web_fetch": true,
		"executor/anything": true, "resise": false, "mcp__other__list": false, "finish": false,
	} {
		if c.HasTool(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if all := c.Tools(); !slices.Contains(all, "resize") || !slices.Contains(all, "bash") {
		t.Errorf("%v", all)
	}
	none, err := Load("", nil, nil)
	if err != nil || none.HasTool("resize") || !slices.Contains(none.Tools(), "bash") {
		t.Errorf("without a project: %v", err)
	}
}
