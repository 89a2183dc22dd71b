package document

import (
	"errors"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/internal/errs"
)

var errTest = errs.New(errs.InvalidArgument, "TEST", "wrong")

func TestJSONHasPositions(t *testing.T) {
	d := New("f.json")
	root, ok := d.RootJSON("a test", []byte("{\n\t\"ä\": [1, 2.5, true, null],\n\t\"b\": {\"c\": "+
		"\"x\\ud83d\\ude00\"}}\n"))
	if !ok {
		t.Fatal(d.Err(errTest))
	}
	for path, want := range map[string]struct {
		node   *yaml.Node
		at     Position
		is, as string
	}{
		"ä":    {root.Content[0], Position{2, 2}, "text", "ä"},
		"list": {root.Content[1], Position{2, 7}, "a list", ""},
		"1":    {root.Content[1].Content[0], Position{2, 8}, "a number", "1"},
		"2.5":  {root.Content[1].Content[1], Position{2, 11}, "a number", "2.5"},
		"true": {root.Content[1].Content[2], Position{2, 16}, "true or false", "true"},
		"null": {root.Content[1].Content[3], Position{2, 22}, "nothing", "null"},
		"c":    {root.Content[3].Content[1], Position{3, 13}, "text", "x😀"},
	} {
		if got := At(want.node); got != want.at || Kind(want.node) != want.is || want.node.Value != want.as {
			t.Errorf("%s: %s %q at %v", path, Kind(want.node), want.node.Value, got)
		}
	}
	if v, ok := d.Count("n", root.Content[1].Content[0], 5); !ok || v != 1 {
		t.Errorf("a count: %d, %v", v, d.Err(errTest))
	}
}

func TestJSONThatIsNone(t *testing.T) {
	for src, want := range map[string]string{
		"":                        "f:1:1: not valid JSON: it ends too early",
		"{\n \"a\": }":            "f:2:7: not valid JSON",
		"{\"a\": 1,}":             "f:1:9: not valid JSON",
		"{\"a\" 1}":               "f:1:6: not valid JSON",
		"[1\n":                    "not valid JSON: it ends too early",
		"{} {}":                   "f:1:4: the file must be a single value of JSON",
		"// no\n{}":               "f:1:1: not valid JSON",
		strings.Repeat("[", 1000): "nested too deeply",
	} {
		d := New("f")
		_, ok := d.RootJSON("the file", []byte(src))
		if err := d.Err(errTest); ok || !errors.Is(err, errTest) || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%.20q: %v, want %s", src, err, want)
		}
	}
}
