package document

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// scalars are all scalars below a node.
func scalars(n *yaml.Node) (all []*yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		return []*yaml.Node{n}
	}
	for _, c := range n.Content {
		all = append(all, scalars(c)...)
	}
	return all
}

// checkPlaces compares each character of every scalar with the one at its place. Characters that are written otherwise,
// as escapes and folded line breaks are, are left out; how many were compared is returned.
func checkPlaces(t *testing.T, src string) (compared int) {
	t.Helper()
	var doc yaml.Node
	if yaml.Unmarshal([]byte(src), &doc) != nil {
		return 0
	}
	lines := Lines(src)
	for _, n := range scalars(&doc) {
		places := Places(lines, n)
		if len(places) != len(n.Value)+1 {
			t.Fatalf("%q: %d places of %q", src, len(places), n.Value)
		}
		for i, c := range n.Value {
			at := places[i]
			if at.Line < 1 || at.Column < 1 || c == ' ' || c == '\n' || c == '\t' {
				continue
			}
			line := ""
			if at.Line <= len(lines) {
				line = lines[at.Line-1]
			}
			for range at.Column - 1 {
				_, size := utf8.DecodeRuneInString(line)
				line = line[size:]
			}
			got, _ := utf8.DecodeRuneInString(line)
			escaped := n.Style&yaml.DoubleQuotedStyle != 0 && got == '\\'
			if got != c && !escaped {
				t.Errorf("%q: %q of %q is said to be at %v, where %q is", src, c, n.Value, at, got)
				return compared
			}
			compared++
		}
	}
	return compared
}

func TestPlaces(t *testing.T) {
	for src, least := range map[string]int{
		"a: b":                                 2,
		"a: bcd efg  # comment":                7,
		"a: 'it''s'":                           5,
		"a: \"x\\ty\\u00e9z\\\\\"":             5,
		"a: \"one\\\n  two\\\n  three\"":       11,
		"a: one\n  two\n\n  three":             11,
		"a: 'one\n  two\n\n\n  three'":         11,
		"a: |\n  one\n   two\n\n  three\n":     11,
		"a: |+\n  one\n\n\nb: c":               5,
		"a: |2\n    one\n  two\n":              6,
		"a: >\n  one\n  two\n\n  three\n":      11,
		"a: >-\n  one\n    two\n    \n  three": 11,
		"a: >\n\n  one\n\n\n  two\n":           6,
		"- x\n- [y, \"z\", 'ü']":               4,
		"\"k\\u00ebz\": {a: b}":                3,
		"a: |\r\n  one\r\n  two\r\n":           6,
		"a: b: c":                              0,
		"a: &x one":                            4,
		"a: &x\n  one":                         4,
		"a: &x \"one\"\nb: &y |\n  two":        8,
		"a: !!str one\nb: &z !!str 'two'":      8,
	} {
		if n := checkPlaces(t, src); n < least {
			t.Errorf("%q: only %d characters were compared", src, n)
		}
	}
}

// Long lines are not gone through again for each of their characters.
func TestPlacesOfALongLine(t *testing.T) {
	src := "a: \"" + strings.Repeat("é", 200_000) + "\""
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(src), &doc); err != nil {
		t.Fatal(err)
	}
	places := Places(Lines(src), doc.Content[0].Content[1])
	if last := places[len(places)-1]; last != (Position{1, 200_005}) {
		t.Errorf("the end is at %v", last)
	}
}

func FuzzPlaces(f *testing.F) {
	for _, src := range []string{
		"a: >\n one\n  two\n\n three", "a: \"\\x41\\\n  b\"", "a: |2-\n   x\n  y", "- 'a\n\n  b'", "? |\n  k\n: v",
	} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) < 1000 && utf8.ValidString(src) && !strings.ContainsAny(src, "\ufeff\u0085\u2028\u2029\r\t") {
			checkPlaces(t, src)
		}
	})
}

func TestTree(t *testing.T) {
	for src, want := range map[string]string{
		"a: &x {b: 1}\nc: *x":       "",
		"a: 1\na: 2":                "f:2:1: a is given twice, in line 1 too",
		"a: &x {b: 1}\nc: {<<: *x}": "f:2:5: merge keys are not allowed: write the keys themselves",
		"a: !x y": "f:1:4: YAML reads !x as a tag: what begins with ! must be in quotes, " +
			`such as "!ready"`,
		"a: !!set {}": "f:1:4: tags are not allowed",
		"a: &x [*x]":  "f:1:8: *x stands inside of what it names",
		"? [a]\n: b":  "f:1:3: keys must be text, got a list; put it in quotes",
		"null: b":     "f:1:1: keys must be text, got nothing; put it in quotes",
		"a: b\nif: !has(a.b) && c": "f:2: not valid YAML: did not find expected alphabetic or numeric character: an " +
			"expression that begins with ! must be in quotes",
		"a: b\nc: ${{ {'a': 1} }} d: x": "f:2: not valid YAML: mapping values are not allowed in this context: " +
			"a value that contains a colon and a blank must be in quotes",
		"a: *none": "f:1: not valid YAML: unknown anchor 'none' referenced",
	} {
		d := New("f")
		root, ok := d.Tree("a file", src)
		err := d.Err(errTest)
		if got := ""; err != nil {
			got = err.Error()
			if got != want || !errors.Is(err, errTest) {
				t.Errorf("%q: %s", src, got)
			}
			continue
		}
		if want != "" || !ok || root == nil {
			t.Errorf("%q is taken", src)
		}
		for _, n := range scalars(root) {
			if n.Kind == yaml.AliasNode {
				t.Errorf("%q: an alias is left", src)
			}
		}
	}
}

// What YAML takes for a tag is read as the text that it was meant to be, so that its other faults are found too.
func TestTreeReadsATagAsText(t *testing.T) {
	d := New("f")
	root, ok := d.Tree("a file", "if: !has(a.b) == c")
	_, v := Find(root, "if")
	if !ok || v == nil || v.Value != "!has(a.b) == c" || d.Err(errTest) == nil {
		t.Errorf("%+v", v)
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"retries": "retry", "stdot": "stdout", "fats": "fast", "agnet": "agent", "x": "", "zebra": "",
		"promp": "prompt",
	} {
		if got := Nearest(name, []string{"retry", "stdout", "fast", "agent", "prompt", "as", "id"}); got != want {
			t.Errorf("%s is nearest to %q", name, got)
		}
	}
}
