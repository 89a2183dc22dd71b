package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/debian"
)

// npmInstall installs what the lock file of a folder names, of which npm runs nothing.
func npmInstall(t *testing.T, dir string) {
	t.Helper()
	npm, err := debian.Find(t.Context(), "npm", "npm")
	if err != nil {
		t.Fatal(err)
	}
	runIn(t, dir, nil, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
}

// runIn runs a program in a folder to its end.
func runIn(t *testing.T, dir string, env []string, program string, args ...string) (said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The document is valid by another's rules, and a client that another's program generates from it passes the compiler
// and works.
func TestOpenAPIOfStrangers(t *testing.T) {
	s := start(t, t.TempDir())
	dir := t.TempDir() // away from the tree, which stays as it is
	if err := os.CopyFS(dir, os.DirFS("testdata/openapi")); err != nil {
		t.Fatal(err)
	}
	npmInstall(t, dir)
	answer, err := http.Get(s.here.HTTP + "/v1/openapi.json") //nolint:noctx // it ends with the server
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // read to its end
	document, err := io.ReadAll(answer.Body)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "openapi.json"), document, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(s.data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	runIn(t, dir, nil, "node", "validate.mjs", "openapi.json")
	runIn(t, dir, nil, "node_modules/.bin/openapi-typescript", "openapi.json", "-o", "schema.ts")
	runIn(t, dir, nil, "node_modules/.bin/tsc", "--project", ".")
	out := runIn(t, dir, []string{"PAWL_SERVER=" + s.here.HTTP, "PAWL_TOKEN=" + strings.TrimSpace(string(token))},
		"node", "out/smoke.js")
	if !strings.HasSuffix(out, "done\n") {
		t.Errorf("the generated client said %q", out)
	}
}
