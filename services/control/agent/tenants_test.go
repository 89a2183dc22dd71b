package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// home is the tenant of those who have made none.
const home = "default"

const forAcme = "---\nmodel: a/b\ntenants: [acme, beta]\n---\n"

// An agent for some tenants is to all others as one that there is not, to the byte, whatever becomes of its file.
func TestAgentsExistForTheirTenants(t *testing.T) {
	dir := tree(t, map[string]string{"ours.md": forAcme, "all.md": minimal})
	c, err := Load(dir, lookupIn(nil), nil, Shell())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, has map[string]bool) {
		t.Helper()
		for _, tenant := range []string{home, "acme", "beta", "zoo"} {
			d, err := c.Get(tenant, "ours")
			_, _, pinning := c.Digest(tenant, "ours")
			listed := slices.ContainsFunc(c.List(tenant), func(d Definition) bool { return d.Name == "ours" })
			named := slices.Contains(c.Names(tenant), "ours")
			if has[tenant] {
				if err != nil || pinning != nil || !listed || !named || !d.ExistsFor(tenant) {
					t.Errorf("%s: of %s: %v, %v, %v, %v", when, tenant, err, pinning, listed, named)
				}
				continue
			}
			_, absent := c.Get(tenant, "nobody")
			want := strings.ReplaceAll(absent.Error(), "nobody", "ours")
			for _, err := range []error{err, pinning} {
				if !errors.Is(err, ErrNotFound) || err.Error() != want {
					t.Errorf("%s: of %s: %v, want %s", when, tenant, err, want)
				}
			}
			if listed || named {
				t.Errorf("%s: %s sees it in lists", when, tenant)
			}
		}
	}
	check("loaded", map[string]bool{"acme": true, "beta": true})
	write("ours.md", strings.Replace(forAcme, ", beta", "", 1))
	c.Reload()
	check("edited", map[string]bool{"acme": true})
	write("ours.md", minimal)
	c.Reload()
	check("for all", map[string]bool{home: true, "acme": true, "beta": true, "zoo": true})
	write("ours.md", forAcme)
	c.Reload()
	if err := os.Remove(filepath.Join(dir, "ours.md")); err != nil {
		t.Fatal(err)
	}
	c.Reload()
	if _, err := c.Get("acme", "ours"); err == nil || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("its own tenant is told: %v", err)
	}
	for _, tenant := range []string{home, "zoo"} {
		if _, err := c.Get(tenant, "ours"); err == nil || strings.Contains(err.Error(), "removed") {
			t.Errorf("%s is told: %v", tenant, err)
		}
	}
	for what, text := range map[string]string{
		"a wrong key": "---\nmodel: a/b\nbad: x\ntenants: [acme]\n---\n", "no YAML": "---\n: {\n---\n",
		"no names": "---\nmodel: a/b\ntenants: [A B]\n---\n",
	} {
		write("new.md", text)
		c.Reload()
		_, err := c.Get("zoo", "new")
		if err == nil || err.Error() != `no such agent: "new"` {
			t.Errorf("%s: another tenant is told: %v", what, err)
		}
	}
}

func TestTenantsOfADefinition(t *testing.T) {
	d, err := Parse("a", "a.md", []byte("---\nmodel: a/b\ntenants: [zoo, acme]\n---\n"), nil, nil)
	if err != nil || !slices.Equal(d.Tenants, []string{"acme", "zoo"}) {
		t.Errorf("%v, %v", d.Tenants, err)
	}
	for text, want := range map[string]string{
		"[]": "names no tenant", "[acme, acme]": "given twice", "[A]": "cannot be a tenant", "acme": "must be a list",
	} {
		_, err := Parse("a", "a.md", []byte("---\nmodel: a/b\ntenants: "+text+"\n---\n"), nil, nil)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "a.md:3:1") ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// No tenant reaches over another agent a sub-agent that it may not have, not even while that one keeps an earlier
// definition.
func TestSubAgentsExistForTheirTenants(t *testing.T) {
	refused := map[string]string{
		"top.md": asking("Asks.", "ours"), "ours.md": forAcme,
	}
	if _, err := Load(tree(t, refused), lookupIn(nil), nil); err == nil ||
		!strings.Contains(err.Error(), "top.md:6:4: subagents: agent ours is for acme, beta only, and top for all") {
		t.Errorf("a sub-agent of another tenant's: %v", err)
	}
	refused["top.md"] = strings.Replace(asking("Asks.", "ours"), "tools", "tenants: [beta, zoo]\ntools", 1)
	if _, err := Load(tree(t, refused), lookupIn(nil), nil); err == nil ||
		!strings.Contains(err.Error(), "and top for zoo too") {
		t.Errorf("a sub-agent of another tenant's: %v", err)
	}
	dir := tree(t, map[string]string{
		"top.md": asking("Asks.", "middle"), "middle.md": asking("Asks.", "ours"),
		"ours.md": minimal,
	})
	c, err := Load(dir, lookupIn(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ours.md"), []byte(forAcme), 0o600); err != nil {
		t.Fatal(err)
	}
	if change := c.Reload(); len(change.Problems) != 1 || !change.Problems[0].Kept {
		t.Errorf("the problems: %+v", change.Problems)
	}
	for _, name := range []string{"top", "middle", "ours"} {
		if _, err := c.Get("acme", name); err != nil {
			t.Errorf("%s of a tenant that may have it: %v", name, err)
		}
		if _, err := c.Get("zoo", name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s reaches what the tenant may not have: %v", name, err)
		}
	}
}
