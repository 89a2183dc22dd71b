package main

import (
	"bytes"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/cli"
)

// A prompt of the command line has images, files and a schema, and prints the result as JSON.
func TestPromptWithContent(t *testing.T) {
	s, dir := start(t, t.TempDir()), t.TempDir()
	m := image.NewNRGBA(image.Rect(0, 0, 200, 200))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range m.Pix {
		m.Pix[i] = byte(r.Uint32()) | 1
	}
	var shot bytes.Buffer
	if err := png.Encode(&shot, m); err != nil {
		t.Fatal(err)
	}
	named := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	picture, schema := named("a.png", shot.Bytes()), named("schema.json", []byte(`{"type": "array"}`))
	run := func(args ...string) (string, string, error) {
		var out, said bytes.Buffer
		c := command()
		c.SetArgs(append(args, "--data", s.data))
		c.SetOut(&out)
		c.SetErr(&said)
		err := cli.Execute(t.Context(), c)
		return out.String(), said.String(), err
	}
	out, said, err := run("prompt", "shell", "say: well\nfinish: [1, 2]", "--image", picture, "--file", "src/a.go",
		"--result-schema", schema)
	if err != nil || strings.Join(strings.Fields(out), "") != "[1,2]" {
		t.Errorf("printed %q, said %q, %v", out, said, err)
	}
	out, said, err = run("prompt", "shell", "say: well\ngive up: no list", "--result-schema", schema)
	if err == nil || out != "" || !strings.Contains(err.Error()+said, "GAVE_UP: the agent gave up: no list") {
		t.Errorf("printed %q, said %q, %v", out, said, err)
	}
	_, said, err = run("prompt", "shell", "say: hi", "--image", schema)
	if err == nil || !strings.Contains(said, "--image "+schema+": it is neither PNG, JPEG, GIF nor WebP") {
		t.Errorf("of no image is said %q, %v", said, err)
	}
	_, said, err = run("prompt", "shell", "say: hi", "--result-schema", picture)
	if err == nil || !strings.Contains(said, "is no JSON Schema") || strings.Contains(said, "proto:") {
		t.Errorf("of no schema is said %q, %v", said, err)
	}
	wrong := named("wrong.json", []byte(`{"type": "text"}`))
	_, said, err = run("prompt", "shell", "say: hi", "--result-schema", wrong)
	if err == nil || !strings.Contains(said, "--result-schema "+wrong+": type: must be ") {
		t.Errorf("of a wrong schema is said %q, %v", said, err)
	}
	_, said, err = run("prompt", "shell", "say: hi", "--file", "a", "--file", " ")
	if err == nil || !strings.Contains(said, "--file  : a path must not be blank") {
		t.Errorf("of no file is said %q, %v", said, err)
	}
}
