package agent

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pawl-dev/pawl/services/control/document"
)

const minimal = "---\nmodel: a/b\n---\n"

// tree writes files below a new directory; a name that ends in / is a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		put(t, filepath.Join(dir, name), content)
	}
	return dir
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func names(c *Catalogue) []string {
	var out []string
	for _, d := range c.List(home) {
		out = append(out, d.Name)
	}
	return out
}

func TestLoadFindsBothForms(t *testing.T) {
	dir := tree(t, map[string]string{
		"zeta.md":               minimal + "Z",
		"beta/agent.md":         minimal + "B",
		"beta/notes.md":         "not an agent",
		"beta/inner/agent.md":   "not an agent",
		"assets/logo.txt":       "not an agent",
		"README":                "not an agent",
		".hidden.md":            "not an agent",
		".git/agent.md":         "not an agent",
		"beta/deep/er/agent.md": "not an agent",
	})
	c, err := Load(dir, lookupIn(nil), nil, Shell())
	if err != nil {
		t.Fatal(err)
	}
	if got := names(c); !reflect.DeepEqual(got, []string{"beta", "shell", "zeta"}) {
		t.Errorf("got %v", got)
	}
	d, err := c.Get(home, "beta")
	if err != nil || d.Instructions != "B" || d.Name != "beta" {
		t.Errorf("got %#v, %v", d, err)
	}
	if _, err := c.Get(home, "nobody"); !errors.Is(err, ErrNotFound) || err.Error() != `no such agent: "nobody"` {
		t.Errorf("got %v", err)
	}
}

