package plugin

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/mcp"
)

// made makes a plugin's folder. A file that ends with .sh is executable.
func made(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	for file, content := range files {
		at := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(file, ".sh") {
			mode = 0o755
		}
		if err := os.WriteFile(at, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	minimal = `{"$schema": "https://agent-plugins.org/schemas/1.0.0/plugin.schema.json", "name": "reports"}`
	listed  = `{"$schema": "https://agent-plugins.org/schemas/1.0.0/mcp.schema.json", "mcpServers": {`
	deploy  = "---\nname: deploy\ndescription: Deploys.\n---\nDo it."
)

func TestLoad(t *testing.T) {
	p, err := Load(made(t, "reports", map[string]string{
		"plugin.json": `{
			"$schema": "https://agent-plugins.org/schemas/1.0.0/plugin.schema.json", "name": "other.name",
			"version": "v1", "description": "d", "author": {"name": "a", "email": "b", "url": "c"},
				"homepage": "no url",
			"repository": "r", "license": "l", "keywords": ["a", "a"], "extensions": {"com.example": {"x": [1]}}}`,
		"skills/deploy/SKILL.md": deploy, "skills/deploy/scripts/run.sh": "echo", "skills/none/readme.md": "x",
		"skills/readme.md": "x", "skills/a/b/SKILL.md": deploy, "commands/x.md": "not of the format",
		"bin/server.sh": "echo",
		"mcp.json": listed + `
			"local db": {"type": "stdio", "command": "./bin/server.sh", "args": ["${PLUGIN_ROOT}", "${HOME}", ""],
				"env": {"A": "${PLUGIN_DATA}/x ${KEY}"}, "cwd": "${PLUGIN_DATA}/sub"},
			"plain": {"type": "stdio", "command": "npx"},
			"api": {"type": "streamable-http", "url": "https://a.example.com/mcp?x=${KEY}",
				"headers": {"x-a": "${KEY}", "Accept": "x", "Mcp-Session-Id": "y"}}}}`,
	}))
	if err != nil || p.Broken != nil || p.Notes != nil {
		t.Fatalf("%v, %v, %v", err, p.Broken, p.Notes)
	}
	if s := p.Skills["reports:deploy"]; len(p.Skills) != 1 || s.Name != "reports:deploy" || len(s.Files) != 1 ||
		!s.Files[0].Executable || !strings.HasPrefix(s.Folder(), "reports_deploy@") {
		t.Errorf("skills %+v", p.Skills)
	}
	api := p.Servers["reports_api"]
	want := &mcp.HTTP{URL: "https://a.example.com/mcp?x=${KEY}", Headers: map[string]string{"X-A": "$${KEY}"}}
	if !reflect.DeepEqual(api.HTTP, want) {
		t.Errorf("api: %+v", api.HTTP)
	}
	expanded, err := api.Expand(func(string) (string, bool) { return "secret", true })
	if err != nil || expanded.HTTP.Headers["X-A"] != "${KEY}" {
		t.Errorf("a plugin reads variables of control: %+v, %v", expanded.HTTP, err)
	}
	local := p.Servers["reports_local-db"].Command
	if local == nil || local.Program != "./bin/server.sh" || local.Cwd != "${PLUGIN_DATA}/sub" ||
		!slices.Equal(local.Args, []string{"${PLUGIN_ROOT}", "${HOME}", ""}) || local.Env != nil ||
		local.Plugin.Env["A"] != "${PLUGIN_DATA}/x ${KEY}" || len(local.Plugin.Files) != 9 {
		t.Errorf("local: %+v", local)
	}
	if plain := p.Servers["reports_plain"].Command; plain.Plugin.Digest != local.Plugin.Digest || plain.Cwd != "" {
		t.Errorf("plain: %+v", plain)
	}
	if p.Version != "v1" || len(p.Digest()) != 64 {
		t.Errorf("version %s, digest %s", p.Version, p.Digest())
	}
}

// A manifest that is wrong costs the plugin, except for what must not matter.
func TestManifests(t *testing.T) {
	const head = `{"$schema": "https://agent-plugins.org/schemas/1.0.0/plugin.schema.json", "name": "a"`
	for src, want := range map[string]string{
		minimal: "", head + `, "version": "any"}`: "",
		``: "plugin.json:1:1: not valid JSON", `[]`: "plugin.json:1:1: must be a mapping", `{`: "ends too early",
		`{"name": "a"}`: "1:1: $schema: is required", strings.Replace(head, "1.0.0", "2.0.0", 1) + "}": "1:13: " +
			"$schema: must be",
		`{"$schema": "x"}`: "name: is required", head + `, "version": 1}`: `:1:99: version: must be text, got a number`,
		strings.Replace(head, `"a"`, `"A"`, 1) + "}":      "name: must have 1 to 64",
		strings.Replace(head, `"a"`, `""`, 1) + "}":       "name: must have 1 to 64",
		strings.Replace(head, `"a"`, `"a--b"`, 1) + "}":   "name: must have 1 to 64",
		head + `, "author": {"name": "a", "phone": "1"}}`: "author.phone: unknown key",
		head + `, "keywords": "a"}`:                       "keywords: must be a list",
		head + `, "name": "b"}`:                           "name: is given twice",
	} {
		_, err := Load(made(t, "a", map[string]string{"plugin.json": src, "skills/deploy/SKILL.md": deploy}))
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(),
			want)) {
			t.Errorf("%s: %v, want %s", src, err, want)
		}
	}
	p, err := Load(made(t, "a", map[string]string{
		"plugin.json": head + ",\n\"hooks\": {}, \"extensions\": 5}", "skills/deploy/SKILL.md": deploy,
	}))
	if err != nil || len(p.Skills) != 1 || len(p.Notes) != 1 ||
		!strings.Contains(p.Notes[0].Error(), "plugin.json:2:1: hooks: unknown key") ||
		!strings.Contains(p.Notes[0].Error(), "plugin.json:2:28: extensions: must be an object") {
		t.Errorf("%v, %+v", err, p)
	}
	for _, name := range []string{"A", "a_b", ".a", "a..b", strings.Repeat("a", 65)} {
		if _, err := Load(made(t, name, map[string]string{"plugin.json": minimal})); !errors.Is(err, ErrInvalid) {
			t.Errorf("a folder %s: %v", name, err)
		}
	}
}

