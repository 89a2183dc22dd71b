package agent

import (
	"math"
	"regexp"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Bounds of texts in a definition, in characters.
const (
	maxDescription = 1024
	maxModel       = 256
	maxPath        = 4096
	maxLabel       = 256
	maxValue       = 32 * 1024
)

var (
	providerName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)
	labelName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`)
)

// definition reads the root mapping into d, which holds the defaults.
func (p *parser) definition(d *Definition, root *yaml.Node) {
	if root != nil {
		p.mapping(root, "",
			reader{"model", func(key string, n *yaml.Node) { p.model(d, key, n) }},
			reader{"description", func(key string, n *yaml.Node) { d.Description, _ = p.text(key, n, maxDescription) }},
			reader{"thinking", func(key string, n *yaml.Node) { p.thinking(d, key, n) }},
			reader{"sandbox", func(key string, n *yaml.Node) { p.sandbox(d, key, n) }},
			reader{"cwd", func(key string, n *yaml.Node) { p.cwd(d, key, n) }},
			reader{"env", func(key string, n *yaml.Node) { p.env(d, key, n) }},
			reader{"tools", func(key string, n *yaml.Node) { p.tools(d, key, n) }},
			reader{"skills", p.notYet},
			reader{"subagents", p.notYet},
			reader{"compaction", p.notYet},
			reader{"limits", func(key string, n *yaml.Node) { p.limits(d, key, n) }},
			reader{"expose", func(key string, n *yaml.Node) { p.expose(d, key, n) }},
		)
	}
	if k, _ := find(root, "model"); k == nil {
		p.report(1, "model", "is required: the model as provider/id")
	}
	if d.Sandbox.Kind != SandboxNone {
		return
	}
	switch k, _ := find(root, "tools"); {
	case k == nil:
		d.Tools = []string{}
	case needsSandbox(d.Tools):
		p.report(k.Line, "tools", "need a sandbox, and sandbox is none")
	}
}

func (p *parser) notYet(key string, n *yaml.Node) { p.report(n.Line, key, "not yet supported") }

func needsSandbox(tools []string) bool {
	for _, t := range tools {
		if t != "task" {
			return true
		}
	}
	return false
}

// find is a key of a mapping and its value; nil when it is not there.
func find(n *yaml.Node, key string) (k, v *yaml.Node) {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

func (p *parser) model(d *Definition, key string, n *yaml.Node) {
	s, ok := p.text(key, n, maxModel)
	if !ok {
		return
	}
	provider, id, _ := strings.Cut(s, "/")
	if !providerName.MatchString(provider) || id == "" || strings.ContainsFunc(id, unicode.IsSpace) {
		p.report(n.Line, key, "must be provider/id, such as anthropic/claude-sonnet-4-6")
		return
	}
	d.Model = model.Ref{Provider: provider, ID: id}
}

func (p *parser) thinking(d *Definition, key string, n *yaml.Node) {
	level, _ := p.word(key, n, string(model.ThinkingOff), string(model.ThinkingMinimal), string(model.ThinkingLow),
		string(model.ThinkingMedium), string(model.ThinkingHigh), string(model.ThinkingXHigh))
	d.Thinking = model.Thinking(level)
}

func (p *parser) sandbox(d *Definition, key string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		if kind, ok := p.word(key, n, string(SandboxLocal), string(SandboxNone)); ok {
			d.Sandbox = Sandbox{Kind: SandboxKind(kind)}
		}
		return
	}
	if k, _ := find(n, "provider"); k != nil {
		p.report(k.Line, key+".provider", "not yet supported")
		return
	}
	if k, _ := find(n, "executor"); k == nil {
		p.report(n.Line, key, "must be local, none or {executor: {labels: {…}}}")
	}
	p.mapping(n, key, reader{"executor", func(key string, n *yaml.Node) {
		d.Sandbox = Sandbox{Kind: SandboxExecutor, Labels: map[string]string{}}
		if _, labels := find(n, "labels"); labels == nil || len(labels.Content) == 0 {
			p.report(n.Line, key, "must have labels that say which executors will do")
		}
		p.mapping(n, key, reader{"labels", func(key string, n *yaml.Node) { p.labels(d.Sandbox.Labels, key, n) }})
	}})
}

func (p *parser) labels(labels map[string]string, key string, n *yaml.Node) {
	p.pairs(n, key, func(name, key string, k, v *yaml.Node) {
		value, ok := p.text(key, v, maxLabel)
		switch {
		case !labelName.MatchString(name):
			p.report(k.Line, key, "cannot be a label: it must begin with a letter or digit and have at most 63 letters, digits and . _ / -")
		case ok && value == "":
			p.report(v.Line, key, "must not be empty")
		case ok:
			labels[name] = value
		}
	})
}

func (p *parser) cwd(d *Definition, key string, n *yaml.Node) {
	dir, ok := p.text(key, n, maxPath)
	switch {
	case ok && strings.TrimSpace(dir) == "":
		p.report(n.Line, key, "must not be empty")
	case ok && strings.ContainsAny(dir, "\n\t"):
		p.report(n.Line, key, "must not contain line breaks or tabs")
	case ok:
		d.Cwd = dir
	}
}

func (p *parser) env(d *Definition, key string, n *yaml.Node) {
	p.pairs(n, key, func(name, key string, k, v *yaml.Node) {
		value, ok := p.text(key, v, maxValue)
		if !variable.MatchString(name) {
			p.report(k.Line, key, "cannot be a variable's name: letters, digits and _, not beginning with a digit")
			return
		}
		if !ok {
			return
		}
		if d.Env == nil {
			d.Env = Env{}
		}
		d.Env[name] = value
		parts, err := template(value)
		if err != nil {
			p.report(v.Line, key, "%v", err)
			return
		}
		for _, part := range parts {
			if p.lookup == nil || !part.ref {
				continue
			}
			if _, set := p.lookup(part.text); !set {
				p.report(v.Line, key, "variable %s is not set in the environment of control", part.text)
			}
		}
	})
}

func (p *parser) tools(d *Definition, key string, n *yaml.Node) {
	if tools, ok := p.words(key, n, toolNames); ok {
		d.Tools = tools
	}
}

func (p *parser) expose(d *Definition, key string, n *yaml.Node) {
	names, ok := p.words(key, n, []string{string(HTTP), string(WebSocket)})
	if !ok {
		return
	}
	d.Expose = make([]Surface, len(names))
	for i, name := range names {
		d.Expose[i] = Surface(name)
	}
}

func (p *parser) limits(d *Definition, key string, n *yaml.Node) {
	small := func(to *int) func(string, *yaml.Node) {
		return func(key string, n *yaml.Node) {
			if v, ok := p.count(key, n, math.MaxInt32); ok {
				*to = int(v)
			}
		}
	}
	p.mapping(n, key,
		reader{"turns", small(&d.Limits.Turns)},
		reader{"tokens", func(key string, n *yaml.Node) { d.Limits.Tokens, _ = p.count(key, n, math.MaxInt64) }},
		reader{"cost_usd", func(key string, n *yaml.Node) { d.Limits.CostUSD, _ = p.amount(key, n) }},
		reader{"timeout", func(key string, n *yaml.Node) { p.timeout(d, key, n) }},
		reader{"attempts", small(&d.Limits.Attempts)},
	)
}

func (p *parser) timeout(d *Definition, key string, n *yaml.Node) {
	const want = "must be a duration, such as 30m or 1h"
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		p.report(n.Line, key, want+", got %s", kindOf(n))
		return
	}
	v, err := time.ParseDuration(n.Value)
	switch {
	case err != nil:
		p.report(n.Line, key, want)
	case v <= 0:
		p.report(n.Line, key, "must be positive")
	default:
		d.Limits.Timeout = v
	}
}
