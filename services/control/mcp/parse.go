package mcp

import (
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/http/httpguts"

	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Bounds of a definition.
const (
	maxName    = 32
	maxText    = 4096
	maxValue   = 32 * 1024
	maxItems   = 256
	maxTimeout = 24 * time.Hour
	maxPrefix  = 32
)

// validName has no underscore, so that the names of two servers' tools are never one name.
var (
	validName   = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	validPrefix = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
)

// Parse reads mcp/<name>.yaml. file is for errors only. With a lookup, every variable that is referred to must be set.
// All problems are reported together, one line each; each is an ErrInvalid that names file, line, column and key.
func Parse(name, file string, src []byte, lookup func(string) (string, bool)) (Definition, error) {
	p := &parser{document.New(file), lookup}
	d := Definition{Name: name}
	p.parse(&d, src)
	return d, p.Err(ErrInvalid)
}

type parser struct {
	*document.Document
	lookup func(string) (string, bool)
}

func (p *parser) parse(d *Definition, src []byte) {
	if !validName.MatchString(d.Name) || len(d.Name) > maxName {
		p.Report(document.Whole, "", "%q cannot be a server's name: it must have 1 to %d lower-case letters, "+
			"digits and single -",
			document.Printable(d.Name), maxName)
	}
	if !p.Check(src) {
		return
	}
	root, ok := p.Root("a server", string(src))
	if !ok {
		return
	}
	h, c := &HTTP{}, &Command{}
	if root != nil {
		p.Mapping(root, "", slices.Concat(p.httpKeys(h), p.commandKeys(c), p.toolKeys(d))...)
	}
	has := func(key string) bool { k, _ := document.Find(root, key); return k != nil }
	switch {
	case has("url") == has("command"):
		p.Report(document.Top, "", "must have either url, of a server that control calls, or command, of one that "+
			"runs on the "+
			"executor of the session")
	case has("url"):
		d.HTTP = h
		p.only(root, "url", "args", "env", "cwd")
		p.reach(root, h)
	default:
		d.Command = c
		p.only(root, "command", "headers", "auth", "networks")
	}
}

// only reports keys that do not go with another one.
func (p *parser) only(root *yaml.Node, with string, keys ...string) {
	for _, key := range keys {
		if k, _ := document.Find(root, key); k != nil {
			p.Report(document.At(k), key, "does not go with %s", with)
		}
	}
}

func (p *parser) httpKeys(h *HTTP) []document.Field {
	return []document.Field{
		document.Key("url", func(key string, n *yaml.Node) { h.URL, _ = p.url(key, n) }),
		document.Key("headers", func(key string, n *yaml.Node) { h.Headers = p.headers(key, n) }),
		document.Key("auth", func(key string, n *yaml.Node) { p.auth(h, key, n) }),
		document.Key("networks", func(key string, n *yaml.Node) {
			p.List(key, n, func(item *yaml.Node) (string, bool) {
				text, ok := p.Text(key, item, 64)
				if network, err := parseNetwork(text); err == nil {
					h.Networks = append(h.Networks, network)
				} else if ok {
					p.Report(document.At(item), key, "must be networks or addresses, such as 10.0.0.0/8 or 192.168.1.7")
					ok = false
				}
				return text, ok
			})
		}),
	}
}

func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.Unmap().Prefix(addr.Unmap().BitLen())
	}
	network, err := netip.ParsePrefix(text)
	return network.Masked(), err
}

