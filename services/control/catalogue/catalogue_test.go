package catalogue

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/errs"
)

var (
	errNone   = errs.New(errs.NotFound, "THING_NOT_FOUND", "no such thing")
	errBroken = errors.New("thing.txt:1:1: is broken")
)

// thing is a definition; its digest is what it says.
type thing struct {
	says    string
	needs   []string
	tenants []string
}

func (t *thing) Digest() string { return t.says }

// shelf is what the next reading finds.
type shelf struct {
	found    map[string]*thing
	problems []Problem
	err      error
}

func (s *shelf) deps() Deps[*thing] {
	return Deps[*thing]{
		What: "thing", NotFound: errNone,
		Read: func(string, map[string]*thing) (Reading[*thing], error) {
			return Reading[*thing]{Found: maps.Clone(s.found), Problems: s.problems}, s.err
		},
		Tenants: func(t *thing) []string { return t.tenants },
		Reaches: func(t *thing) []string { return t.needs },
		Clone:   func(t *thing) *thing { c := *t; return &c },
	}
}

func stock(t *testing.T, found map[string]*thing) (*shelf, *Catalogue[*thing]) {
	t.Helper()
	s := &shelf{found: found}
	c, err := Load("", false, s.deps())
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// What has a problem stays what it was. What never was good says why, to those that it would be for.
func TestProblemsTakeNothingOutOfForce(t *testing.T) {
	s, c := stock(t, map[string]*thing{"a": {says: "a1"}, "b": {says: "b1"}, "own": {says: "own"}})
	s.found = map[string]*thing{"b": {says: "b2"}, "own": {says: "own"}}
	s.problems = []Problem{
		{Err: errors.New("a part is broken")},
		{Name: "a", Err: errBroken},
		{Name: "new", Err: errBroken, Tenants: []string{"acme"}},
		{Name: "own", Err: errors.New("the name is taken")},
	}
	change := c.Reload()
	kept := []bool{}
	for _, p := range change.Problems {
		kept = append(kept, p.Kept)
	}
	if !reflect.DeepEqual(kept, []bool{false, true, false, true}) ||
		!reflect.DeepEqual(change.Changed, []string{"b"}) || len(change.Added)+len(change.Removed) > 0 {
		t.Errorf("%+v", change)
	}
	if d, err := c.Get("x", "a"); err != nil || d.says != "a1" {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := c.Get("acme", "new"); !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
	if _, err := c.Get("x", "new"); !errors.Is(err, errNone) || err.Error() != `no such thing: "new"` {
		t.Errorf("another tenant is told: %v", err)
	}
	if _, err := c.Get("x", ""); !errors.Is(err, errNone) {
		t.Errorf("what has no name is told of one: %v", err)
	}
	s.err = errors.New("the directory cannot be read")
	if change = c.Reload(); len(change.Problems) != 1 || !change.Problems[0].Kept || len(c.All()) != 3 {
		t.Errorf("without the directory: %+v", change)
	}
	if _, err := Load("", false, s.deps()); !errors.Is(err, s.err) {
		t.Errorf("%v", err)
	}
}

// What was in force once is found by its digest. That its file is gone is told however often it is read again, and
// until there is one again.
func TestRemovedDefinitions(t *testing.T) {
	s, c := stock(t, map[string]*thing{"a": {says: "a1", tenants: []string{"acme"}}})
	if digest, _, err := c.Present("acme", "a"); digest != "a1" || err != nil {
		t.Errorf("%q, %v", digest, err)
	}
	s.found = nil
	if change := c.Reload(); !reflect.DeepEqual(change, Change{Removed: []string{"a"}}) {
		t.Errorf("%+v", change)
	}
	for range 2 {
		if _, err := c.Get("acme", "a"); !errors.Is(err, errNone) || !strings.Contains(err.Error(), "was removed") {
			t.Errorf("%v", err)
		}
		if _, err := c.Get("x", "a"); !errors.Is(err, errNone) || strings.Contains(err.Error(), "was removed") {
			t.Errorf("another tenant is told: %v", err)
		}
		if change := c.Reload(); !reflect.DeepEqual(change, Change{}) {
			t.Errorf("%+v", change)
		}
	}
	if d, err := c.ByDigest("a1"); err != nil || d.says != "a1" {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := c.ByDigest("a2"); !errors.Is(err, errNone) || err.Error() != `no thing with digest "a2" is known` {
		t.Errorf("%v", err)
	}
	s.found = map[string]*thing{"a": {says: "a2"}}
	if change := c.Reload(); !reflect.DeepEqual(change.Added, []string{"a"}) {
		t.Errorf("%+v", change)
	}
}

// A tenant has what it may have with all that this reaches. What callers are given is theirs.
func TestTenantsAndCopies(t *testing.T) {
	acme := []string{"acme"}
	_, c := stock(t, map[string]*thing{
		"all": {says: "1"}, "ours": {says: "2", tenants: acme}, "over": {says: "3", needs: []string{"ours", "gone"}},
	})
	if got := c.Names("acme"); !reflect.DeepEqual(got, []string{"all", "ours", "over"}) || len(c.List("acme")) != 3 {
		t.Errorf("%v", got)
	}
	if got := c.Names("x"); !reflect.DeepEqual(got, []string{"all"}) || len(c.List("x")) != 1 || len(c.All()) != 3 {
		t.Errorf("%v", got)
	}
	if _, err := c.Get("x", "over"); !errors.Is(err, errNone) {
		t.Errorf("%v", err)
	}
	got, err := c.Get("x", "all")
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := c.ByDigest("1")
	if err != nil {
		t.Fatal(err)
	}
	got.says, pinned.says, c.All()[0].says, c.List("x")[0].says = "z", "z", "z", "z"
	if again, err := c.Get("x", "all"); err != nil || again.says != "1" {
		t.Errorf("a caller's change came through: %v", again)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.md", "b/agent.md", "c/other.md", ".d.md", "e.txt", ".f/agent.md"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for form, want := range map[Form][]Source{
		{".md", "agent.md"}: {{"a", filepath.Join(dir, "a.md")}, {"b", filepath.Join(dir, "b", "agent.md")}},
		{".md", ""}:         {{"a", filepath.Join(dir, "a.md")}},
		{"", "agent.md"}:    {{"b", filepath.Join(dir, "b", "agent.md")}},
	} {
		if got, err := Files(dir, form); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: %v, %v", form, got, err)
		}
	}
	if _, err := Files(filepath.Join(dir, "none"), Form{}); err == nil || err.Error() != "no such file or directory" {
		t.Errorf("%v", err)
	}
}
