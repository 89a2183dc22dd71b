package workflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// Value is any value of YAML, in which texts may have expressions.
type Value struct {
	Type *types.Type
	// Words are all texts that it can be; nil when these are not known.
	Words []string

	text    *expr.Template
	literal any // of what is no text
	items   []*Value
	fields  map[string]*Value
	kind    valueKind
}

type valueKind uint8

const (
	isLiteral valueKind = iota
	isText
	isList
	isMap
)

// Eval is the value in the forms of JSON. Errors are those of expr.Expr.Eval.
func (v *Value) Eval(ctx context.Context, in expr.Values) (any, error) {
	switch v.kind {
	case isText:
		return v.text.Eval(ctx, in)
	case isList:
		list := make([]any, len(v.items))
		for i, item := range v.items {
			var err error
			if list[i], err = item.Eval(ctx, in); err != nil {
				return nil, err
			}
		}
		return list, nil
	case isMap:
		all := make(map[string]any, len(v.fields))
		for _, name := range slices.Sorted(maps.Keys(v.fields)) {
			var err error
			if all[name], err = v.fields[name].Eval(ctx, in); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	return v.literal, nil
}

// constant is the value that it always has, if it has no expressions.
func (v *Value) constant() (any, bool) {
	switch v.kind {
	case isText:
		if v.text == nil {
			return nil, false
		}
		return v.text.Literal()
	case isList:
		list := make([]any, len(v.items))
		for i, item := range v.items {
			var ok bool
			if list[i], ok = item.constant(); !ok {
				return nil, false
			}
		}
		return list, true
	case isMap:
		all := make(map[string]any, len(v.fields))
		for name, field := range v.fields {
			var ok bool
			if all[name], ok = field.constant(); !ok {
				return nil, false
			}
		}
		return all, true
	}
	return v.literal, true
}

// Schema is a JSON Schema 2020-12.
type Schema struct {
	JSON  json.RawMessage
	check tool.Schema
	plain any
}

// newSchema reads a schema.
func newSchema(raw json.RawMessage) (*Schema, error) {
	check, err := tool.NewSchema(raw)
	if err != nil {
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	s := &Schema{JSON: raw, check: check}
	return s, json.Unmarshal(raw, &s.plain)
}

// Problems are what is wrong with a value, one line each.
func (s *Schema) Problems(value json.RawMessage) []string { return s.check.Problems(value) }

// Fill is a value of JSON with the defaults of the schema in place of properties that are absent. Problems are what is
// wrong with it then. Expressions rely on the defaults: inputs and results have to be filled.
func (s *Schema) Fill(value json.RawMessage) (filled json.RawMessage, problems []string) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber() // so that no digit is lost
	var v any
	if err := dec.Decode(&v); err != nil || dec.More() {
		return nil, []string{"it is not JSON"}
	}
	filled, err := rawjson.Encode(fill(s.plain, v))
	if err != nil {
		return nil, []string{err.Error()}
	}
	return filled, s.Problems(filled)
}

// fill puts defaults into objects, and into what they and lists hold.
func fill(schema, v any) any {
	s, ok := schema.(map[string]any)
	if !ok {
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		properties, _ := s["properties"].(map[string]any)
		for name, property := range properties {
			if _, given := v[name]; given {
				v[name] = fill(property, v[name])
				continue
			}
			p, _ := property.(map[string]any)
			if value, has := p["default"]; has {
				v[name] = value
			}
		}
	case []any:
		for i := range v {
			v[i] = fill(s["items"], v[i])
		}
	}
	return v
}

// checkDefaults says which default of a schema breaks the part of the schema that it stands in.
func checkDefaults(schema any, at string) error {
	s, ok := schema.(map[string]any)
	if !ok {
		return nil
	}
	if value, has := s["default"]; has {
		raw, err := rawjson.Encode(s)
		if err != nil {
			return err
		}
		check, err := tool.NewSchema(raw)
		if err != nil {
			return nil //nolint:nilerr // a part that refers to the rest of the schema is checked with it
		}
		given, err := rawjson.Encode(value)
		if err != nil {
			return err
		}
		if problems := check.Problems(given); len(problems) > 0 {
			return fmt.Errorf("the default of %s is not what its schema allows: %s", at, problems[0])
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if err := checkDefaults(properties[name], strings.TrimPrefix(at+"."+name, ".")); err != nil {
			return err
		}
	}
	return checkDefaults(s["items"], at+"[]")
}
