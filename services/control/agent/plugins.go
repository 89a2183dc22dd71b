package agent

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/catalogue"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/plugin"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// PluginVersion is what a definition says of a plugin that it names.
type PluginVersion struct {
	Version string `json:"version,omitempty"` // as the plugin says itself
	Digest  string `json:"digest"`            // of what it brings, see plugin.Plugin
}

// plugins are plugins/<name>/, each with a plugin.json. An agent that names one has all that it brings. An agent may
// also name single skills and servers of one, as it names others.
var plugins = kind{
	folder: plugin.FolderName, form: catalogue.Form{Inner: plugin.FileName},
	stands: func(entry string) (string, bool) { return entry, true },
	entry:  func(part string) string { return part },
	list: &naming{
		key: "plugins", what: "plugin", names: func(d Definition) []string { return d.Plugins },
		other: func(string) bool { return false },
	},
	sandbox: func(any) bool { return false }, // its parts say so
	read:    func(s source, _ Lookup) (any, error) { return plugin.Load(filepath.Dir(s.File)) },
	// A definition holds what a plugin brings as parts of other kinds.
	embed: func(d *Definition, name string, part any) {
		if d.PluginVersions == nil {
			d.PluginVersions = map[string]PluginVersion{}
		}
		p := part.(plugin.Plugin)
		d.PluginVersions[name] = PluginVersion{Version: p.Version, Digest: p.Digest()}
	},
}

// plugins reads the names of plugins. Whether there are such is for Load to check.
func (p *parser) plugins(d *Definition, key string, n *yaml.Node) {
	names, ok := p.List(key, n, func(item *yaml.Node) (string, bool) {
		name, ok := p.Text(key, item, maxName)
		if ok && !plugin.ValidName(name) {
			p.Report(document.At(item), key, "%q cannot be a plugin's name", document.Printable(name))
			ok = false
		}
		p.places[mention{key, name}] = document.At(item)
		return name, ok
	})
	if ok {
		slices.Sort(names)
		d.Plugins = names
	}
}

// spread puts what plugins bring beside the project's own parts, and says what of it cannot be used: that costs no
// more than it has to.
func (l library) spread(old library) (warnings []Warning) {
	all := l.of(plugins)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p, ok := all[name].value.(plugin.Plugin)
		if !ok {
			continue
		}
		if before, ok := old.of(plugins)[name].value.(plugin.Plugin); ok {
			p.Keep(before)
		}
		for _, err := range p.Notes {
			warnings = append(warnings, notice(err, false)...)
		}
		for _, b := range p.Broken {
			warnings = append(warnings, notice(b.Err, b.Kept)...)
			if b.Skill != "" {
				l.of(folders)[b.Skill] = part{}
			} else {
				l.of(servers)[b.Server] = part{}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(p.Skills)) {
			l.of(folders)[name] = part{p.Skills[name]}
		}
		for _, name := range slices.Sorted(maps.Keys(p.Servers)) {
			if taken, ok := l.of(servers)[name]; ok && taken.value != nil {
				warnings = append(warnings, Warning{Message: fmt.Sprintf("plugin %s: its server %s is left out: one "+
					"of another plugin has the name", p.Name, name)})
				delete(p.Servers, name)
				continue
			}
			l.of(servers)[name] = part{p.Servers[name]}
		}
		all[name] = part{p}
	}
	return warnings
}

// unpack names what the plugins bring that a definition names.
func (l library) unpack(p *parsed) {
	for _, name := range p.Plugins {
		found, ok := l.of(plugins)[name].value.(plugin.Plugin)
		if !ok {
			continue // which is told with those that cannot be used
		}
		at := p.places[mention{"plugins", name}]
		add := func(key string, list []string, entry string) []string {
			if slices.Contains(list, entry) {
				return list
			}
			p.places[mention{key, entry}] = at
			return append(list, entry)
		}
		for _, one := range slices.Sorted(maps.Keys(found.Skills)) {
			p.Skills = add("skills", p.Skills, one)
		}
		for _, one := range slices.Sorted(maps.Keys(found.Servers)) {
			p.Tools = add("tools", p.Tools, mcp.Entry(one))
		}
	}
	if len(p.Plugins) == 0 {
		return
	}
	slices.Sort(p.Skills)
	own := slices.DeleteFunc(builtin.Names(), func(name string) bool { return !slices.Contains(p.Tools, name) })
	others := slices.DeleteFunc(p.Tools, func(name string) bool { return slices.Contains(own, name) })
	slices.Sort(others)
	p.Tools = append(own, others...)
}

// withFolders keeps the files of plugins whose servers a definition has, once for all servers of a plugin.
func withFolders(k kind) kind {
	embed := k.embed
	k.embed = func(d *Definition, name string, part any) {
		embed(d, name, part)
		c := part.(mcp.Definition).Command
		if c == nil || c.Plugin == nil {
			return
		}
		if d.PluginFolders == nil {
			d.PluginFolders = map[string][]bundle.File{}
		}
		d.PluginFolders[c.Plugin.Digest] = c.Plugin.Files
	}
	return k
}