func (p *parser) url(key string, n *yaml.Node) (string, bool) {
	text, ok := p.filled(key, n, maxText)
	if !ok {
		return "", false
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.Fragment != "" {
		p.Report(document.At(n), key, "must be an http or https URL without a user, a password and a fragment")
		return "", false
	}
	return text, true
}

// reach completes the networks with what the operator has named by the URLs themselves, and refuses to send secrets
// over the Internet in the clear.
func (p *parser) reach(root *yaml.Node, h *HTTP) {
	_, at := document.Find(root, "url")
	named := len(h.Networks) > 0
	p.reaches("url", at, h, named)
	if h.OAuth != nil {
		_, auth := document.Find(root, "auth")
		_, at = document.Find(auth, "token_url")
		p.reaches("auth.token_url", at, h, named)
	}
}

// reaches is reach of one URL. named says that the operator has named networks.
func (p *parser) reaches(key string, n *yaml.Node, h *HTTP, named bool) {
	u, err := url.Parse(n.Value)
	if err != nil {
		return // reported
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && !egress.Public(addr) {
		if network, err := parseNetwork(addr.String()); err == nil {
			h.Networks, named = append(h.Networks, network), true
		}
	}
	if u.Hostname() == "localhost" {
		h.Networks = append(h.Networks, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		named = true
	}
	if u.Scheme == "http" && !named {
		p.Report(document.At(n), key, "must be https: over http everybody on the way reads what is said, and answers")
	}
}

// ours are headers that the protocol sets.
var ours = []string{
	"Accept", "Content-Type", "Content-Length", "Host", "Connection", "Transfer-Encoding", "Te", "Trailer", "Upgrade",
	"Last-Event-Id", "Cookie",
}

// OwnHeader reports whether the protocol sets a header, whose name is in its canonical form.
func OwnHeader(canonical string) bool {
	return slices.Contains(ours, canonical) || strings.HasPrefix(canonical, "Mcp-")
}

func (p *parser) headers(key string, n *yaml.Node) map[string]string {
	all := map[string]string{}
	p.Pairs(n, key, func(name, key string, k, v *yaml.Node) {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			p.Report(document.At(k), key, "cannot be the name of a header")
		case OwnHeader(canonical):
			p.Report(document.At(k), key, "is set by the protocol")
		default:
			all[canonical], _ = p.template(key, v)
		}
	})
	return all
}

func (p *parser) auth(h *HTTP, key string, n *yaml.Node) {
	o := &OAuth{}
	text := func(into *string) func(string, *yaml.Node) {
		return func(key string, n *yaml.Node) { *into, _ = p.template(key, n) }
	}
	p.Mapping(n, key,
		document.Key("bearer", text(&h.Bearer)),
		document.Key("client_id", text(&o.ID)),
		document.Key("client_secret", text(&o.Secret)),
		document.Key("token_url", func(key string, n *yaml.Node) { o.TokenURL, _ = p.url(key, n) }),
		document.Key("scopes", func(key string, n *yaml.Node) { o.Scopes = p.texts(key, n) }),
	)
	if n.Kind != yaml.MappingNode {
		return
	}
	has := func(key string) bool { k, _ := document.Find(n, key); return k != nil }
	client := has("client_id") || has("client_secret") || has("token_url") || has("scopes")
	switch {
	case has("bearer") == client:
		p.Report(document.At(n), key, "must have either bearer, or client_id, client_secret and token_url")
	case client && !(has("client_id") && has("client_secret") && has("token_url")):
		p.Report(document.At(n), key, "needs client_id, client_secret and token_url")
	case client:
		h.OAuth = o
	}
}

func (p *parser) commandKeys(c *Command) []document.Field {
	return []document.Field{
		document.Key("command", func(key string, n *yaml.Node) { c.Program, _ = p.filled(key, n, maxText) }),
		document.Key("args", func(key string, n *yaml.Node) { c.Args = p.args(key, n) }),
		document.Key("env", func(key string, n *yaml.Node) {
			c.Env = map[string]string{}
			p.Pairs(n, key, func(name, key string, k, v *yaml.Node) {
				if !document.Variable(name) {
					p.Report(document.At(k), key,
						"cannot be a variable's name: letters, digits and _, not beginning with a digit")
					return
				}
				c.Env[name], _ = p.template(key, v)
			})
		}),
		document.Key("cwd", func(key string, n *yaml.Node) { c.Cwd, _ = p.filled(key, n, maxText) }),
	}
}

func (p *parser) toolKeys(d *Definition) []document.Field {
	return []document.Field{
		document.Key("tools", func(key string, n *yaml.Node) {
			if d.Tools = p.texts(key, n); n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				p.Report(document.At(n), key, "must name a tool; leave it out to allow all")
			}
			slices.Sort(d.Tools)
		}),
		document.Key("timeout", func(key string, n *yaml.Node) {
			var ok bool
			if d.Timeout, ok = p.Duration(key, n); ok && d.Timeout > maxTimeout {
				p.Report(document.At(n), key, "must be at most %v", maxTimeout)
			}
		}),
		document.Key("safety", func(key string, n *yaml.Node) {
			d.Safety = map[string]tool.Safety{}
			p.Pairs(n, key, func(name, key string, _, v *yaml.Node) { p.safety(d, name, key, v) })
		}),
		document.Key("prefix", func(key string, n *yaml.Node) {
			text, ok := p.filled(key, n, maxPrefix)
			if ok && !validPrefix.MatchString(text) {
				p.Report(document.At(n), key, "must have letters, digits, _ and -")
			}
			d.Prefix = text
		}),
	}
}

func (p *parser) safety(d *Definition, name, key string, n *yaml.Node) {
	all := []tool.Safety{tool.Pure, tool.Idempotent, tool.AtMostOnce}
	word, ok := p.Word(key, n, all[0].String(), all[1].String(), all[2].String())
	for _, s := range all {
		if ok && s.String() == word {
			d.Safety[name] = s
		}
	}
}

// filled reads a text that is not blank.
func (p *parser) filled(key string, n *yaml.Node, most int) (string, bool) {
	s, ok := p.Text(key, n, most)
	if ok && strings.TrimSpace(s) == "" {
		p.Report(document.At(n), key, "must not be empty")
		return "", false
	}
	return s, ok
}

// template reads a text that may refer to variables.
func (p *parser) template(key string, n *yaml.Node) (string, bool) {
	value, ok := p.Text(key, n, maxValue)
	if ok {
		_, ok = p.Template(key, n, value, p.lookup)
	}
	return value, ok
}

// texts reads a list of different texts.
func (p *parser) texts(key string, n *yaml.Node) []string {
	list, ok := p.List(key, n, func(item *yaml.Node) (string, bool) { return p.filled(key, item, maxText) })
	if ok && len(list) > maxItems {
		p.Report(document.At(n), key, "must have at most %d", maxItems)
	}
	return list
}

// args reads a list of texts, some of which may be the same.
func (p *parser) args(key string, n *yaml.Node) (list []string) {
	if n.Kind != yaml.SequenceNode {
		p.Report(document.At(n), key, "must be a list, got %s", document.Kind(n))
		return nil
	}
	if len(n.Content) > maxItems {
		p.Report(document.At(n), key, "must have at most %d", maxItems)
	}
	for _, item := range n.Content {
		text, _ := p.Text(key, item, maxText)
		list = append(list, text)
	}
	return list
}
