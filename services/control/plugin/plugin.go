// Package plugin reads plugins: folders of a project, in the open format of agent-plugins.org, version 1.0.0, that
// bring skills and MCP servers along.
//
//	plugins/<name>/plugin.json           the manifest
//	plugins/<name>/skills/<skill>/       ──▶ skill <name>:<skill>
//	plugins/<name>/mcp.json              ──▶ servers <name>_<server>
//
// Somebody else has written a plugin, and the operator has put it there. What it brings is read strictly, and what is
// wrong costs no more than it has to: a skill, a server, all of its servers. Only a manifest that is wrong costs the
// plugin.
//
// Invariants: nothing outside of a plugin's folder is read, whatever links say; no text of a plugin refers to a
// variable of control; two parts of two plugins never have one name, unless the second one is a problem.
package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/mcp"
	"github.com/pawl-dev/pawl/services/control/skill"
)

// ErrInvalid is a plugin, or a part of one, that breaks a rule; the text names file, line, column and key.
var ErrInvalid = errs.New(errs.InvalidArgument, "PLUGIN_INVALID", "the plugin is invalid")

// Names of files.
const (
	FolderName  = "plugins"
	FileName    = "plugin.json"
	ServersFile = "mcp.json"
	skillsDir   = "skills"
)

// Schemas of the files in this version of the format.
const (
	ManifestSchema = "https://agent-plugins.org/schemas/1.0.0/plugin.schema.json"
	ServersSchema  = "https://agent-plugins.org/schemas/1.0.0/mcp.schema.json"
)

// rules of a plugin's files, which are put where its servers run.
var rules = bundle.Rules{What: "plugin", Files: 1000, Bytes: 4 << 20, Depth: 12, Links: true}

// Plugin is a plugin as it was read.
type Plugin struct {
	Name    string // of its folder
	Version string // as it says itself
	Skills  map[string]skill.Skill
	Servers map[string]mcp.Definition
	// Broken are its parts that cannot be used, and Notes what else is wrong with it, one line each.
	Broken []Broken
	Notes  []error

	skillsUnread, serversUnread bool // nobody can say which there are
}

// Broken is a part of a plugin that cannot be used.
type Broken struct {
	Skill, Server string // one of them is its name
	Err           error  // one line for each fault
	Kept          bool   // an earlier good one is used
}

// Keep takes the parts that are broken as they were in an earlier version of the plugin.
func (p *Plugin) Keep(before Plugin) {
	if p.skillsUnread {
		maps.Copy(p.Skills, before.Skills)
	}
	if p.serversUnread {
		maps.Copy(p.Servers, before.Servers)
	}
	for i := range p.Broken {
		b := &p.Broken[i]
		if s, ok := before.Skills[b.Skill]; ok && b.Skill != "" {
			p.Skills[b.Skill], b.Kept = s, true
		}
		if s, ok := before.Servers[b.Server]; ok && b.Server != "" {
			p.Servers[b.Server], b.Kept = s, true
		}
	}
}

