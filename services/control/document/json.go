package document

import (
	"bytes"
	"encoding/json"
	"math"

	"go.yaml.in/yaml/v3"
)

// JSON is a value as compact JSON, with the keys of mappings in the order in which they were written.
func (d *Document) JSON(key string, n *yaml.Node) (json.RawMessage, bool) {
	var out bytes.Buffer
	if !d.encode(&out, key, n) {
		return nil, false
	}
	return out.Bytes(), true
}

func (d *Document) encode(out *bytes.Buffer, key string, n *yaml.Node) bool {
	ok := true
	switch n.Kind {
	case yaml.MappingNode:
		before := len(d.problems)
		separator := byte('{')
		d.Pairs(n, key, func(name, key string, _, v *yaml.Node) {
			out.WriteByte(separator)
			separator = ','
			writeJSON(out, name)
			out.WriteByte(':')
			ok = d.encode(out, key, v) && ok
		})
		if separator == '{' {
			out.WriteByte('{')
		}
		out.WriteByte('}')
		return ok && len(d.problems) == before
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			ok = d.encode(out, key, item) && ok
		}
		out.WriteByte(']')
		return ok
	}
	return d.encodeScalar(out, key, n)
}

func (d *Document) encodeScalar(out *bytes.Buffer, key string, n *yaml.Node) bool {
	var v any
	switch tag := n.ShortTag(); {
	case tag == "!!timestamp" || tag == "!!binary":
		d.Report(At(n), key, "must be a value that JSON has, got %s; put it in quotes", Kind(n))
		return false
	case n.Decode(&v) != nil:
		d.Report(At(n), key, "must be a value that JSON has, got %s", Kind(n))
		return false
	}
	if f, ok := v.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
		d.Report(At(n), key, "must be a number that JSON has: neither infinite nor .nan")
		return false
	}
	writeJSON(out, v)
	return true
}

// writeJSON writes a scalar of YAML, which always has a JSON form. <, > and & stay as they are.
func writeJSON(out *bytes.Buffer, v any) {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	out.Truncate(out.Len() - 1) // the encoder's line break
}
