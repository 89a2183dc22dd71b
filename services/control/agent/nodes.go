package agent

import (
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// reader reads the value of one key.
type reader struct {
	name string
	read func(key string, value *yaml.Node)
}

// mapping reads a mapping whose keys are all known. prefix is the path of the mapping itself, "" at the root.
func (p *parser) mapping(n *yaml.Node, prefix string, known ...reader) {
	names := make([]string, len(known))
	for i, r := range known {
		names[i] = r.name
	}
	p.pairs(n, prefix, func(name, key string, k, v *yaml.Node) {
		i := slices.Index(names, name)
		if i < 0 {
			p.report(k.Line, key, "unknown key; there are %s", strings.Join(names, ", "))
			return
		}
		known[i].read(key, v)
	})
}

// pairs walks a mapping with text keys, each once.
func (p *parser) pairs(n *yaml.Node, prefix string, each func(name, key string, k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		p.report(n.Line, prefix, "must be a mapping of keys to values, got %s", kindOf(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || (k.ShortTag() != "!!str" && k.ShortTag() != "!!merge") {
			p.report(k.Line, prefix, "keys must be text, got %s", kindOf(k))
			continue
		}
		key := printable(k.Value)
		if prefix != "" {
			key = prefix + "." + key
		}
		if seen[k.Value] {
			p.report(k.Line, key, "is given twice")
			continue
		}
		seen[k.Value] = true
		each(k.Value, key, k, v)
	}
}

// text reads a string of at most most characters without control characters.
func (p *parser) text(key string, n *yaml.Node, most int) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		hint := ""
		if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" {
			hint = "; put it in quotes"
		}
		p.report(n.Line, key, "must be text, got %s%s", kindOf(n), hint)
		return "", false
	}
	switch {
	case utf8.RuneCountInString(n.Value) > most:
		p.report(n.Line, key, "must have at most %d characters", most)
	case strings.ContainsFunc(n.Value, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }):
		p.report(n.Line, key, "must not contain control characters")
	default:
		return n.Value, true
	}
	return "", false
}

// word reads a string that must be one of the given.
func (p *parser) word(key string, n *yaml.Node, choices ...string) (string, bool) {
	s, ok := p.text(key, n, math.MaxInt)
	if ok && !slices.Contains(choices, s) {
		p.report(n.Line, key, "must be one of %s, got %q", strings.Join(choices, ", "), printable(s))
		return "", false
	}
	return s, ok
}

// words reads a list of distinct words, and returns them in the order of choices.
func (p *parser) words(key string, n *yaml.Node, choices []string) ([]string, bool) {
	if n.Kind != yaml.SequenceNode {
		p.report(n.Line, key, "must be a list, got %s", kindOf(n))
		return nil, false
	}
	given := map[string]bool{}
	valid := true
	for _, item := range n.Content {
		w, ok := p.word(key, item, choices...)
		if ok && given[w] {
			p.report(item.Line, key, "%s is given twice", w)
			ok = false
		}
		given[w] = true
		valid = valid && ok
	}
	out := []string{}
	for _, c := range choices {
		if given[c] {
			out = append(out, c)
		}
	}
	return out, valid
}

// count reads a positive whole number of at most most.
func (p *parser) count(key string, n *yaml.Node, most int64) (int64, bool) {
	var v int64
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Decode(&v) != nil {
		p.report(n.Line, key, "must be a whole number, got %s", kindOf(n))
		return 0, false
	}
	if v <= 0 || v > most {
		p.report(n.Line, key, "must be positive and at most %d", most)
		return 0, false
	}
	return v, true
}

// amount reads a positive number.
func (p *parser) amount(key string, n *yaml.Node) (float64, bool) {
	var v float64
	if n.Kind != yaml.ScalarNode || (n.ShortTag() != "!!int" && n.ShortTag() != "!!float") || n.Decode(&v) != nil {
		p.report(n.Line, key, "must be a number, got %s", kindOf(n))
		return 0, false
	}
	if !(v > 0) || math.IsInf(v, 0) {
		p.report(n.Line, key, "must be positive")
		return 0, false
	}
	return v, true
}

// kindOf names what a node is, without its value, which may be secret.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	case "!!timestamp":
		return "a date"
	}
	return "text"
}

// printable is a name from a file as it can stand in a one-line error.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > 64 {
		return string(runes[:64]) + "..."
	}
	return s
}
