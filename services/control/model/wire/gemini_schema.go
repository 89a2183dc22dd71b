package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// geminiSchema is a JSON Schema in the subset that Gemini takes: without references, with one type each, and with the
// keywords that its API knows. What cannot be said is left out, so that the tool itself checks it. nil is for an object
// without properties, which Gemini wants to be left out.
func geminiSchema(raw []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var root map[string]any
	if err := d.Decode(&root); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	left := maxSchemas
	s := subset{root: root, left: &left}.of(root, 0)
	if properties, _ := s["properties"].(map[string]any); s["type"] == "object" && len(properties) == 0 {
		return nil, nil
	}
	return json.Marshal(s)
}

// subset makes subschemas of one schema.
type subset struct {
	root map[string]any
	left *int // so many subschemas may still be looked at
}

// Bounds of what is made of a schema, whose references may lead back or multiply. What is beyond them is any value.
const (
	maxSchemaDepth = 12
	maxSchemas     = 2000
)

// spent reports whether no more may be looked at.
func (u subset) spent(depth int) bool {
	*u.left--
	return *u.left < 0 || depth > maxSchemaDepth
}

// kept are the keywords that are passed on as they are.
var kept = []string{
	"description", "title", "minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties",
	"minimum", "maximum", "pattern", "nullable",
}

// formats are those that Gemini knows.
var formats = []string{"date-time", "enum", "int32", "int64", "float", "double"}

func (u subset) of(v any, depth int) map[string]any {
	s, ok := v.(map[string]any)
	if !ok || u.spent(depth) {
		return map[string]any{"type": "string"} // any value at all
	}
	s = u.whole(s, depth)
	out := map[string]any{}
	for _, name := range kept {
		if value, ok := s[name]; ok {
			out[name] = value
		}
	}
	if f, _ := s["format"].(string); slices.Contains(formats, f) {
		out["format"] = f
	}
	u.enum(out, s)
	u.children(out, s, depth)
	u.kinds(out, s)
	if out["type"] == "array" && out["items"] == nil {
		out["items"] = map[string]any{"type": "string"}
	}
	return out
}

// whole is a schema with its reference and its allOf put into it.
func (u subset) whole(s map[string]any, depth int) map[string]any {
	for range maxSchemaDepth {
		ref, ok := s["$ref"].(string)
		if !ok {
			break
		}
		s = over(s, u.resolve(ref))
	}
	all, ok := s["allOf"].([]any)
	if !ok || u.spent(depth) {
		return s
	}
	merged := maps.Clone(s)
	delete(merged, "allOf")
	for _, part := range all {
		p, ok := part.(map[string]any)
		if !ok {
			continue
		}
		p = u.whole(p, depth+1)
		if more, ok := p["properties"].(map[string]any); ok {
			have, _ := merged["properties"].(map[string]any)
			merged["properties"] = over(have, more)
		}
		if more, ok := p["required"].([]any); ok {
			have, _ := merged["required"].([]any)
			merged["required"] = append(slices.Clone(have), more...)
		}
		merged = over(merged, p)
	}
	return merged
}

// over is both; what s has wins. A reference is used up.
func over(s, under map[string]any) map[string]any {
	out := maps.Clone(under)
	if out == nil {
		out = map[string]any{}
	}
	for name, v := range s {
		if name != "$ref" {
			out[name] = v
		}
	}
	return out
}

// resolve follows a reference within the schema; what is not there is an empty schema.
func (u subset) resolve(ref string) map[string]any {
	path, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return nil
	}
	var at any = u.root
	for _, step := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		if step == "" {
			continue
		}
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		o, _ := at.(map[string]any)
		at = o[step]
	}
	found, _ := at.(map[string]any)
	return found
}

// enum passes on values that are texts; others are told in words.
func (u subset) enum(out, s map[string]any) {
	values, _ := s["enum"].([]any)
	if c, ok := s["const"]; ok {
		values = []any{c}
	}
	var texts []string
	for _, v := range values {
		switch text, ok := v.(string); {
		case v == nil:
			out["nullable"] = true
		case !ok:
			said, _ := json.Marshal(values)
			about, _ := out["description"].(string)
			out["description"] = strings.TrimSpace(about + " One of " + string(said) + ".")
			return
		case text != "": // which Gemini refuses
			texts = append(texts, text)
		}
	}
	if len(texts) > 0 {
		out["enum"] = texts
	}
}

func (u subset) children(out, s map[string]any, depth int) {
	if properties, ok := s["properties"].(map[string]any); ok {
		clean := map[string]any{}
		for name, v := range properties {
			clean[name] = u.of(v, depth+1)
		}
		out["properties"] = clean
		var required []string
		list, _ := s["required"].([]any)
		for _, v := range list {
			if name, ok := v.(string); ok && clean[name] != nil && !slices.Contains(required, name) {
				required = append(required, name)
			}
		}
		if len(required) > 0 {
			out["required"] = required
		}
	}
	if items, ok := s["items"]; ok {
		out["items"] = u.of(items, depth+1)
	} else if items, ok := s["prefixItems"].([]any); ok && len(items) > 0 {
		out["items"] = u.of(items[0], depth+1)
	}
	choices, _ := s["anyOf"].([]any)
	if more, ok := s["oneOf"].([]any); ok && choices == nil {
		choices = more
	}
	var clean []any
	for _, v := range choices {
		if o, ok := v.(map[string]any); ok && o["type"] == "null" {
			out["nullable"] = true
			continue
		}
		clean = append(clean, u.of(v, depth+1))
	}
	switch {
	case len(clean) == 1 && s["type"] == nil:
		one, _ := clean[0].(map[string]any)
		maps.Copy(out, over(out, one))
	case len(clean) > 0:
		out["anyOf"] = clean
	}
}

// kinds gives the schema its one type.
func (u subset) kinds(out, s map[string]any) {
	var types []string
	switch t := s["type"].(type) {
	case string:
		types = []string{t}
	case []any:
		for _, v := range t {
			switch text, _ := v.(string); text {
			case "":
			case "null":
				out["nullable"] = true
			default:
				types = append(types, text)
			}
		}
	}
	switch {
	case len(types) == 1:
		out["type"] = types[0]
	case len(types) > 1 && out["anyOf"] == nil:
		var choices []any
		for _, t := range types {
			choice := map[string]any{"type": t}
			if t == "array" {
				choice["items"] = map[string]any{"type": "string"}
			}
			choices = append(choices, choice)
		}
		out["anyOf"] = choices
	case out["type"] != nil || out["anyOf"] != nil:
	case out["properties"] != nil:
		out["type"] = "object"
	case out["items"] != nil:
		out["type"] = "array"
	default:
		out["type"] = "string"
	}
	if out["enum"] != nil {
		out["type"] = "string"
		delete(out, "format")
	}
}
