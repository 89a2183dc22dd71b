package plugin

import (
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/http/httpguts"

	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/mcp"
)

func notDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

// Placeholders that a server's arguments, variables and directory may have.
const (
	rootHolder = "${PLUGIN_ROOT}"
	dataHolder = "${PLUGIN_DATA}"
)

// servers reads mcp.json. What is wrong with the whole costs all servers, and what is wrong with one costs that one.
func (r *reader) servers() {
	list, err := r.list()
	if err != nil {
		r.out.serversUnread = true
		r.note(err)
		return
	}
	for i := 0; i+1 < len(list); i += 2 {
		r.server(list[i], list[i+1])
	}
	r.files()
}

// list are the names of servers, each before its server.
func (r *reader) list() (list []*yaml.Node, err error) {
	src, err := r.file(ServersFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, ErrInvalid.With("%s: cannot be read: %v", r.at(ServersFile), document.Cause(err))
	}
	d := document.New(r.at(ServersFile))
	root, ok := d.RootJSON("a list of servers", src)
	if !ok {
		return nil, d.Err(ErrInvalid)
	}
	d.Mapping(root, "",
		document.Key("$schema", func(key string, n *yaml.Node) { schema(d, key, n, ServersSchema) }),
		document.Key("mcpServers", func(key string, n *yaml.Node) {
			d.Pairs(n, key, func(_, _ string, k, v *yaml.Node) { list = append(list, k, v) })
		}),
	)
	required(d, root, "", "$schema", "mcpServers")
	return list, d.Err(ErrInvalid)
}

// server reads one server.
func (r *reader) server(k, n *yaml.Node) {
	d := document.New(r.at(ServersFile))
	def := mcp.Definition{Name: ServerName(r.out.Name, k.Value)}
	p := &server{d, "mcpServers." + document.Printable(k.Value), r.out.Name}
	if word(k.Value) == "" {
		d.Report(document.At(k), p.key, "a server's name must have a letter or a digit")
	} else {
		p.read(&def, n)
	}
	_, twice := r.out.Servers[def.Name]
	if twice || slices.ContainsFunc(r.out.Broken, func(b Broken) bool { return b.Server == def.Name }) {
		d.Report(document.At(k), p.key, "another server has the name %s", def.Name)
		delete(r.out.Servers, def.Name) // neither is the one that is meant
	}
	if err := d.Err(ErrInvalid); err != nil {
		r.out.Broken = append(r.out.Broken, Broken{Server: def.Name, Err: err})
		return
	}
	r.out.Servers[def.Name] = def
}

// files gives those servers that are started the files of the plugin.
func (r *reader) files() {
	var started []string
	for _, name := range slices.Sorted(maps.Keys(r.out.Servers)) {
		if r.out.Servers[name].Command != nil {
			started = append(started, name)
		}
	}
	if len(started) == 0 {
		return
	}
	files, problems := bundle.Load(r.root, ".", rules)
	for _, name := range started {
		c := r.out.Servers[name].Command
		var all []error
		for _, p := range problems {
			all = append(all, ErrInvalid.With("%s: %s", r.at(p.Path), p.Text))
		}
		if program, own := strings.CutPrefix(c.Program, "./"); own && len(problems) == 0 {
			i := slices.IndexFunc(files, func(f bundle.File) bool { return f.Path == program })
			switch {
			case i < 0:
				all = append(all, ErrInvalid.With("%s: mcpServers: there is no file %s", r.at(ServersFile), c.Program))
			case !files[i].Executable:
				all = append(all, ErrInvalid.With("%s: is not executable, and a server is started with it",
					r.at(program)))
			}
		}
		if len(all) > 0 {
			delete(r.out.Servers, name)
			r.out.Broken = append(r.out.Broken, Broken{Server: name, Err: errors.Join(all...)})
			continue
		}
		c.Plugin.Digest, c.Plugin.Files = bundle.Digest(files), files
	}
}

// server reads one entry of mcp.json.
type server struct {
	*document.Document
	key    string
	plugin string
}

func (p *server) read(def *mcp.Definition, n *yaml.Node) {
	kind, v := document.Find(n, "type")
	if kind == nil || n.Kind != yaml.MappingNode {
		p.Report(document.At(n), p.key+".type", "is required: stdio, streamable-http or sse")
		return
	}
	switch word, _ := p.Word(p.key+".type", v, "stdio", "streamable-http", "sse"); word {
	case "stdio":
		def.Command = p.command(n)
	case "streamable-http":
		def.HTTP = p.http(n)
	case "sse":
		p.http(n)
		p.Report(document.At(v), p.key+".type", "Pawl speaks streamable HTTP, which most servers do as well, and not "+
			"sse, which it has replaced")
	}
}

func (p *server) keys(n *yaml.Node, known ...document.Field) {
	p.Mapping(n, p.key, append([]document.Field{document.Key("type", func(string, *yaml.Node) {})}, known...)...)
}

