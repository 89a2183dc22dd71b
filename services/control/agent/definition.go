package agent

import (
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

// Bounds of texts in a definition, in characters.
const (
	maxName        = 64
	maxDescription = 1024
	maxPath        = 4096
	maxLabel       = 256
	maxValue       = 32 * 1024
)

// definition reads the root mapping into d, which holds the defaults.
func (p *parser) definition(d *Definition, root *yaml.Node) {
	if root != nil {
		p.Mapping(root, "",
			document.Key("model", func(key string, n *yaml.Node) { p.model(d, key, n) }),
			document.Key("description", func(key string, n *yaml.Node) {
				d.Description, _ = p.Text(key, n, maxDescription)
			}),
			document.Key("thinking", func(key string, n *yaml.Node) { p.thinking(d, key, n) }),
			document.Key("sandbox", func(key string, n *yaml.Node) { p.sandbox(d, key, n) }),
			document.Key("cwd", func(key string, n *yaml.Node) { p.cwd(d, key, n) }),
			document.Key("env", func(key string, n *yaml.Node) { p.env(d, key, n) }),
			document.Key("tools", func(key string, n *yaml.Node) { p.tools(d, key, n) }),
			document.Key("search", func(key string, n *yaml.Node) { d.Search, _ = p.Bool(key, n) }),
			document.Key("skills", func(key string, n *yaml.Node) { p.skills(d, key, n) }),
			document.Key("plugins", func(key string, n *yaml.Node) { p.plugins(d, key, n) }),
			document.Key("subagents", func(key string, n *yaml.Node) { p.subagents(d, key, n) }),
			document.Key("compaction", func(key string, n *yaml.Node) { p.compaction(d, key, n) }),
			document.Key("limits", func(key string, n *yaml.Node) { p.limits(d, key, n) }),
			document.Key("expose", func(key string, n *yaml.Node) { p.expose(d, key, n) }),
			document.Key("approve", func(key string, n *yaml.Node) { p.approve(d, key, n) }),
			document.Key("tenants", func(key string, n *yaml.Node) { p.tenants(d, key, n) }),
		)
	}
	if k, _ := document.Find(root, "model"); k == nil {
		p.Report(document.Top, "model", "is required: the model as provider/id")
	}
	p.together(d, root)
}

// together checks keys that depend on each other.
func (p *parser) together(d *Definition, root *yaml.Node) {
	p.checkRules(d)
	tools, _ := document.Find(root, "tools")
	if k, _ := document.Find(root, "subagents"); tools != nil && len(d.Subagents) > 0 && !builtin.Asks(d.Tools) {
		p.Report(document.At(k), "subagents", "are never asked: tools does not name task")
	}
	switch {
	case d.Sandbox.Kind != SandboxNone:
	case tools == nil:
		d.Tools = slices.DeleteFunc(d.Tools, func(name string) bool {
			return slices.Contains(builtin.Tools().Names(), name) // executors carry these out
		})
	case builtin.Tools().Offer(d.Tools, 0).Uses(tool.KindExecutor), slices.ContainsFunc(d.Tools, offered):
		p.Report(document.At(tools), "tools", "need a sandbox, and sandbox is none")
	}
}

func (p *parser) notYet(key string, n *yaml.Node) { p.Report(document.At(n), key, "not yet supported") }

// maxFallbacks bounds how many models are tried beside the first.
const maxFallbacks = 4

// model reads one model, or a list of models of which the later ones are asked when those before cannot be.
func (p *parser) model(d *Definition, key string, n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		d.Model, _ = p.ref(key, n)
		return
	}
	var all []model.Ref
	for _, item := range n.Content {
		ref, ok := p.ref(key, item)
		switch {
		case !ok:
		case slices.Contains(all, ref):
			p.Report(document.At(item), key, "%s is given twice", ref)
		default:
			all = append(all, ref)
		}
	}
	switch {
	case len(n.Content) == 0:
		p.Report(document.At(n), key, "must name at least one model")
	case len(n.Content) > maxFallbacks+1:
		p.Report(document.At(n), key, "must name at most %d models", maxFallbacks+1)
	}
	if len(all) > 0 {
		d.Model, d.Fallbacks = all[0], all[1:]
	}
	if len(d.Fallbacks) == 0 {
		d.Fallbacks = nil // as when one is named without a list
	}
}

func (p *parser) ref(key string, n *yaml.Node) (model.Ref, bool) {
	s, ok := p.Text(key, n, model.MaxRef)
	if !ok {
		return model.Ref{}, false
	}
	ref, err := model.ParseRef(s)
	if err != nil {
		p.Report(document.At(n), key, "must be provider/id, such as anthropic/claude-sonnet-4-6")
		return model.Ref{}, false
	}
	if p.check != nil {
		if err := p.check(ref); err != nil {
			p.Report(document.At(n), key, "%v", err)
		}
	}
	return ref, true
}

func (p *parser) thinking(d *Definition, key string, n *yaml.Node) {
	level, _ := p.Word(key, n, string(model.ThinkingOff), string(model.ThinkingMinimal), string(model.ThinkingLow),
		string(model.ThinkingMedium), string(model.ThinkingHigh), string(model.ThinkingXHigh))
	d.Thinking = model.Thinking(level)
}

