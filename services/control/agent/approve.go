package agent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
)

const (
	// maxRules bounds the rules of an agent: each call is judged by them.
	maxRules = 100
	// maxPattern bounds the name of a tool, or a pattern of names, in characters.
	maxPattern = 128
)

// approve reads the rules of what needs somebody's approval. Whether there are such tools is for together to check.
func (p *parser) approve(d *Definition, key string, n *yaml.Node) {
	switch {
	case n.Kind != yaml.SequenceNode:
		p.Report(document.At(n), key, "must be a list of rules, got %s", document.Kind(n))
		return
	case len(n.Content) > maxRules:
		p.Report(document.At(n), key, "must have at most %d rules", maxRules)
		return
	}
	for _, item := range n.Content {
		d.Approve = append(d.Approve, p.rule(key, item))
	}
}

func (p *parser) rule(key string, n *yaml.Node) (r approval.Rule) {
	var when *yaml.Node
	p.Mapping(n, key,
		document.Key("tool", func(key string, n *yaml.Node) { r.Tools = p.patterns(key, n) }),
		document.Key("when", func(key string, n *yaml.Node) {
			if text, ok := p.Text(key, n, approval.MaxCondition); ok {
				r.When, when = text, n
			}
		}),
		document.Key("do", func(key string, n *yaml.Node) {
			do, _ := p.Word(key, n, string(approval.DoAsk), string(approval.DoAllow), string(approval.DoDeny))
			r.Do = approval.Do(do)
		}),
		document.Key("to", func(key string, n *yaml.Node) { r.To, _ = p.Words(key, n, approval.LevelNames()) }),
		document.Key("timeout", func(key string, n *yaml.Node) { r.Timeout, _ = p.Duration(key, n) }),
		document.Key("on_timeout", func(key string, n *yaml.Node) {
			do, _ := p.Word(key, n, string(approval.DoDeny), string(approval.DoAllow))
			r.OnTimeout = approval.Do(do)
		}),
		document.Key("other", func(key string, n *yaml.Node) { r.Other, _ = p.Bool(key, n) }),
	)
	if n.Kind != yaml.MappingNode {
		return r
	}
	for _, must := range []string{"tool", "do"} {
		if k, _ := document.Find(n, must); k == nil {
			p.Report(document.At(n), key+"."+must, "is required")
		}
	}
	if k, v := document.Find(n, "to"); k != nil && len(v.Content) == 0 {
		p.Report(document.At(k), key+".to", "names nobody: without this key it is role:approver")
	}
	for _, asks := range []string{"to", "timeout", "on_timeout", "other"} {
		if k, _ := document.Find(n, asks); k != nil && r.Do != "" && r.Do != approval.DoAsk {
			p.Report(document.At(k), key+"."+asks, "is for rules that ask")
		}
	}
	if k, _ := document.Find(n, "on_timeout"); k != nil && r.Timeout == 0 {
		p.Report(document.At(k), key+".on_timeout", "needs a timeout")
	}
	if when != nil {
		p.condition(key+".when", when, r)
	}
	return r
}

// patterns reads the names of tools: one, or a list.
func (p *parser) patterns(key string, n *yaml.Node) []string {
	if n.Kind == yaml.ScalarNode {
		name, _ := p.pattern(key, n)
		return []string{name}
	}
	names, ok := p.List(key, n, func(item *yaml.Node) (string, bool) { return p.pattern(key, item) })
	if ok && len(names) == 0 {
		p.Report(document.At(n), key, "names no tool")
	}
	return names
}

func (p *parser) pattern(key string, n *yaml.Node) (string, bool) {
	name, ok := p.Text(key, n, maxPattern)
	bad := func(r rune) bool {
		return r != '*' && r != '_' && r != '-' && (r > 'z' || !letter(byte(r)) && !digit(byte(r)))
	}
	if ok && (name == "" || strings.ContainsFunc(name, bad)) {
		p.Report(document.At(n), key, "%q cannot be a tool's name, or a pattern of names: letters, digits, _, - and *",
			document.Printable(name))
		return "", false
	}
	p.places[mention{key, name}] = document.At(n)
	return name, ok
}

// condition checks what a rule asks of the arguments. Those of built-in tools are known here.
func (p *parser) condition(key string, n *yaml.Node, r approval.Rule) {
	var schemas []json.RawMessage
	for _, name := range r.Tools {
		t, err := builtin.Tools().Find(name)
		if err != nil {
			schemas = nil // its arguments are not known here
			break
		}
		schemas = append(schemas, t.Schema)
	}
	for _, bad := range approval.Check(r.When, schemas) {
		at, within := place(n, bad)
		p.Report(at, key, "%s%s", within, bad.Text)
	}
}

// place is where a position within a text stands in the file. The indentation of a block is not known: within is its
// column then, which counts from the first character of the text's own line.
func place(n *yaml.Node, at approval.Problem) (where document.Position, within string) {
	where = document.At(n)
	switch within = fmt.Sprintf("column %d of the text: ", at.Column); {
	case n.Style&yaml.LiteralStyle != 0:
		return document.Position{Line: where.Line + at.Line}, within
	case n.Style&yaml.FoldedStyle != 0:
		return document.Position{Line: where.Line + 1}, within
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		where.Column++
	}
	where.Column += at.Column - 1
	return where, ""
}

// checkRules checks what rules say against the rest of the definition.
func (p *parser) checkRules(d *Definition) {
	const key = "approve.tool"
	for _, r := range d.Approve {
		for _, name := range r.Tools {
			if !p.mayHave(d, name) {
				p.Report(cmp.Or(p.places[mention{key, name}], document.Top), key,
					"the agent has no tool %s, so that the rule never holds", name)
			}
		}
	}
}

// Unreachable are the agent's rules that wait for a decision longer than a submission may run, by their numbers: the
// submission ends first.
func (d Definition) Unreachable() (numbers []int) {
	for i, r := range d.Approve {
		if limit := d.Limits.Timeout; limit > 0 && r.Timeout > limit {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}

// mayHave reports whether the agent, or one of those that it asks, may have tools of a name.
func (p *parser) mayHave(d *Definition, name string) bool {
	return strings.Contains(name, "*") || strings.HasPrefix(name, "mcp__") || len(d.Subagents) > 0 ||
		slices.Contains(builtin.Names(), name) || slices.Contains(d.Tools, name) ||
		slices.Contains(d.Tools, Offered+name) || slices.Contains(ownTools, name)
}

// ownTools are tools of control that loops are offered without being named in tools.
var ownTools = []string{"activate_skill", "finish", "give_up", "web_fetch"}
