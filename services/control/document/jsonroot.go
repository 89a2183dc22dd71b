package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxNesting bounds how deep lists and objects of JSON are in each other.
const maxNesting = 100

// RootJSON parses JSON to its one root node. When ok is false the problem is reported. what names src in it.
func (d *Document) RootJSON(what string, src []byte) (root *yaml.Node, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	r := &jsonReader{src: src, dec: dec}
	root, err := r.value(0)
	at := r.begins()
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return root, true
		}
		d.Report(r.position(at), "", "%s must be a single value of JSON", what)
		return nil, false
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		// Of a character between tokens it is the offset, and of one within a token that of the next.
		if at = int(syntax.Offset); syntax.Offset > dec.InputOffset() {
			at--
		}
	}
	text := err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		text = "it ends too early"
	}
	d.Report(r.position(at), "", "not valid JSON: %s", text)
	return nil, false
}

// jsonReader makes nodes of tokens.
type jsonReader struct {
	src []byte
	dec *json.Decoder
}

// begins is where the next token is.
func (r *jsonReader) begins() int {
	at := int(r.dec.InputOffset())
	for at < len(r.src) && bytes.IndexByte([]byte(" \t\r\n,:"), r.src[at]) >= 0 {
		at++
	}
	return at
}

// position is the place of a byte.
func (r *jsonReader) position(at int) Position {
	before := r.src[:min(at, len(r.src))]
	line := bytes.LastIndexByte(before, '\n') + 1
	return Position{bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[line:]) + 1}
}

var errNesting = errors.New("it is nested too deeply")

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	where := r.position(r.begins())
	token, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: where.Line, Column: where.Column}
	switch v := token.(type) {
	case string:
		n.Tag, n.Value, n.Style = "!!str", v, yaml.DoubleQuotedStyle
	case json.Number:
		if n.Tag, n.Value = "!!float", v.String(); !strings.ContainsAny(v.String(), ".eE") {
			n.Tag = "!!int"
		}
	case bool:
		if n.Tag, n.Value = "!!bool", "false"; v {
			n.Value = "true"
		}
	case nil:
		n.Tag, n.Value = "!!null", "null"
	case json.Delim:
		if n.Kind, n.Tag = yaml.SequenceNode, "!!seq"; v == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		if depth == maxNesting {
			return nil, errNesting
		}
		for r.dec.More() { // keys and values alike
			child, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err = r.dec.Token()
	}
	return n, err
}
