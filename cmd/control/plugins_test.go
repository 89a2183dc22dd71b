package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/debian"
)

// The example of the page on plugins works as it says, in the home of the user that commands run as.
func TestDocumentedPlugins(t *testing.T) {
	if _, err := debian.Find(t.Context(), "python3", "python3"); err != nil {
		t.Fatal(err)
	}
	dir, home := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	tr := transcript{t, "plugins.md", map[string]string{}}
	var turns []turn
	for _, b := range blocks(t, tr.file) {
		for _, part := range strings.Split("\n"+b.text, "\n# ")[1:] {
			name, content, _ := strings.Cut(part, "\n")
			write(t, content, filepath.Join(dir, filepath.Dir(name)), filepath.Base(name))
		}
		turns = append(turns, b.turns()...)
	}
	s := start(t, t.TempDir(), "--agents", filepath.Join(dir, "agents"), "--root", t.TempDir())
	show := func(one turn) {
		t.Helper()
		args := words(strings.TrimPrefix(one.command, "control "))
		if said := prompting.FindStringSubmatch(one.command); said != nil {
			args = []string{"prompt", said[1], said[2]}
		}
		got, stderr, err := invoke(t, append(args, "--data", s.data)...)
		if err != nil || !tr.matches(strings.TrimSpace(one.shown), strings.TrimSpace(got), false) {
			t.Errorf("%s: %v, %q\n%s\nwant\n%s", one.command, err, stderr, got, one.shown)
		}
	}
	for _, one := range turns {
		show(one)
	}
	if len(turns) != 3 {
		t.Errorf("the page shows %d commands", len(turns))
	}
	servers, err := filepath.Glob(filepath.Join(home, ".pawl", "plugins", "reports@*", "server.py"))
	if err != nil || len(servers) != 1 {
		t.Fatalf("the plugin is at %q, %v", servers, err)
	}
	data := filepath.Join(home, ".pawl", "plugin-data", "default", "reports")
	if info, err := os.Stat(data); err != nil || !info.IsDir() {
		t.Errorf("it has no data: %v", err)
	}
	// A new version runs from a folder of its own, and what is wrong with a part costs that part.
	server := filepath.Join(dir, "plugins", "reports", "server.py")
	source, err := os.ReadFile(server)
	if err != nil {
		t.Fatal(err)
	}
	write(t, strings.Replace(string(source), "42", "43", 1), server)
	write(t, "---\nname: other\n---\n", dir, "plugins", "reports", "skills", "bad", "SKILL.md")
	_, stderr, err := invoke(t, "agents", "reload", "--data", s.data)
	if err != nil || !strings.Contains(stderr, "warning: a plugin: ") ||
		!strings.Contains(stderr, "bad/SKILL.md:2:1: name: other is not the name of the folder") {
		t.Errorf("reload: %v, %s", err, stderr)
	}
	turns[0].shown = "43 in May"
	show(turns[0])
}
