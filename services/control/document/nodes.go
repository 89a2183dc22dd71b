package document

import (
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Field is a key that is known.
type Field struct {
	name string
	read func(key string, value *yaml.Node)
}

// Name is the key.
func (f Field) Name() string { return f.name }

// Read reads the value of the key, which has a whole path.
func (f Field) Read(key string, value *yaml.Node) { f.read(key, value) }

// Key is a field whose value read reads; it is given the whole path of the key.
func Key(name string, read func(key string, value *yaml.Node)) Field { return Field{name, read} }

// Mapping reads a mapping whose keys are all known. prefix is the path of the mapping itself, "" at the root.
func (d *Document) Mapping(n *yaml.Node, prefix string, known ...Field) {
	names := make([]string, len(known))
	for i, r := range known {
		names[i] = r.name
	}
	d.Pairs(n, prefix, func(name, key string, k, v *yaml.Node) {
		i := slices.Index(names, name)
		if i < 0 {
			d.Report(At(k), key, "unknown key; there are %s", strings.Join(names, ", "))
			return
		}
		known[i].read(key, v)
	})
}

// Find is a key of a mapping and its value; nil when it is not there.
func Find(n *yaml.Node, key string) (k, v *yaml.Node) {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

// Pairs walks a mapping with text keys, each once.
func (d *Document) Pairs(n *yaml.Node, prefix string, each func(name, key string, k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.Report(At(n), prefix, "must be a mapping of keys to values, got %s", Kind(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || (k.ShortTag() != "!!str" && k.ShortTag() != "!!merge") {
			d.Report(At(k), prefix, "keys must be text, got %s", Kind(k))
			continue
		}
		key := Printable(k.Value)
		if prefix != "" {
			key = prefix + "." + key
		}
		if seen[k.Value] {
			d.Report(At(k), key, "is given twice")
			continue
		}
		seen[k.Value] = true
		each(k.Value, key, k, v)
	}
}

// Text reads a string of at most most characters without control characters.
func (d *Document) Text(key string, n *yaml.Node, most int) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		hint := ""
		if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" {
			hint = "; put it in quotes"
		}
		d.Report(At(n), key, "must be text, got %s%s", Kind(n), hint)
		return "", false
	}
	switch {
	case utf8.RuneCountInString(n.Value) > most:
		d.Report(At(n), key, "must have at most %d characters", most)
	case strings.ContainsFunc(n.Value, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }):
		d.Report(At(n), key, "must not contain control characters")
	default:
		return n.Value, true
	}
	return "", false
}

// Template reads the references in value, which stands at n. With a lookup they must be set.
func (d *Document) Template(
	key string, n *yaml.Node, value string, lookup func(name string) (value string, ok bool),
) (Template, bool) {
	t, err := ParseTemplate(value)
	if err != nil {
		d.Report(At(n), key, "%v", err)
		return nil, false
	}
	ok := true
	for _, name := range t.Names() {
		if lookup == nil {
			break
		}
		if _, set := lookup(name); !set {
			d.Report(At(n), key, "variable %s is not set in the environment of control", name)
			ok = false
		}
	}
	return t, ok
}

// Word reads a string that must be one of the given.
func (d *Document) Word(key string, n *yaml.Node, choices ...string) (string, bool) {
	s, ok := d.Text(key, n, math.MaxInt)
	if ok && !slices.Contains(choices, s) {
		d.Report(At(n), key, "must be one of %s, got %q", strings.Join(choices, ", "), Printable(s))
		return "", false
	}
	return s, ok
}

// Words reads a list of distinct words, and returns them in the order of choices.
func (d *Document) Words(key string, n *yaml.Node, choices []string) ([]string, bool) {
	given, ok := d.List(key, n, func(item *yaml.Node) (string, bool) { return d.Word(key, item, choices...) })
	out := []string{}
	for _, c := range choices {
		if slices.Contains(given, c) {
			out = append(out, c)
		}
	}
	return out, ok
}

// List reads a list of different texts, each with read. When ok is false the problems are reported.
func (d *Document) List(key string, n *yaml.Node, read func(*yaml.Node) (string, bool)) (list []string, ok bool) {
	if n.Kind != yaml.SequenceNode {
		d.Report(At(n), key, "must be a list, got %s", Kind(n))
		return nil, false
	}
	ok = true
	for _, item := range n.Content {
		text, valid := read(item)
		if valid && slices.Contains(list, text) {
			d.Report(At(item), key, "%s is given twice", text)
			valid = false
		}
		list = append(list, text)
		ok = ok && valid
	}
	return list, ok
}

// Count reads a positive whole number of at most most.
func (d *Document) Count(key string, n *yaml.Node, most int64) (int64, bool) {
	var v int64
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Decode(&v) != nil {
		d.Report(At(n), key, "must be a whole number, got %s", Kind(n))
		return 0, false
	}
	if v <= 0 || v > most {
		d.Report(At(n), key, "must be positive and at most %d", most)
		return 0, false
	}
	return v, true
}

// Amount reads a positive number, or 0 if zero allows it.
func (d *Document) Amount(key string, n *yaml.Node, zero bool) (float64, bool) {
	var v float64
	if n.Kind != yaml.ScalarNode || (n.ShortTag() != "!!int" && n.ShortTag() != "!!float") || n.Decode(&v) != nil {
		d.Report(At(n), key, "must be a number, got %s", Kind(n))
		return 0, false
	}
	switch {
	case v > 0 && !math.IsInf(v, 0), v == 0 && zero:
		return v, true
	case zero:
		d.Report(At(n), key, "must not be negative")
	default:
		d.Report(At(n), key, "must be positive")
	}
	return 0, false
}

// Duration reads a positive duration in Go's form, such as 1h30m.
func (d *Document) Duration(key string, n *yaml.Node) (time.Duration, bool) {
	const want = "must be a duration, such as 30m or 1h"
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		d.Report(At(n), key, want+", got %s", Kind(n))
		return 0, false
	}
	v, err := time.ParseDuration(n.Value)
	switch {
	case err != nil:
		d.Report(At(n), key, want)
	case v <= 0:
		d.Report(At(n), key, "must be positive")
	default:
		return v, true
	}
	return 0, false
}

// Bool reads true or false.
func (d *Document) Bool(key string, n *yaml.Node) (v, ok bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(&v) != nil {
		d.Report(At(n), key, "must be true or false, got %s", Kind(n))
		return false, false
	}
	return v, true
}

// Kind names what a node is, without its value, which may be secret.
func Kind(n *yaml.Node) string {
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

// Printable is a name from a file as it can stand in a one-line error.
func Printable(s string) string {
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
