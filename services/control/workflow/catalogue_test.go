package workflow

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// write puts a workflow into a directory.
func write(t *testing.T, dir, name, src string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
}

func loaded(t *testing.T, dir string) *Catalogue {
	t.Helper()
	c, err := Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t *testing.T, c *Catalogue, name string) *Definition {
	t.Helper()
	d, err := c.Get("default", name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A file with a fault keeps the workflow that it had, and everything else is taken over.
func TestReloadKeepsTheLastGoodDefinition(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "steps: [{log: one}]")
	write(t, dir, "b", "steps: [{log: one}]")
	c := loaded(t, dir)
	first := get(t, c, "a")
	write(t, dir, "a", "steps: [{log: two, bad: 1}]")
	write(t, dir, "b", "steps: [{log: two}]")
	write(t, dir, "c", "tenants: [default]\nsteps: nothing")
	change := c.Reload()
	if !reflect.DeepEqual(change.Changed, []string{"b"}) || len(change.Added)+len(change.Removed) > 0 ||
		len(change.Problems) != 2 || !change.Problems[0].Kept || change.Problems[1].Kept {
		t.Errorf("%+v", change)
	}
	if get(t, c, "a") != first {
		t.Error("the broken workflow is another one")
	}
	if _, err := c.Get("default", "c"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "c.yaml:2:8: ") {
		t.Errorf("one that never was good: %v", err)
	}
	if _, err := c.Get("other", "c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("another tenant is told of it: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	old := get(t, c, "b")
	if change = c.Reload(); !reflect.DeepEqual(change.Removed, []string{"b"}) {
		t.Errorf("%+v", change)
	}
	if _, err := c.Get("default", "b"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("%v", err)
	}
	if d, err := c.ByDigest(old.Digest()); err != nil || d != old {
		t.Errorf("a run that pinned it finds %v, %v", d, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if change = c.Reload(); len(change.Problems) != 1 || !change.Problems[0].Kept || get(t, c, "a") != first {
		t.Errorf("without the directory: %+v", change)
	}
}

func TestLoadIfThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "workflows")
	if _, err := Load(dir, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	c, err := LoadIfThere(dir, nil)
	if err != nil || len(c.All()) > 0 {
		t.Fatalf("%v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a", "steps: [{log: one}]")
	if change := c.Reload(); !reflect.DeepEqual(change.Added, []string{"a"}) {
		t.Errorf("%+v", change)
	}
}

func TestTenants(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "all", "steps: [{log: one}]")
	write(t, dir, "some", "tenants: [b, a]\nsteps: [{log: one}]")
	c := loaded(t, dir)
	if d, err := c.Get("a", "some"); err != nil || !reflect.DeepEqual(d.Tenants, []string{"a", "b"}) {
		t.Errorf("%v", err)
	}
	if _, err := c.Get("c", "some"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	if len(c.List("a")) != 2 || len(c.List("c")) != 1 || len(c.All()) != 2 {
		t.Error("the lists are wrong")
	}
}

// A workflow that runs another one knows the types of what it gives and gets.
func TestChildren(t *testing.T) {
	dir := t.TempDir()
	const child = "input: {type: object, required: [n], properties: {n: {type: integer}, " +
		"mode: {enum: [fast, slow]}}}\n" +
		"steps: [{id: a, set: {x: '${{ input.n }}'}}]\noutput: {n: '${{ steps.a.x }}', words: [a, b]}\n"
	write(t, dir, "child", child)
	write(t, dir, "parent", "steps:\n- {id: c, workflow: child, with: {n: 3}}\noutput: '${{ steps.c.output.n + 1 }}'\n")
	c := loaded(t, dir)
	before := get(t, c, "parent").Digest()

	for with, want := range map[string]string{
		"{}":                     "workflow child needs n in its input",
		"{n: three}":             "workflow child takes n as a whole number, and is given text",
		"{n: 3, mode: fats}":     "takes as mode one of fast, slow, and is given 'fats': did you mean fast?",
		"{n: 3, moed: fast}":     "workflow child takes no moed: did you mean mode?",
		"'${{ run.id }}'":        "workflow child takes an object, and is given text",
		"{n: '${{ run.id }}'}":   "workflow child takes n as a whole number, and is given text",
		"{n: 3}, wait: false":    "steps.c has no output",
		"{n: 3}, id: d":          "id is given twice",
		"{n: 3}, key: [1]":       "must be text, got a list",
		"{n: 3}, on_cancel: no_": `"no_" is none of cancel, leave`,
	} {
		write(t, dir, "parent", "steps:\n- {id: c, workflow: child, with: "+with+
			"}\noutput: '${{ steps.c.output.n + 1 }}'\n")
		if change := c.Reload(); len(change.Problems) != 1 || !strings.Contains(change.Problems[0].Err.Error(), want) {
			t.Errorf("%s: %v", with, change.Problems)
		}
	}
	write(t, dir, "parent", "steps:\n- {id: c, workflow: child, with: {n: 3}}\noutput: '${{ steps.c.output.n + 1 }}'\n")
	if change := c.Reload(); len(change.Problems) > 0 || get(t, c, "parent").Digest() != before {
		t.Errorf("%v", change.Problems)
	}
	// When the child changes, so does its parent, which may be broken by that and is kept.
	write(t, dir, "child", strings.Replace(child, "words", "list", 1))
	if change := c.Reload(); !reflect.DeepEqual(change.Changed, []string{"child", "parent"}) {
		t.Errorf("%+v", change)
	}
	write(t, dir, "child", strings.Replace(child, "output: {n:", "output: {m:", 1))
	if change := c.Reload(); len(change.Problems) != 1 || change.Problems[0].Name != "parent" ||
		!change.Problems[0].Kept {
		t.Errorf("%+v", change)
	}
	write(t, dir, "child", "steps: [{workflow: parent}]")
	change := c.Reload()
	if len(change.Problems) != 2 || !strings.Contains(change.Problems[0].Err.Error()+change.Problems[1].Err.Error(),
		"child → parent → child is a circle") {
		t.Errorf("%+v", change)
	}
}

// The digest says what the definition says, and nothing else.
func TestDigest(t *testing.T) {
	digest := func(src string) string {
		d, err := parse(t, src)
		if err != nil {
			t.Fatal(err)
		}
		return d.Digest()
	}
	one := digest("description: d\nsteps: [{log: x, level: warn}]")
	if digest("# other\nsteps:\n- level: warn\n  log: 'x'\ndescription: d # d\n") != one {
		t.Error("comments, quotes or the order of keys matter")
	}
	if digest("description: d\nsteps: [{log: y, level: warn}]") == one {
		t.Error("another text has the same digest")
	}
	alias := digest("steps: [{set: {a: &x {k: 1}, b: *x}}]")
	if digest("steps: [{set: {a: {k: 1}, b: {k: 1}}}]") != alias {
		t.Error("an alias is something else than what it names")
	}
	d, err := Parse("other", "x.yaml", []byte("description: d\nsteps: [{log: x, level: warn}]"), Surrounding{})
	if err != nil || d.Digest() == one {
		t.Error("the name does not matter")
	}
}

// What a store keeps of a definition is the definition, with the types of the workflows that it runs.
func TestStoredDefinition(t *testing.T) {
	c := loaded(t, "testdata/good")
	for _, d := range c.All() {
		body, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var again Definition
		if err := json.Unmarshal(body, &again); err != nil {
			t.Errorf("%s: %v", d.Name, err)
			continue
		}
		if again.Digest() != d.Digest() || again.Name != d.Name || len(again.Steps) != len(d.Steps) {
			t.Errorf("%s is another one", d.Name)
		}
	}
	d := get(t, c, "children")
	each := d.Steps[0].Do.(*Foreach)
	got, err := each.Output.Eval(t.Context(), expr.Values{"repo": "r", "steps": map[string]any{
		"child": map[string]any{"output": map[string]any{"high": []any{map[string]any{"file": "a.go"}}}},
	}})
	if want := map[string]any{"repo": "r", "high": []any{"a.go"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}