// Digest is the sha256 of the parts that are used, in hex.
func (p Plugin) Digest() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(p.Skills)) {
		h.Write([]byte(name + " " + p.Skills[name].Digest + "\n"))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Servers)) {
		h.Write([]byte(name + " " + p.Servers[name].Digest() + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// ServerName is the name of a plugin's server among all servers. Neither part of it has an underscore.
func ServerName(plugin, server string) string {
	name := word(plugin) + "_" + word(server)
	if len(name) <= maxServer {
		return name
	}
	sum := sha256.Sum256([]byte(plugin + "\n" + server))
	mark := "-" + hex.EncodeToString(sum[:4])
	return strings.TrimRight(name[:maxServer-len(mark)], "-_") + mark
}

// maxServer bounds the name of a server, so that its tools' names have room for their own.
const maxServer = 40

// word is a name as it can stand in that of a tool.
func word(name string) string {
	return strings.Trim(dashes.ReplaceAllString(strings.ToLower(name), "-"), "-")
}

var dashes = regexp.MustCompile(`[^a-z0-9]+`)

// ValidName reports whether a plugin can have a name.
func ValidName(s string) bool {
	return len(s) <= 64 && validName.MatchString(s) && !strings.Contains(s, "--") && !strings.Contains(s, "..")
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// reader reads one plugin.
type reader struct {
	dir  string
	root *os.Root
	out  Plugin
}

// Load reads the plugin in a folder, which may be a link. The error is that of a plugin that cannot be used at all, one
// line for each fault.
func Load(dir string) (Plugin, error) {
	name := filepath.Base(dir)
	if !ValidName(name) {
		return Plugin{}, ErrInvalid.With("%s: %q cannot be a plugin's name: it must have 1 to 64 of a-z, 0-9, - "+
			"and ., "+
			"begin and end with one of the first two, and have neither -- nor ..", dir, document.Printable(name))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Plugin{}, ErrInvalid.With("%s: cannot be read: %v", dir, document.Cause(err))
	}
	defer root.Close() //nolint:errcheck // it was only read
	r := &reader{dir: dir, root: root, out: Plugin{
		Name: name, Skills: map[string]skill.Skill{}, Servers: map[string]mcp.Definition{},
	}}
	if err := r.manifest(); err != nil {
		return Plugin{}, err
	}
	r.skills()
	r.servers()
	return r.out, nil
}

func (r *reader) at(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

func (r *reader) note(err error) { r.out.Notes = append(r.out.Notes, err) }

// file reads a file of the plugin.
func (r *reader) file(name string) ([]byte, error) {
	info, err := r.root.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	case info.Size() > document.MaxFile:
		return nil, errors.New("is larger than 1 MiB")
	}
	return r.root.ReadFile(name)
}

// manifest reads plugin.json. Whatever else has a name of its own in it is for other programs.
func (r *reader) manifest() error {
	file := r.at(FileName)
	src, err := r.file(FileName)
	if err != nil {
		return ErrInvalid.With("%s: cannot be read: %v", file, document.Cause(err))
	}
	d := document.New(file)
	loose := document.New(file) // what costs nothing
	root, ok := d.RootJSON("a manifest", src)
	if !ok {
		return d.Err(ErrInvalid)
	}
	text := func(key string, n *yaml.Node) { d.Text(key, n, document.MaxFile) }
	known := []document.Field{
		document.Key("$schema", func(key string, n *yaml.Node) { schema(d, key, n, ManifestSchema) }),
		document.Key("name", func(key string, n *yaml.Node) {
			if s, ok := d.Text(key, n, document.MaxFile); ok && !ValidName(s) {
				d.Report(document.At(n), key, "must have 1 to 64 of a-z, 0-9, - and ., begin and end with one of the "+
					"first two, and have neither -- nor ..")
			}
		}),
		document.Key("version", func(key string, n *yaml.Node) { r.out.Version, _ = d.Text(key, n, document.MaxFile) }),
		document.Key("description", text), document.Key("homepage", text), document.Key("repository", text),
		document.Key("license", text),
		document.Key("author", func(key string, n *yaml.Node) {
			d.Mapping(n, key, document.Key("name", text), document.Key("email", text), document.Key("url", text))
		}),
		document.Key("keywords", func(key string, n *yaml.Node) { texts(d, key, n) }),
		document.Key("extensions", func(key string, n *yaml.Node) {
			if n.Kind != yaml.MappingNode {
				loose.Report(document.At(n), key, "must be an object, got %s: it is left out", document.Kind(n))
			}
		}),
	}
	fields(d, root, "", known, func(key string, k *yaml.Node) {
		loose.Report(document.At(k), key, "unknown key, which is left out: what is for one program is under extensions")
	})
	required(d, root, "", "$schema", "name")
	if err := loose.Err(ErrInvalid); err != nil {
		r.note(err)
	}
	return d.Err(ErrInvalid)
}

// fields reads an object of which other is told the keys that are not known.
func fields(
	d *document.Document, n *yaml.Node, prefix string, known []document.Field, other func(key string, k *yaml.Node),
) {
	d.Pairs(n, prefix, func(name, key string, k, v *yaml.Node) {
		i := slices.IndexFunc(known, func(f document.Field) bool { return f.Name() == name })
		if i < 0 {
			other(key, k)
			return
		}
		known[i].Read(key, v)
	})
}

// required reports keys that are missing.
func required(d *document.Document, n *yaml.Node, prefix string, keys ...string) {
	for _, key := range keys {
		if k, _ := document.Find(n, key); k == nil && n.Kind == yaml.MappingNode {
			d.Report(document.At(n), strings.TrimPrefix(prefix+"."+key, "."), "is required")
		}
	}
}

// schema reads which version of the format a file is of. Nothing is ever fetched.
func schema(d *document.Document, key string, n *yaml.Node, want string) {
	if s, ok := d.Text(key, n, document.MaxFile); ok && s != want {
		d.Report(document.At(n), key, "must be %q, the version of Agent Plugins that Pawl knows; got %q", want,
			document.Printable(s))
	}
}

// texts reads a list of texts, some of which may be the same.
func texts(d *document.Document, key string, n *yaml.Node) (list []string) {
	if n.Kind != yaml.SequenceNode {
		d.Report(document.At(n), key, "must be a list, got %s", document.Kind(n))
		return nil
	}
	for _, item := range n.Content {
		s, _ := d.Text(key, item, document.MaxFile)
		list = append(list, s)
	}
	return list
}

// skills reads the folders of skills/ that have a SKILL.md.
func (r *reader) skills() {
	entries, err := fs.ReadDir(r.root.FS(), skillsDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		r.out.skillsUnread = true
		r.note(ErrInvalid.With("%s: cannot be read: %v", r.at(skillsDir), document.Cause(err)))
		return
	}
	for _, e := range entries {
		folder := skillsDir + "/" + e.Name()
		if info, err := r.root.Stat(folder + "/" + skill.FileName); err != nil || !info.Mode().IsRegular() {
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !notDir(err) {
				r.note(ErrInvalid.With("%s: cannot be read: %v", r.at(folder), document.Cause(err)))
			}
			continue
		}
		s, err := skill.LoadFrom(r.root, r.dir, folder)
		s.Name = r.out.Name + ":" + e.Name()
		if err != nil {
			r.out.Broken = append(r.out.Broken, Broken{Skill: s.Name, Err: err})
			continue
		}
		r.out.Skills[s.Name] = s
	}
}
