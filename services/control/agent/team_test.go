package agent

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// asking is a file of an agent that has sub-agents.
func asking(description string, subagents ...string) string {
	return "---\nmodel: a/b\ndescription: " + description + "\ntools: [task]\nsubagents:\n - " +
		strings.Join(subagents, "\n - ") + "\n---\n"
}

func loaded(t *testing.T, files map[string]string) *Catalogue {
	t.Helper()
	c, err := Load(tree(t, files), lookupIn(nil), nil, Shell())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func got(t *testing.T, c *Catalogue, name string) Definition {
	t.Helper()
	d, err := c.Get(home, name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What a task runs with is in the definition of the agent that asks, at any depth.
func TestADefinitionHoldsItsSubAgents(t *testing.T) {
	c := loaded(t, map[string]string{
		"top.md":    asking("Asks.", "middle", "shell"),
		"middle.md": asking("Asks too.", "bottom"),
		"bottom.md": minimal + "Work.",
		"other.md":  minimal,
	})
	top := got(t, c, "top")
	for path, want := range map[string]string{
		"": "top", "shell": "shell", "middle": "middle", "middle/bottom": "bottom",
	} {
		d, ok := top, true
		for _, name := range strings.Split(path, "/") {
			d, ok = d.Subagent(name)
			if !ok {
				t.Fatalf("%s has no %s", path, name)
			}
		}
		if d.Digest() != got(t, c, want).Digest() {
			t.Errorf("%s is not the agent %s of the catalogue", path, want)
		}
	}
	for _, name := range []string{"bottom", "other", "nobody"} {
		if _, ok := top.Subagent(name); ok {
			t.Errorf("top may ask %s", name)
		}
	}
	want := "\n- middle: Asks too.\n- shell: " + Shell().Description
	if told := top.Task().Description; !strings.HasSuffix(told, want) {
		t.Errorf("told %q", told)
	}
	body, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	var stored Definition
	if err := json.Unmarshal(body, &stored); err != nil || stored.Digest() != top.Digest() {
		t.Errorf("the stored definition is another one: %v", err)
	}
	if d, ok := stored.Subagent("middle"); !ok || d.Digest() != got(t, c, "middle").Digest() {
		t.Errorf("of the stored definition: %v", d)
	}
}

// An edit of a sub-agent changes every agent that can reach it, and nothing that is pinned.
func TestAnEditOfASubAgentChangesNoWorkUnderWay(t *testing.T) {
	dir := tree(t, map[string]string{
		"top.md": asking("x", "middle"), "middle.md": asking("x", "bottom"), "bottom.md": minimal + "Before.",
		"other.md": minimal,
	})
	c, err := Load(dir, lookupIn(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	pinned, _, err := c.Digest(home, "top")
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "bottom.md"), minimal+"After.")
	change := c.Reload()
	if !reflect.DeepEqual(change, Change{Changed: []string{"bottom", "middle", "top"}}) {
		t.Errorf("changed %+v", change)
	}
	for digest, want := range map[string]string{pinned: "Before.", got(t, c, "top").Digest(): "After."} {
		d, err := c.ByDigest(digest)
		if err != nil {
			t.Fatal(err)
		}
		middle, _ := d.Subagent("middle")
		if bottom, ok := middle.Subagent("bottom"); !ok || bottom.Instructions != want {
			t.Errorf("got %q, want %q", bottom.Instructions, want)
		}
	}
}

func TestSubAgentsThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"unknown": {
			map[string]string{"a.md": asking("x", "shell", "reseacher"), "researcher.md": minimal},
			[]string{"a.md:7:4: subagents: there is no agent reseacher; there are a, researcher, shell"},
		},
		"itself": {
			map[string]string{"a.md": asking("x", "a")},
			[]string{"a.md:6:4: subagents: a → a is a circle: no agent may ask itself over others"},
		},
		"a circle": {
			map[string]string{
				"a.md": asking("x", "d", "b"), "b/agent.md": asking("x", "c"), "c.md": asking("x", "a"),
				"d.md": minimal, "e.md": asking("x", "b"),
			},
			[]string{
				"a.md:7:4: subagents: a → b → c → a is a circle: no agent may ask itself over others",
				"b/agent.md:6:4: subagents: b → c → a → b is a circle: no agent may ask itself over others",
				"c.md:6:4: subagents: c → a → b → c is a circle: no agent may ask itself over others",
				"e.md:6:4: subagents: agent b cannot be used: its own definition has a problem",
			},
		},
		"a broken file": {
			map[string]string{"a.md": asking("x", "b"), "b.md": "You are."},
			[]string{
				"b.md:1:1: must begin with front matter: YAML between two lines of ---",
				"a.md:6:4: subagents: agent b cannot be used: its own definition has a problem",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, c.files)
			_, err := Load(dir, lookupIn(nil), nil, Shell())
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v", err)
			}
			lines := strings.Split(strings.ReplaceAll(err.Error(), dir+"/", ""), "\n")
			if !slices.Equal(lines, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
	top := Shell()
	top.Name, top.Subagents = "top", []string{"nobody"}
	_, err := Load("", lookupIn(nil), nil, top)
	if err == nil || err.Error() != "the built-in agent top: subagents: there is no agent nobody; there are top" {
		t.Errorf("got %v", err)
	}
}

// A fault in one file costs no agent that was good before: those that ask its agent go on with what it was.
func TestReloadWithABrokenSubAgent(t *testing.T) {
	dir := tree(t, map[string]string{"top.md": asking("x", "low"), "low.md": minimal + "Good."})
	c, err := Load(dir, lookupIn(nil), nil, Shell())
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "low.md"), "broken")
	put(t, filepath.Join(dir, "top.md"), asking("edited", "low"))
	change := c.Reload()
	if len(change.Problems) != 1 || !change.Problems[0].Kept || !slices.Equal(change.Changed, []string{"top"}) {
		t.Errorf("changed %+v", change)
	}
	top := got(t, c, "top")
	if low, ok := top.Subagent("low"); !ok || low.Instructions != "Good." || top.Description != "edited" {
		t.Errorf("top asks %+v", low)
	}
	put(t, filepath.Join(dir, "low.md"), asking("x", "top"))
	change = c.Reload()
	if len(change.Problems) != 2 || !change.Problems[0].Kept || !change.Problems[1].Kept || change.Changed != nil {
		t.Errorf("a circle that comes later: %+v", change)
	}
	// A file that takes the name of an agent that is there costs that agent nothing.
	put(t, filepath.Join(dir, "low.md"), minimal)
	put(t, filepath.Join(dir, "shell.md"), minimal)
	put(t, filepath.Join(dir, "top.md"), asking("x", "shell"))
	if change = c.Reload(); len(change.Problems) != 1 || !slices.Equal(change.Changed, []string{"low", "top"}) {
		t.Errorf("changed %+v", change)
	}
	if shell, ok := got(t, c, "top").Team["shell"]; !ok || shell.Digest() != Shell().Digest() {
		t.Errorf("got %+v", shell)
	}
	put(t, filepath.Join(dir, "low.md"), minimal+"Edited.")
	put(t, filepath.Join(dir, "low", "agent.md"), minimal)
	put(t, filepath.Join(dir, "top.md"), asking("x", "low"))
	c.Reload()
	top = got(t, c, "top")
	if low, ok := top.Subagent("low"); !ok || low.Instructions != "Edited." {
		t.Errorf("got %+v", low)
	}
}