// What is wrong with a part costs that part, and is said with its place.
func TestPartsThatCannotBeUsed(t *testing.T) {
	dir := made(t, "reports", map[string]string{
		"plugin.json": minimal, "skills/deploy/SKILL.md": deploy, "bin/run": "not executable",
		"skills/other/SKILL.md": deploy, "skills/key/SKILL.md": strings.Replace(deploy, "deploy", "key", 1),
		"skills/key/a.pem": "x",
		"mcp.json": listed + `"good": {"type": "streamable-http", "url": "https://a.test"},
"none": {"command": "x"}, "word": {"type": "http", "url": "https://a.test"},
"key": {"type": "streamable-http", "url": "https://a.test", "command": "x"},
"old": {"type": "sse", "url": "https://a.test"},
"out": {"type": "stdio", "command": "../x"}, "line": {"type": "stdio", "command": "npx -y x"},
"away": {"type": "stdio", "command": "./../x"}, "cwd": {"type": "stdio", "command": "x", "cwd": "sub"},
"up": {"type": "stdio", "command": "x", "cwd": "${PLUGIN_ROOT}/../.."},
"own": {"type": "stdio", "command": "x", "env": {"PLUGIN_ROOT": "/"}},
"clear": {"type": "streamable-http", "url": "http://a.test"},
"here": {"type": "streamable-http", "url": "http://localhost:1/"},
"net": {"type": "streamable-http", "url": "https://10.0.0.1/"},
"user": {"type": "streamable-http", "url": "https://u@a.test/"},
"twice": {"type": "streamable-http", "url": "https://a.test", "headers": {"X-A": "1", "x-a": "2"}},
"same": {"type": "streamable-http", "url": "https://a.test"}, "SAME": {"type": "streamable-http",
	"url": "https://a.test"},
"--": {"type": "streamable-http", "url": "https://a.test"},
"run": {"type": "stdio", "command": "./bin/run"}, "gone": {"type": "stdio", "command": "./bin/gone"}}}`,
	})
	p, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if skills := slices.Collect(maps.Keys(p.Skills)); !slices.Equal(skills, []string{"reports:deploy"}) {
		t.Errorf("skills %v", skills)
	}
	if servers := slices.Collect(maps.Keys(p.Servers)); !slices.Equal(servers, []string{"reports_good"}) {
		t.Errorf("servers %v", servers)
	}
	got := map[string]string{}
	for _, b := range p.Broken {
		got[b.Skill+b.Server] = strings.ReplaceAll(b.Err.Error(), dir+"/", "")
	}
	for name, want := range map[string]string{
		"reports:other": "skills/other/SKILL.md:2:1: name: deploy is not the name", "reports:key": "a.pem: looks " +
			"like a secret",
		"reports_none": "mcp.json:2:9: mcpServers.none.type: is required", "reports_word": "must be one of stdio",
		"reports_key": "mcp.json:3:61: mcpServers.key.command: unknown key", "reports_old": "Pawl speaks " +
			"streamable HTTP",
		"reports_out": "command: must be the name of a program", "reports_line": "command: must be the name of a " +
			"program",
		"reports_away": "leads out of the plugin", "reports_cwd": "cwd: must begin with ./", "reports_up": "leads out",
		"reports_own": "env.PLUGIN_ROOT: is set by", "reports_clear": "must be https",
		"reports_here": "address of the host of control", "reports_net": "address of the host of control",
		"reports_user": "without a user", "reports_twice": "headers.x-a: is given twice",
		"reports_same": "another server has the name reports_same", "reports_": "must have a letter",
		"reports_run": "a.pem: looks like a secret", "reports_gone": "a.pem: looks like a secret",
	} {
		if !strings.Contains(got[name], want) {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	if err := os.Remove(filepath.Join(dir, "skills/key/a.pem")); err != nil {
		t.Fatal(err)
	}
	if p, err = Load(dir); err != nil {
		t.Fatal(err)
	}
	for _, b := range p.Broken {
		got[b.Skill+b.Server] = b.Err.Error()
	}
	if !strings.Contains(got["reports_run"], "bin/run: is not executable") ||
		!strings.Contains(got["reports_gone"], "there is no file ./bin/gone") {
		t.Errorf("%q, %q", got["reports_run"], got["reports_gone"])
	}
	if p.Skills["reports:key"].Name == "" {
		t.Error("the skill is broken yet")
	}
}

// A list of servers that is wrong costs the servers, and a link out of the plugin what it stands for.
func TestTheNarrowestScope(t *testing.T) {
	for src, want := range map[string]string{
		`{`: "ends too early", `{"mcpServers": {}}`: "$schema: is required", listed + `}, "more": 1}`: "more: " +
			"unknown key",
		strings.Replace(listed, "1.0.0", "1.1.0", 1) + "}}": "$schema: must be",
	} {
		p, err := Load(made(t, "reports", map[string]string{
			"plugin.json": minimal, "skills/deploy/SKILL.md": deploy, "mcp.json": src,
		}))
		if err != nil || len(p.Skills) != 1 || len(p.Notes) != 1 || !strings.Contains(p.Notes[0].Error(), want) {
			t.Errorf("%s: %v, %+v", src, err, p)
		}
		p.Keep(Plugin{Servers: map[string]mcp.Definition{"reports_a": {Name: "reports_a"}}})
		if len(p.Servers) != 1 {
			t.Errorf("%s: the servers that there were are gone", src)
		}
	}
	dir := made(t, "reports", map[string]string{
		"plugin.json": minimal, "../skill/SKILL.md": deploy,
		"../m.json": listed + "}}",
	})
	for name, target := range map[string]string{"mcp.json": "../m.json", "skills/deploy": "../../skill"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "skills"), 0o755),
			os.Symlink(target, filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Load(dir)
	if err != nil || len(p.Skills) != 0 || len(p.Notes) != 2 {
		t.Errorf("%v, %+v", err, p)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest"), []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "plugin.json")), os.Symlink("manifest",
		filepath.Join(dir, "plugin.json"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err != nil {
		t.Errorf("a link within the plugin: %v", err)
	}
}

func TestServerNames(t *testing.T) {
	for _, c := range [][3]string{
		{"a.b", "My Server", "a-b_my-server"}, {"a", "b", "a_b"}, {"a-b", "c__d", "a-b_c-d"},
	} {
		if got := ServerName(c[0], c[1]); got != c[2] {
			t.Errorf("%s of %s is %s", c[1], c[0], got)
		}
	}
	one, other := ServerName(strings.Repeat("a", 64), "b"), ServerName(strings.Repeat("a", 64), "c")
	if one == other || len(one) > maxServer {
		t.Errorf("%s and %s", one, other)
	}
}
