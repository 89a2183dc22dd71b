package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// prompting is a command that a page shows.
var prompting = regexp.MustCompile(`^control prompt (\S+) '(.*)'\n$`)

// The files that docs/tools.md shows are loaded, and its prompts are answered as it shows.
func TestToolsPage(t *testing.T) {
	project := t.TempDir()
	var shown []turn
	for _, b := range blocks(t, "tools.md") {
		file, _, _ := strings.Cut(b.text, "\n$ ")
		if path, content, ok := strings.Cut(strings.TrimPrefix(file, "# "), "\n"); ok &&
			strings.HasPrefix(file, "# ") {
			name := filepath.Join(project, path)
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		shown = append(shown, b.turns()...)
	}
	s := start(t, t.TempDir(), "--agents", filepath.Join(project, "agents"))
	tr := transcript{t, "tools.md", map[string]string{}}
	for _, turn := range shown {
		said := prompting.FindStringSubmatch(turn.command)
		if said == nil {
			t.Fatalf("the page shows %q", turn.command)
		}
		out, stderr, err := invoke(t, "prompt", "--data", s.data, said[1], said[2])
		if err != nil || !tr.matches(strings.TrimRight(turn.shown, "\n"), out, false) {
			t.Errorf("%s%v\n%s\n%s", turn.command, err, out, stderr)
		}
	}
	if len(shown) < 4 {
		t.Errorf("the page shows %d prompts", len(shown))
	}
}
