package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository makes one in the working directory.
type repository struct{ t *testing.T }

func newRepository(t *testing.T) repository {
	t.Chdir(t.TempDir())
	r := repository{t}
	r.git("init", "--quiet", "--initial-branch=main")
	return r
}

func (r repository) git(args ...string) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", append([]string{
		"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false",
	}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func (r repository) commit(message, proto string) {
	r.t.Helper()
	for file, content := range map[string]string{"buf.yaml": "version: v2\n", "proto/a.proto": proto} {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	r.git("add", "--all")
	r.git("commit", "--quiet", "--allow-empty", "--message", message)
}

// finder is a buf that finds a break where the file has changed.
func finder(t *testing.T) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "buf")
	script := "#!/bin/sh\n[ \"$1 $2\" = 'breaking --against' ] || exit 1\n" +
		"cmp -s proto/a.proto \"$3/proto/a.proto\" && exit\n" +
		"echo 'proto/a.proto:1:1:Field \"1\" was deleted.'\nexit 100\n"
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{file}
}

func TestBreaking(t *testing.T) {
	r, buf := newRepository(t), finder(t)
	check := func(name, against, want string) {
		t.Helper()
		var out bytes.Buffer
		switch err := run(t.Context(), against, buf, &out); {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	r.commit("first", "one")
	check("no history", "", "fetch the history")
	check("no such commit", "nowhere", "git rev-parse")
	r.commit("second", "one")
	check("no change", "", "")
	r.commit("third", "two")
	check("against the commit before", "", `Field "1" was deleted`)
	r.git("update-ref", "refs/remotes/origin/main", "HEAD")
	check("what has landed is the commit at hand", "", `Field "1" was deleted`)
	r.commit("fourth", "two")
	check("against what has landed", "", "")
	r.commit("fifth\n\nBreaks-API: proto/a.proto: nobody uses it", "three")
	check("declared", "", "")
	r.commit("sixth", "three")
	check("declared since what has landed", "", "")
	check("declared before", "HEAD~", "")
	r.commit("seventh\n\nBreaks-API: proto/b.proto: another file\nBreaks-API: proto/a.proto:", "four")
	check("declared for another file, or without a reason", "HEAD~", "Breaks-API: FILE: why")
}

func TestBufThatFails(t *testing.T) {
	r := newRepository(t)
	r.commit("first", "one")
	r.commit("second", "one")
	if err := run(t.Context(), "", []string{"sh", "-c", "echo no such rule >&2; exit 1"}, os.Stdout); err == nil ||
		!strings.Contains(err.Error(), "no such rule") {
		t.Errorf("%v", err)
	}
}
