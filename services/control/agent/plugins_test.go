package agent

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const manifest = `{"$schema": "https://agent-plugins.org/schemas/1.0.0/plugin.schema.json",
	"name": "x", "version": "1"}`

func servers10(entries string) string {
	return `{"$schema": "https://agent-plugins.org/schemas/1.0.0/mcp.schema.json", "mcpServers": {` + entries + `}}`
}

func described(name string) string { return "---\nname: " + name + "\ndescription: d\n---\nDo it." }

// project is a folder with agents/ and what is beside it.
func withPlugins(t *testing.T, files map[string]string) (dir string, load func() (*Catalogue, error)) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		put(t, filepath.Join(dir, name), content)
	}
	return dir, func() (*Catalogue, error) { return Load(filepath.Join(dir, "agents"), nil, nil) }
}

func reports() map[string]string {
	return map[string]string{
		"plugins/reports/plugin.json": manifest, "plugins/reports/skills/sum/SKILL.md": described("sum"),
		"plugins/reports/skills/draw/SKILL.md": described("draw"), "plugins/reports/skills/draw/a.txt": "a",
		"plugins/reports/mcp.json": servers10(`"db": {"type": "stdio", "command": "x"},
			"api": {"type": "streamable-http", "url": "https://a.test"}`),
		"skills/own/SKILL.md": described("own"),
		"agents/all.md":       "---\nmodel: a/b\nplugins: [reports]\nskills: [own]\n---\n",
		"agents/some.md":      "---\nmodel: a/b\ntools: [mcp__reports_api, read]\nskills: [\"reports:sum\"]\n---\n",
	}
}

// An agent that names a plugin has all that it brings. One that names single parts has these.
func TestAgentsHavePlugins(t *testing.T) {
	dir, load := withPlugins(t, reports())
	c, err := load()
	if err != nil || len(c.Warnings()) > 0 {
		t.Fatalf("%v, %v", err, c.Warnings())
	}
	all, err := c.Get("default", "all")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(all.Skills, []string{"own", "reports:draw", "reports:sum"}) ||
		!slices.Equal(all.Tools[len(all.Tools)-2:], []string{"mcp__reports_api", "mcp__reports_db"}) ||
		all.Tools[0] != "read" || all.PluginVersions["reports"].Version != "1" || len(all.MCP) != 2 ||
		len(all.SkillFolders["reports:draw"].Files) != 1 {
		t.Errorf("%+v", all)
	}
	files := all.PluginFolders[all.MCP["reports_db"].Command.Plugin.Digest]
	if len(files) != 5 || !strings.Contains(SystemPrompt(all, Surroundings{}), "- reports:sum: d") {
		t.Errorf("files %d, told %s", len(files), SystemPrompt(all, Surroundings{}))
	}
	some, err := c.Get("default", "some")
	if err != nil || !slices.Equal(some.Skills, []string{"reports:sum"}) || len(some.MCP) != 1 ||
		some.PluginFolders != nil || some.Plugins != nil {
		t.Errorf("%+v, %v", some, err)
	}
	// What a submission is pinned to is the whole of it.
	body, err := json.Marshal(all)
	var again Definition
	if err != nil || json.Unmarshal(body, &again) != nil || again.Digest() != all.Digest() ||
		string(again.PluginFolders[all.MCP["reports_db"].Command.Plugin.Digest][0].Data) == "" {
		t.Errorf("stored and read it is another one: %v", err)
	}
	digest := all.Digest()
	put(t, filepath.Join(dir, "plugins/reports/skills/draw/a.txt"), "b")
	if change := c.Reload(); !slices.Equal(change.Changed, []string{"all"}) || len(change.Problems) > 0 {
		t.Errorf("an edit of a file changes %+v", change)
	}
	if old, err := c.ByDigest(digest); err != nil || old.Digest() != digest {
		t.Errorf("what is pinned is gone: %v", err)
	}
}

// What is wrong with a part costs that part and nothing else, and an earlier good one stays.
func TestPluginsThatAreBroken(t *testing.T) {
	files := reports()
	files["plugins/reports/skills/bad/SKILL.md"] = described("other")
	dir, load := withPlugins(t, files)
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0].Message, "bad/SKILL.md:2:1: name: other is not") {
		t.Errorf("warned of %+v", w)
	}
	put(t, filepath.Join(dir, "plugins/reports/skills/sum/SKILL.md"), "no front matter")
	put(t, filepath.Join(dir, "plugins/reports/mcp.json"),
		servers10(`"db": {"type": "stdio"}, "new": {"type": "stdio", "command": "y"}`))
	change := c.Reload()
	if len(change.Problems) != 1 || !strings.Contains(change.Problems[0].Err.Error(),
		"agents/some.md:3:9: tools: there is no tool mcp__reports_api") || !change.Problems[0].Kept {
		t.Errorf("%+v", change)
	}
	kept := 0
	for _, w := range change.Warnings {
		if strings.HasSuffix(w.Message, "(what was there before stays in force)") {
			kept++
		}
	}
	if kept != 2 || len(change.Warnings) != 3 {
		t.Errorf("warned of %+v", change.Warnings)
	}
	all, err := c.Get("default", "all")
	if err != nil || all.SkillFolders["reports:sum"].Body != "Do it." || all.MCP["reports_db"].Command.Program != "x" ||
		all.MCP["reports_new"].Command.Program != "y" || all.MCP["reports_api"].HTTP != nil {
		t.Errorf("%+v, %v", all, err)
	}
	put(t, filepath.Join(dir, "plugins/reports/plugin.json"), "{")
	change = c.Reload()
	if len(change.Problems) != 2 || !strings.Contains(change.Problems[0].Err.Error(),
		"plugin.json:1:2: not valid JSON") ||
		!change.Problems[0].Kept || len(change.Changed) > 0 {
		t.Errorf("a broken manifest: %+v", change)
	}
}

func TestPluginsThatCannotBeHad(t *testing.T) {
	files := reports()
	files["plugins/reports/skills/bad/SKILL.md"] = "x"
	files["plugins/broken/plugin.json"] = "{}"
	files["agents/a.md"] = "---\nmodel: a/b\nplugins: [none, broken]\n---\n"
	files["agents/b.md"] = "---\nmodel: a/b\nskills: [\"reports:bad\", \"reports:none\"]\n---\n"
	files["agents/c.md"] = "---\nmodel: a/b\nsandbox: none\nplugins: [reports]\n---\n"
	files["agents/d.md"] = "---\nmodel: a/b\nplugins: [A_B, reports, reports]\n---\n"
	_, load := withPlugins(t, files)
	_, err := load()
	if err == nil {
		t.Fatal("they are loaded")
	}
	for _, want := range []string{
		"plugins/broken/plugin.json:1:1: $schema: is required",
		"agents/a.md:3:11: plugins: there is no plugin none; there are broken, reports",
		"agents/a.md:3:17: plugins: plugin broken cannot be used: its own file has a problem",
		"agents/b.md:3:10: skills: skill reports:bad cannot be used: its own file has a problem",
		"agents/b.md:3:25: skills: there is no skill reports:none",
		"agents/c.md:4:11: skills: skill reports:draw needs a sandbox",
		"agents/c.md:4:11: tools: tool mcp__reports_db needs a sandbox",
		"agents/d.md:3:11: plugins: \"A_B\" cannot be a plugin's name",
		"agents/d.md:3:25: plugins: reports is given twice",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it lacks %q:\n%v", want, err)
		}
	}
}
