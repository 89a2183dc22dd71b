package claude

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/plugin"
	"github.com/pawl-dev/pawl/services/control/skill"
)

// manifestFile is what makes a folder a plugin of Claude Code.
const manifestFile = ".claude-plugin/plugin.json"

// portable are the keys of a manifest that both formats have.
var portable = []string{
	"version", "description", "author", "homepage", "repository", "license", "keywords",
}

// kept bounds the files of a plugin that are taken along.
var kept = bundle.Rules{
	What: "plugin", Files: 1000, Bytes: 4 << 20, Depth: 12, Links: true,
	Skip: []string{".claude-plugin", ".mcp.json", ".claude"},
}

// ofClaude are folders of a plugin that mean something to Claude Code alone, with what to do instead.
var ofClaude = map[string]string{
	"commands": "Pawl has no commands; a skill that a caller starts with is one", "hooks": "Pawl runs no hooks",
	"output-styles": "Pawl has no output styles", ".lsp.json": "Pawl speaks to no language servers",
	"monitors": "Pawl has no monitors", "themes": "Pawl has no themes",
}

// plugin turns a plugin of Claude Code into one of the open format, and its agents into agents that have it. found is
// whether the folder is a plugin.
func (r *reader) plugin() (found bool, err error) {
	file := filepath.Join(r.dir, manifestFile)
	src, err := document.Load(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var manifest map[string]json.RawMessage
	var name string
	if err := json.Unmarshal(src, &manifest); err == nil {
		err = json.Unmarshal(manifest["name"], &name)
	}
	if !plugin.ValidName(name) {
		r.left(file, "the plugin, because its name is not one of a plugin: %s", manifest["name"])
		return true, nil
	}
	out := map[string]json.RawMessage{
		"$schema": json.RawMessage(quote(plugin.ManifestSchema)), "name": json.RawMessage(quote(name)),
	}
	for _, key := range slices.Sorted(maps.Keys(manifest)) {
		switch {
		case slices.Contains(portable, key):
			out[key] = manifest[key]
		case key != "name" && key != "mcpServers" && key != "$schema":
			r.left(file, "%s: the open format has no such key", key)
		}
	}
	top := "plugins/" + name + "/"
	r.out.Files[top+plugin.FileName] = []byte(quote(out) + "\n")
	r.plugged = name
	if err := r.pluginFiles(top); err != nil {
		return true, err
	}
	return true, r.pluginServers(file, top, manifest["mcpServers"])
}

// pluginFiles takes the files of the plugin along.
func (r *reader) pluginFiles(top string) error {
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // it was only read
	rules := kept
	for _, name := range slices.Sorted(maps.Keys(ofClaude)) {
		if _, err := root.Lstat(name); err == nil {
			r.left(filepath.Join(r.dir, name), "%s", ofClaude[name])
			rules.Skip = append(rules.Skip, name)
		}
	}
	files, problems := bundle.Load(root, ".", rules)
	for _, p := range problems {
		r.left(filepath.Join(r.dir, p.Path), "%s", p.Text)
	}
	for _, f := range files {
		if strings.HasPrefix(f.Path, "agents/") {
			continue // they become agents
		}
		r.out.Files[top+f.Path] = f.Data
		if p := strings.Split(f.Path, "/"); len(p) == 3 && p[0] == "skills" && p[2] == skill.FileName {
			r.skills = append(r.skills, r.plugged+":"+p[1])
		}
		if f.Executable {
			r.out.Executable = append(r.out.Executable, top+f.Path)
		}
	}
	return nil
}

// holders are placeholders of Claude Code, and those of the open format.
var holders = strings.NewReplacer("${CLAUDE_PLUGIN_ROOT}", "${PLUGIN_ROOT}", "${CLAUDE_PLUGIN_DATA}", "${PLUGIN_DATA}")

var otherHolder = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)`)

// pluginServers writes mcp.json of .mcp.json, and of what the manifest has.
func (r *reader) pluginServers(manifest, top string, inline json.RawMessage) error {
	all := map[string]json.RawMessage{}
	file := filepath.Join(r.dir, ".mcp.json")
	src, err := document.Load(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		file = manifest
	case err != nil:
		return err
	default:
		var whole struct {
			Servers map[string]json.RawMessage `json:"mcpServers"`
		}
		if err := json.Unmarshal(src, &whole); err != nil {
			r.left(file, "it cannot be read: %v", err)
		} else if all = whole.Servers; all == nil && json.Unmarshal(src, &all) != nil {
			r.left(file, "it has no servers")
		}
	}
	var more map[string]json.RawMessage
	if len(inline) > 0 && json.Unmarshal(inline, &more) != nil {
		r.left(manifest, "mcpServers: %s: write its servers into .mcp.json", inline)
	}
	if all == nil {
		all = map[string]json.RawMessage{}
	}
	maps.Copy(all, more)
	servers := map[string]map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if s := r.pluginServer(file, name, all[name]); s != nil {
			servers[name] = s
		}
	}
	if len(servers) > 0 {
		r.out.Files[top+plugin.ServersFile] = []byte(quote(map[string]any{
			"$schema": plugin.ServersSchema, "mcpServers": servers,
		}) + "\n")
	}
	return nil
}

// pluginServer is a server in the open format; nil is one that is left out.
func (r *reader) pluginServer(file, name string, body json.RawMessage) map[string]any {
	var s server
	if err := json.Unmarshal(body, &s); err != nil {
		r.left(file, "server %s, which cannot be read: %v", name, err)
		return nil
	}
	if s.URL != "" && s.Type != "sse" {
		s.Type = "streamable-http"
	}
	out := map[string]any{"type": s.Type, "url": s.URL, "headers": s.Headers}
	if s.URL == "" {
		if s.Command = holders.Replace(s.Command); strings.HasPrefix(s.Command, "${PLUGIN_ROOT}/") {
			s.Command = "." + strings.TrimPrefix(s.Command, "${PLUGIN_ROOT}")
		}
		for i := range s.Args {
			s.Args[i] = holders.Replace(s.Args[i])
		}
		for key := range s.Env {
			s.Env[key] = holders.Replace(s.Env[key])
		}
		out = map[string]any{"type": "stdio", "command": s.Command, "args": s.Args, "env": s.Env}
	}
	maps.DeleteFunc(out, func(_ string, v any) bool { return quote(v) == "null" })
	for _, found := range otherHolder.FindAllStringSubmatch(quote(out), -1) {
		if found[1] != "PLUGIN_ROOT" && found[1] != "PLUGIN_DATA" {
			r.left(file, "server %s: a plugin reads no variable such as %s: write mcp/%s.yaml", name, found[1], name)
			return nil
		}
	}
	return out
}
