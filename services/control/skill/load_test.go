package skill

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const small = "---\nname: triage\ndescription: d\n---\nx"

// folder makes a skill's folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "triage")
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		if err := os.WriteFile(file, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoad(t *testing.T) {
	dir := folder(t, map[string]string{
		"SKILL.md": small, "scripts/run.sh": "echo", "ref/a.md": "a", ".env.example": "A=", ".git/config": "x",
	})
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range s.Files {
		name := f.Path
		if f.Executable {
			name += "*"
		}
		got = append(got, name)
	}
	if want := ".env.example ref/a.md scripts/run.sh*"; strings.Join(got, " ") != want {
		t.Errorf("files: %q", got)
	}
	if !strings.HasPrefix(s.Folder(), "triage@") || len(s.Digest) != 64 {
		t.Errorf("digest %q, folder %q", s.Digest, s.Folder())
	}
	digests := map[string]bool{s.Digest: true}
	for name, change := range map[string]func() error{
		"content": func() error { return os.WriteFile(filepath.Join(dir, "ref/a.md"), []byte("b"), 0o644) },
		"mode":    func() error { return os.Chmod(filepath.Join(dir, "ref/a.md"), 0o755) },
		"name":    func() error { return os.Rename(filepath.Join(dir, "ref/a.md"), filepath.Join(dir, "ref/b.md")) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if s, err = Load(dir); err != nil || digests[s.Digest] {
			t.Errorf("another %s: %v, digest %s", name, err, s.Digest)
		}
		digests[s.Digest] = true
	}
}

func TestLoadRefuses(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"SKILL.md: is missing": {"a.md": "x"},
		"key.pem: looks like a secret": {
			"SKILL.md": small, "certs/key.pem": "x",
		},
		".env: looks like a secret":              {"SKILL.md": small, ".env": "x"},
		".env.local: looks like a secret":        {"SKILL.md": small, ".env.local": "x"},
		"have more than 1024 KiB":                {"SKILL.md": small, "big": strings.Repeat("x", int(rules.Bytes))},
		"SKILL.md:3:1: description: is required": {"SKILL.md": "---\nname: triage\ndescription: ''\n---\nx"},
		"is more than 8 folders deep":            {"SKILL.md": small, "1/2/3/4/5/6/7/8/9": "x"},
	} {
		if _, err := Load(folder(t, files)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	dir := folder(t, map[string]string{"SKILL.md": small})
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "link: is a link") {
		t.Errorf("got %v", err)
	}
	for i := range rules.Files + 1 {
		if err := os.WriteFile(filepath.Join(dir, strings.Repeat("f", i+1)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "more than 200 files") {
		t.Errorf("got %v", err)
	}
}