func (p *parser) sandbox(d *Definition, key string, n *yaml.Node) {
	if s, ok := ReadSandbox(p.Document, key, n); ok {
		d.Sandbox = s
	}
}

func (p *parser) cwd(d *Definition, key string, n *yaml.Node) {
	dir, ok := p.Text(key, n, maxPath)
	switch {
	case ok && strings.TrimSpace(dir) == "":
		p.Report(document.At(n), key, "must not be empty")
	case ok && strings.ContainsAny(dir, "\n\t"):
		p.Report(document.At(n), key, "must not contain line breaks or tabs")
	case ok:
		d.Cwd = dir
	}
}

func (p *parser) env(d *Definition, key string, n *yaml.Node) {
	p.Pairs(n, key, func(name, key string, k, v *yaml.Node) {
		if !document.Variable(name) {
			p.Report(document.At(k), key, "cannot be a variable's name: letters, digits and _, not beginning with "+
				"a digit")
			return
		}
		if d.Env == nil {
			d.Env = Env{}
		}
		if v.Kind == yaml.ScalarNode && v.ShortTag() == "!!null" {
			d.Env[name] = nil
			return
		}
		if value, ok := p.Text(key, v, maxValue); ok {
			d.Env[name] = &value
			p.Template(key, v, value, p.lookup)
		}
	})
}

// tools reads the names of tools. Whether there are such parts of the project is for Load to check.
func (p *parser) tools(d *Definition, key string, n *yaml.Node) {
	names, ok := p.List(key, n, func(item *yaml.Node) (string, bool) {
		name, ok := p.Text(key, item, len(Offered)+maxName)
		bare := strings.TrimPrefix(name, Offered)
		switch {
		case !ok:
		case !tool.ValidName(bare):
			p.Report(document.At(item), key, "%q cannot be a tool's name: it must have 1 to 64 letters, digits, _ "+
				"and -",
				document.Printable(bare))
			ok = false
		case offered(name) && Taken(bare):
			p.Report(document.At(item), key, "no executor can offer %s: the name is taken", bare)
			ok = false
		case p.named(key, bare) || p.named(key, Offered+bare):
			p.Report(document.At(item), key, "%s is given twice", bare)
			ok = false
		}
		p.places[mention{key, name}] = document.At(item)
		return name, ok
	})
	if !ok {
		return
	}
	own := builtin.Names()
	d.Tools = slices.DeleteFunc(own, func(name string) bool { return !slices.Contains(names, name) })
	slices.Sort(names)
	for _, name := range names {
		if !slices.Contains(builtin.Names(), name) {
			d.Tools = append(d.Tools, name)
		}
	}
}

func (p *parser) subagents(d *Definition, key string, n *yaml.Node) {
	names, ok := p.List(key, n, func(item *yaml.Node) (string, bool) {
		name, ok := p.Text(key, item, maxName)
		if ok && !validName(name) {
			p.Report(document.At(item), key, "%q cannot be an agent's name", document.Printable(name))
			ok = false
		}
		p.places[mention{key, name}] = document.At(item)
		return name, ok
	})
	if ok {
		d.Subagents = names
	}
}

// tenants reads whom the agent exists for. Whether there are such tenants is not asked: they may be made later.
func (p *parser) tenants(d *Definition, key string, n *yaml.Node) {
	names, ok := p.List(key, n, func(item *yaml.Node) (string, bool) {
		name, ok := p.Text(key, item, maxName)
		if err := ident.CheckTenant(name); ok && err != nil {
			p.Report(document.At(item), key, "%q cannot be a tenant: %v", document.Printable(name), err)
			ok = false
		}
		return name, ok
	})
	if ok && len(names) == 0 {
		p.Report(document.At(n), key, "names no tenant: without this key the agent is for all")
		ok = false
	}
	if d.Tenants = unknown; ok {
		d.Tenants = slices.Sorted(slices.Values(names))
	}
}

func (p *parser) expose(d *Definition, key string, n *yaml.Node) {
	names, ok := p.Words(key, n, []string{string(HTTP), string(WebSocket)})
	if !ok {
		return
	}
	d.Expose = make([]Surface, len(names))
	for i, name := range names {
		d.Expose[i] = Surface(name)
	}
}

func (p *parser) limits(d *Definition, key string, n *yaml.Node) {
	small := func(to *int, most int64) func(string, *yaml.Node) {
		return func(key string, n *yaml.Node) {
			if v, ok := p.Count(key, n, most); ok {
				*to = int(v)
			}
		}
	}
	p.Mapping(n, key,
		document.Key("turns", small(&d.Limits.Turns, math.MaxInt32)),
		document.Key("tokens", func(key string, n *yaml.Node) { d.Limits.Tokens, _ = p.Count(key, n, math.MaxInt64) }),
		document.Key("cost_usd", func(key string, n *yaml.Node) { d.Limits.CostUSD, _ = p.Amount(key, n, false) }),
		document.Key("timeout", func(key string, n *yaml.Node) { d.Limits.Timeout, _ = p.Duration(key, n) }),
		document.Key("attempts", small(&d.Limits.Attempts, math.MaxInt32)),
		document.Key("calls", small(&d.Limits.Calls, maxCalls)),
	)
}