// command reads a server that is started. Its texts are taken as they are, but for the placeholders.
func (p *server) command(n *yaml.Node) *mcp.Command {
	c := &mcp.Command{Plugin: &mcp.Plugin{Name: p.plugin}}
	p.keys(n,
		document.Key("command", func(key string, n *yaml.Node) { c.Program = p.program(key, n) }),
		document.Key("args", func(key string, n *yaml.Node) { c.Args = texts(p.Document, key, n) }),
		document.Key("cwd", func(key string, n *yaml.Node) { c.Cwd = p.cwd(key, n) }),
		document.Key("env", func(key string, n *yaml.Node) {
			p.Pairs(n, key, func(name, key string, k, v *yaml.Node) {
				value, ok := p.Text(key, v, document.MaxFile)
				switch {
				case name == "PLUGIN_ROOT" || name == "PLUGIN_DATA":
					p.Report(document.At(k), key, "is set by the program that starts the server")
				case !document.Variable(name):
					p.Report(document.At(k), key,
						"cannot be a variable's name: letters, digits and _, not beginning with a digit")
				case ok && c.Plugin.Env == nil:
					c.Plugin.Env = map[string]string{name: value}
				case ok:
					c.Plugin.Env[name] = value
				}
			})
		}),
	)
	required(p.Document, n, p.key, "command")
	return c
}

// program is a bare name, or a path within the plugin.
func (p *server) program(key string, n *yaml.Node) string {
	s, ok := p.Text(key, n, document.MaxFile)
	within, own := strings.CutPrefix(s, "./")
	switch {
	case !ok:
	case s == "" || !own && strings.ContainsAny(s, "/ \t\n"):
		p.Report(document.At(n), key, "must be the name of a program, or a path in the plugin that begins with ./")
	case own && !stays(within):
		p.Report(document.At(n), key, "leads out of the plugin")
	case own:
		return "./" + path.Clean(within)
	default:
		return s
	}
	return ""
}

// cwd is a path within the plugin, or within its data.
func (p *server) cwd(key string, n *yaml.Node) string {
	s, ok := p.Text(key, n, document.MaxFile)
	if !ok {
		return ""
	}
	for _, base := range []string{".", rootHolder, dataHolder} {
		within, below := strings.CutPrefix(s, base+"/")
		switch {
		case s == base && base != ".":
			return s
		case below && !stays(within):
			p.Report(document.At(n), key, "leads out of the plugin")
			return ""
		case below:
			return base + "/" + path.Clean(within)
		}
	}
	p.Report(document.At(n), key, "must begin with ./, %s or %s", rootHolder, dataHolder)
	return ""
}

// stays reports whether a path stays within what it is relative to.
func stays(within string) bool {
	clean := path.Clean("/" + within)
	return clean == "/"+path.Clean(within) || path.Clean(within) == "."
}

// http reads a server that control calls. A plugin reaches public addresses only: what is on networks of the operator's
// is for the operator to name.
func (p *server) http(n *yaml.Node) *mcp.HTTP {
	h := &mcp.HTTP{}
	p.keys(n,
		document.Key("url", func(key string, n *yaml.Node) {
			s, ok := p.Text(key, n, document.MaxFile)
			u, err := url.Parse(s)
			switch {
			case !ok:
			case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil ||
				u.Fragment != "":
				p.Report(document.At(n), key, "must be an https URL without a user, a password and a fragment")
			case private(u.Hostname()):
				p.Report(document.At(n), key, "is an address of the host of control, or of its networks: a plugin has "+
					"public ones only; write mcp/<server>.yaml to allow it")
			case u.Scheme != "https":
				p.Report(document.At(n), key, "must be https: over http everybody on the way reads what is said")
			default:
				h.URL = s
			}
		}),
		document.Key("headers", func(key string, n *yaml.Node) { h.Headers = p.headers(key, n) }),
	)
	required(p.Document, n, p.key, "url")
	return h
}

func private(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && !egress.Public(addr)
}

// headers reads headers. Those of the protocol win over a plugin's, and nothing in a value refers to a variable.
func (p *server) headers(key string, n *yaml.Node) map[string]string {
	all := map[string]string{}
	seen := map[string]bool{}
	p.Pairs(n, key, func(name, key string, k, v *yaml.Node) {
		value, ok := p.Text(key, v, document.MaxFile)
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !ok:
		case !httpguts.ValidHeaderFieldName(name):
			p.Report(document.At(k), key, "cannot be the name of a header")
		case !httpguts.ValidHeaderFieldValue(value):
			p.Report(document.At(v), key, "cannot be the value of a header")
		case seen[canonical]:
			p.Report(document.At(k), key, "is given twice")
		case !mcp.OwnHeader(canonical):
			all[canonical] = strings.ReplaceAll(value, "${", "$${")
		}
		seen[canonical] = true
	})
	if len(all) == 0 {
		return nil
	}
	return all
}
