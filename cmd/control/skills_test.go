package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The example of the page on skills works as it says.
func TestDocumentedSkills(t *testing.T) {
	dir, root := t.TempDir(), t.TempDir()
	tr := transcript{t, "skills.md", map[string]string{}}
	var turns []turn
	for _, b := range blocks(t, tr.file) {
		for _, part := range strings.Split("\n"+b.text, "\n# ")[1:] {
			name, content, _ := strings.Cut(part, "\n")
			write(t, content, filepath.Join(dir, filepath.Dir(name)), filepath.Base(name))
		}
		turns = append(turns, b.turns()...)
	}
	if err := os.Chmod(filepath.Join(dir, "skills", "triage", "urgency.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := start(t, t.TempDir(), "--agents", filepath.Join(dir, "agents"), "--root", root)
	for _, one := range turns {
		got, stderr, err := invoke(t, append(words(strings.TrimPrefix(one.command, "control ")), "--data", s.data)...)
		if err != nil || !tr.matches(strings.TrimSpace(one.shown), got, false) {
			t.Errorf("%s: %v, %q\n%s\nwant\n%s", one.command, err, stderr, got, one.shown)
		}
	}
	if len(turns) < 3 {
		t.Errorf("the page shows %d commands", len(turns))
	}
	files, err := filepath.Glob(filepath.Join(root, ".pawl", "skills", "triage@*", "*.sh"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the workspace has %q, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("the script is not executable: %v", err)
	}
	// What a workspace has under the skill's name is not the skill's.
	if err := os.WriteFile(files[0], []byte("echo evil"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, "", filepath.Dir(files[0]), ".complete")
	got, stderr, err := invoke(t, "prompt", "helpdesk", "--skill", "triage",
		"sh .pawl/skills/triage@*/urgency.sh the shop is down", "--data", s.data)
	if err != nil || strings.TrimSpace(got) != "urgent" {
		t.Errorf("after somebody else wrote it: %v, %q, %q", err, got, stderr)
	}
	if names, err := os.ReadDir(filepath.Dir(files[0])); err != nil || len(names) != 1 {
		t.Errorf("the skill's folder has %v, %v", names, err)
	}
}

// words are those of a command line, of which some are in double quotes.
func words(line string) (all []string) {
	for i, piece := range strings.Split(strings.TrimSpace(line), `"`) {
		if i%2 == 1 {
			all = append(all, piece)
			continue
		}
		all = append(all, strings.Fields(piece)...)
	}
	return all
}
