package document

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds the nodes of a document when all its aliases stand for what they name.
const maxNodes = 50_000

// Tree is Root of a document that may have aliases: each is replaced by what it names. Tags, merge keys, keys that are
// no text and keys that are given twice are reported, and left out or taken for text, so that reading can go on. ok is
// false when it cannot: when an alias contains itself, or there are more than 50,000 nodes in all.
func (d *Document) Tree(what, src string) (root *yaml.Node, ok bool) {
	if root, ok = d.parse(what, src); root == nil {
		if !ok {
			d.hint(src)
		}
		return root, ok
	}
	t := tree{Document: d, left: maxNodes}
	whole := t.whole(root, nil)
	if t.left < 0 {
		d.Report(At(root), "", "has more than %d values, aliases counted as often as they are used", maxNodes)
	}
	return whole, t.left >= 0 && !t.circle
}

// hint adds to the problem of a source that is no YAML what is likely to be meant: an expression that is not in quotes.
func (d *Document) hint(src string) {
	p := &d.problems[len(d.problems)-1]
	lines := Lines(src)
	if p.at.Line < 1 || p.at.Line > len(lines) {
		return
	}
	_, value, _ := strings.Cut(lines[p.at.Line-1], ": ")
	switch value = strings.TrimSpace(value); {
	case value != "" && strings.ContainsRune("!&", rune(value[0])):
		p.text += ": an expression that begins with " + value[:1] + " must be in quotes"
	case strings.Contains(value, ": "):
		p.text += ": a value that contains a colon and a blank must be in quotes"
	}
}

// tree makes a tree of what YAML calls one.
type tree struct {
	*Document
	left   int
	circle bool
}

// whole is a copy of n without aliases; above are the nodes that n is in.
func (t *tree) whole(n *yaml.Node, above []*yaml.Node) *yaml.Node {
	if t.left--; t.left < 0 || t.circle {
		return n
	}
	if n.Kind == yaml.AliasNode {
		if slices.Contains(above, n.Alias) {
			t.Report(At(n), "", "*%s stands inside of what it names", Printable(n.Value))
			t.circle = true
			return n
		}
		return t.whole(n.Alias, above)
	}
	if n.Style&yaml.TaggedStyle != 0 {
		n = t.tagged(n)
	}
	content := n.Content
	if n.Kind == yaml.MappingNode {
		content = t.keys(n)
	}
	copied := *n
	copied.Content = make([]*yaml.Node, len(content))
	above = append(above, n)
	for i, child := range content {
		copied.Content[i] = t.whole(child, above)
	}
	return &copied
}

// tagged refuses a tag. An expression that begins with ! is one for YAML: it is read as the text that it was meant to
// be.
func (t *tree) tagged(n *yaml.Node) *yaml.Node {
	plain := *n
	plain.Style &^= yaml.TaggedStyle
	if strings.HasPrefix(n.Tag, "!!") || n.Kind != yaml.ScalarNode {
		t.Report(At(n), "", "tags are not allowed")
		plain.Tag = ""
		if n.Kind == yaml.ScalarNode {
			plain.Tag = "!!str"
		}
		return &plain
	}
	t.Report(At(n), "", "YAML reads %s as a tag: what begins with ! must be in quotes, such as \"!ready\"",
		Printable(n.Tag))
	plain.Tag, plain.Value = "!!str", strings.TrimSpace(n.Tag+" "+n.Value)
	return &plain
}

// keys are the keys and values of a mapping that can be read.
func (t *tree) keys(n *yaml.Node) (good []*yaml.Node) {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		before, twice := lines[k.Value]
		switch {
		case k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge":
			t.Report(At(k), "", "merge keys are not allowed: write the keys themselves")
		case k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str":
			t.Report(At(k), "", "keys must be text, got %s; put it in quotes", Kind(k))
		case twice:
			t.Report(At(k), "", "%s is given twice, in line %d too", Printable(k.Value), before)
		default:
			lines[k.Value] = k.Line
			good = append(good, k, n.Content[i+1])
		}
	}
	return good
}

// Nearest is that of the known names which name may have been meant to be; "" when none is like it.
func Nearest(name string, known []string) string {
	best, least := "", 1+min(3, (len(name)+2)/3)
	if len(name) < 3 {
		return ""
	}
	for _, k := range known {
		if d := distance(name, k, least); d < least {
			best, least = k, d
		}
	}
	return best
}

// DidYouMean is what an error about a name ends with: the nearest of the known names, "" when none is like it.
func DidYouMean(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return ": did you mean " + near + "?"
	}
	return ""
}

// distance is how many letters must be changed, left out, added or swapped with the next to make b of a. It is only
// told apart up to most.
func distance(a, b string, most int) int {
	if len(a) > 64 || len(b) > 64 || max(len(a)-len(b), len(b)-len(a)) > most {
		return most + 1
	}
	var older, old []int
	now := make([]int, len(b)+1)
	for j := range now {
		now[j] = j
	}
	for i := 1; i <= len(a); i++ {
		older, old, now = old, now, make([]int, len(b)+1)
		now[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			now[j] = min(old[j]+1, now[j-1]+1, old[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], older[j-2]+1)
			}
		}
	}
	return now[len(b)]
}