func TestLoadWithoutDirectory(t *testing.T) {
	c, err := Load("", lookupIn(nil), nil, Shell())
	if err != nil || !reflect.DeepEqual(names(c), []string{"shell"}) {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	put(t, file, "")
	for dir, want := range map[string]string{file: "not a directory", file + "s": "no such file or directory"} {
		if _, err := Load(dir, lookupIn(nil), nil); !errors.Is(err, ErrInvalid) ||
			err.Error() != "the directory of agents "+dir+" cannot be read: "+want {
			t.Errorf("got %v", err)
		}
	}
}

func TestLoadFollowsLinks(t *testing.T) {
	dir := tree(t, map[string]string{"..data/one.md": minimal, "..data/two/agent.md": minimal})
	for _, name := range []string{"one.md", "two"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(dir, lookupIn(nil), nil)
	if err != nil || !reflect.DeepEqual(names(c), []string{"one", "two"}) {
		t.Errorf("got %v", err)
	}
}

func TestLoadReportsEveryProblem(t *testing.T) {
	dir := tree(t, map[string]string{
		"a.md":       "---\nmodel: a/b\nthink: x\ncwd: 5\n---\n",
		"b.md":       minimal,
		"b/agent.md": minimal,
		"c.md":       "---\nmodel: a/b\nenv: {T: \"${UNSET}\"}\n---\n",
		"shell.md":   minimal,
		"x y.md":     minimal,
		"ok.md":      minimal,
		"big.md":     minimal + strings.Repeat("x", document.MaxFile),
	})
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling.md")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.md"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(dir, lookupIn(nil), nil, Shell())
	if c != nil || err == nil {
		t.Fatalf("got %v, %v", c, err)
	}
	want := []string{
		"a.md:3:1: think: unknown key; there are model, description, thinking, sandbox, cwd, env, tools, search, " +
			"skills, plugins, subagents, compaction, limits, expose, approve, tenants",
		"a.md:4:6: cwd: must be text, got a number; put it in quotes",
		"b/agent.md: agent b is defined in " + dir + "/b.md too",
		"big.md: is larger than 1 MiB",
		"c.md:3:10: env.T: variable UNSET is not set in the environment of control",
		"dangling.md: cannot be read: no such file or directory",
		"pipe.md: is not a regular file",
		"shell.md: agent shell is built in; give yours another name",
		`x y.md: "x y" cannot be an agent's name: it must begin with a letter and have at most 64 letters, digits, _ and -`,
	}
	got := strings.Split(strings.ReplaceAll(err.Error(), dir+"/", ""), "\n")
	want[2] = strings.ReplaceAll(want[2], dir+"/", "")
	// b.md sorts before b/agent.md by bytes; both orders are one problem.
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !errors.Is(err, ErrInvalid) {
		t.Error("not ErrInvalid")
	}
}

func TestReloadKeepsWhatIsPinned(t *testing.T) {
	dir := tree(t, map[string]string{"a.md": minimal + "one", "gone.md": minimal})
	c, err := Load(dir, lookupIn(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := c.Get(home, "a")
	gone, _ := c.Get(home, "gone")
	put(t, filepath.Join(dir, "a.md"), minimal+"two")
	if err := os.Remove(filepath.Join(dir, "gone.md")); err != nil {
		t.Fatal(err)
	}
	want := Change{Changed: []string{"a"}, Removed: []string{"gone"}}
	if got := c.Reload(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	two, err := c.Get(home, "a")
	if err != nil || two.Instructions != "two" {
		t.Errorf("got %v, %v", two.Instructions, err)
	}
	for range 2 { // however often it is read again
		if _, err := c.Get(home, "gone"); !errors.Is(err, ErrNotFound) ||
			err.Error() != `agent "gone" was removed: its file is gone` {
			t.Errorf("got %v", err)
		}
		if got := c.Reload(); !reflect.DeepEqual(got, Change{}) {
			t.Errorf("got %+v", got)
		}
	}
	for _, d := range []Definition{one, two, gone} {
		got, err := c.ByDigest(d.Digest())
		if err != nil || !reflect.DeepEqual(got, d) {
			t.Errorf("%s: got %v, %v", d.Name, got, err)
		}
	}
	if _, err := c.ByDigest("feed"); !errors.Is(err, ErrNotFound) ||
		err.Error() != `no agent with digest "feed" is known` {
		t.Errorf("got %v", err)
	}
}

// A broken file is named and costs nobody else anything: its agent keeps what it had, and one that had nothing says
// why.
func TestReloadKeepsTheLastGoodDefinition(t *testing.T) {
	dir := tree(t, map[string]string{"a.md": minimal + "one", "b.md": minimal + "one", "twice.md": minimal})
	c, err := Load(dir, lookupIn(nil), nil, Shell())
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "a.md"), "---\nmodel: a/b\nfoo: 1\n---\ntwo")
	put(t, filepath.Join(dir, "b.md"), minimal+"two")
	put(t, filepath.Join(dir, "new.md"), "broken")
	put(t, filepath.Join(dir, "shell.md"), minimal)
	put(t, filepath.Join(dir, "twice", "agent.md"), minimal)
	got := c.Reload()
	if !reflect.DeepEqual(got.Changed, []string{"b"}) || got.Added != nil || got.Removed != nil {
		t.Errorf("got %+v", got)
	}
	type problem struct {
		agent, text string
		kept        bool
	}
	want := []problem{
		{"a", "a.md:3:1: foo: unknown key", true},
		{"new", "new.md:1:1: must begin with front matter", false},
		{"shell", "shell.md: agent shell is built in", true},
		{"twice", "twice/agent.md: agent twice is defined in", true},
	}
	if len(got.Problems) != len(want) {
		t.Fatalf("got %+v", got.Problems)
	}
	for i, p := range got.Problems {
		if w := want[i]; p.Name != w.agent || p.Kept != w.kept || !strings.HasPrefix(p.Err.Error(), dir+"/"+w.text) {
			t.Errorf("got %+v, want %+v", p, w)
		}
	}
	for name, want := range map[string]string{"a": "one", "b": "two"} {
		if d, err := c.Get(home, name); err != nil || d.Instructions != want {
			t.Errorf("%s: got %q, %v", name, d.Instructions, err)
		}
	}
	if _, err := c.Get(home, "new"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "new.md:1:") {
		t.Errorf("got %v", err)
	}
	put(t, filepath.Join(dir, "new.md"), minimal)
	if got := c.Reload(); !reflect.DeepEqual(got.Added, []string{"new"}) {
		t.Errorf("got %+v", got)
	}
	if _, err := c.Get(home, "new"); err != nil {
		t.Error(err)
	}
}

// While the directory cannot be read every agent stays.
func TestReloadWithoutTheDirectory(t *testing.T) {
	dir := tree(t, map[string]string{"a.md": minimal})
	c, err := Load(dir, lookupIn(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	got := c.Reload()
	if len(got.Problems) != 1 || !got.Problems[0].Kept || !strings.Contains(got.Problems[0].Err.Error(),
		"cannot be read") {
		t.Errorf("got %+v", got)
	}
	if _, err := c.Get(home, "a"); err != nil || got.Removed != nil {
		t.Errorf("got %v, %+v", err, got)
	}
}

func TestWithKnown(t *testing.T) {
	many := make([]string, mostKnown+2)
	for i := range many {
		many[i] = "a"
	}
	for want, known := range map[string][]string{
		"; agents: none; ": nil, "; agents: a, b; ": {"a", "b"},
		", a and 2 more; ": many,
	} {
		err := WithKnown(Missing("x"), known)
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), "control agents reload") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := WithKnown(ErrInvalid, nil); err != error(ErrInvalid) { //nolint:errorlint // the same one
		t.Errorf("got %v", err)
	}
}

func TestCatalogueGivesCopies(t *testing.T) {
	dir := tree(t, map[string]string{"a.md": full, "writer.md": minimal, "researcher.md": minimal})
	c, err := Load(dir, lookupIn(map[string]string{"GITHUB_TOKEN": "x"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := c.Get(home, "a")
	digest := d.Digest()
	pinned, _ := c.ByDigest(digest)
	for _, d := range []Definition{c.List(home)[0], d, pinned} {
		d.Env["CI"] = new("changed")
		d.Sandbox.Labels["gpu"] = "changed"
		d.Tools[0] = "changed"
		d.Expose[0] = "changed"
		d.Subagents[0] = "changed"
		d.Team["writer"].Tools[0] = "changed"
		delete(d.Team, "researcher")
	}
	if again, _ := c.Get(home, "a"); again.Digest() != digest {
		t.Error("a caller's change came through")
	}
}

func TestCatalogueIsSafeForConcurrentUse(t *testing.T) {
	dir := tree(t, map[string]string{"a.md": minimal})
	c, err := Load(dir, lookupIn(nil), nil, Shell())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if got := c.Reload(); len(got.Problems) > 0 {
					t.Error(got)
				}
				d, err := c.Get(home, "a")
				if err != nil {
					t.Error(err)
				}
				if _, err := c.ByDigest(d.Digest()); err != nil || len(c.List(home)) != 2 {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// A directory that need not be there is read once it is. From then on its absence is a fault, not the end of its
// agents.
func TestDirectoryThatComesLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "agents")
	c, err := LoadIfThere(dir, lookupIn(nil), nil, Shell())
	if err != nil {
		t.Fatal(err)
	}
	if change := c.Reload(); len(change.Problems) > 0 {
		t.Errorf("before it is there: %+v", change)
	}
	put(t, filepath.Join(dir, "a.md"), minimal)
	if change := c.Reload(); len(change.Problems) > 0 || !reflect.DeepEqual(change.Added, []string{"a"}) {
		t.Errorf("once it is there: %+v", change)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	change := c.Reload()
	if len(change.Removed) > 0 || len(change.Problems) != 1 || !change.Problems[0].Kept {
		t.Errorf("once it is gone: %+v", change)
	}
}

// An agent's directory that cannot be looked at is not one that is gone.
func TestDirectoryThatCannotBeLookedAt(t *testing.T) {
	dir := tree(t, map[string]string{"a/agent.md": minimal, "b.md": minimal})
	c, err := Load(dir, lookupIn(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "a")); err != nil { // leads to itself
		t.Fatal(err)
	}
	change := c.Reload()
	if len(change.Removed) > 0 || len(change.Problems) != 1 || change.Problems[0].Name != "a" ||
		!change.Problems[0].Kept {
		t.Errorf("%+v", change)
	}
	if _, err := c.Get(home, "a"); err != nil {
		t.Error(err)
	}
}
