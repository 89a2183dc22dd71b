package tool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// contract is a tool's schema, ready for use.
type contract struct {
	schema   *jsonschema.Schema
	types    map[string]string // JSON type of each argument
	required []string
}

// contracts compiles every schema once.
var contracts = sync.OnceValue(func() map[string]contract {
	out := make(map[string]contract, len(builtin))
	for _, t := range builtin {
		c, err := compile(t)
		if err != nil {
			panic(fmt.Sprintf("tool %s: %v", t.Name, err)) // the schemas are constants: any test finds this
		}
		out[t.Name] = c
	}
	return out
})

func compile(t Tool) (contract, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(t.Schema))
	if err != nil {
		return contract{}, err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(t.Name, doc); err != nil {
		return contract{}, err
	}
	schema, err := compiler.Compile(t.Name)
	if err != nil {
		return contract{}, err
	}
	var shape struct {
		Properties map[string]struct {
			Type string `json:"type"`
		} `json:"properties"`
		Required []string `json:"required"`
	}
	if err := json.Unmarshal(t.Schema, &shape); err != nil {
		return contract{}, err
	}
	types := make(map[string]string, len(shape.Properties))
	for name, p := range shape.Properties {
		types[name] = p.Type
	}
	return contract{schema: schema, types: types, required: shape.Required}, nil
}

// checkArguments coerces and validates. It returns the arguments as they are meant, or every problem with them.
func checkArguments(t Tool, args json.RawMessage) (json.RawMessage, []string) {
	c := contracts()[t.Name]
	values := map[string]any{}
	if len(bytes.TrimSpace(args)) > 0 {
		// Decoded to float64 and not to json.Number: the validator computes with exact rationals, which a short number
		// with a huge exponent would make enormous.
		var v any
		if err := json.Unmarshal(args, &v); err != nil {
			return nil, []string{"arguments: not valid JSON (" + err.Error() + ")"}
		}
		object, ok := v.(map[string]any)
		if !ok && v != nil {
			return nil, []string{"arguments: must be an object, got " + typeName(v)}
		}
		maps.Copy(values, object)
	}
	c.coerce(values)
	if err := c.schema.Validate(values); err != nil {
		return nil, c.explain(err)
	}
	out, err := json.Marshal(values)
	if err != nil {
		return nil, []string{"arguments: " + err.Error()}
	}
	return out, nil
}

// coerce turns values into the type that the schema wants where the meaning is plain.
func (c contract) coerce(values map[string]any) {
	for name, v := range values {
		switch want := c.types[name]; v := v.(type) {
		case nil:
			if want != "" && !slices.Contains(c.required, name) {
				delete(values, name)
			}
		case string:
			text := strings.TrimSpace(v)
			n, err := strconv.ParseFloat(text, 64)
			switch {
			case (want == "integer" || want == "number") && err == nil && !math.IsInf(n, 0) && !math.IsNaN(n):
				values[name] = n
			case want == "boolean" && (text == "true" || text == "false"):
				values[name] = text == "true"
			}
		case float64:
			if want == "string" {
				values[name] = strconv.FormatFloat(v, 'f', -1, 64)
			}
		case bool:
			if want == "string" {
				values[name] = strconv.FormatBool(v)
			}
		}
	}
}

// explain lists every way in which the arguments break the schema.
func (c contract) explain(err error) []string {
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return []string{"arguments: " + err.Error()}
	}
	var problems []string
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			walk(cause)
		}
		if len(e.Causes) == 0 {
			problems = append(problems, c.problem(e)...)
		}
	}
	walk(invalid)
	slices.Sort(problems)
	return slices.Compact(problems)
}

// problem words one failure for the model: which argument, and what it must be.
func (c contract) problem(e *jsonschema.ValidationError) []string {
	key := strings.Join(e.InstanceLocation, ".")
	var out []string
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			out = append(out, name+": is required")
		}
	case *kind.AdditionalProperties:
		known := strings.Join(slices.Sorted(maps.Keys(c.types)), ", ")
		for _, name := range k.Properties {
			out = append(out, fmt.Sprintf("%s: no such argument; there are %s", shorten(sanitize(name), 100), known))
		}
	case *kind.Type:
		out = append(out, fmt.Sprintf("%s: must be %s, got %s", key, article(strings.Join(k.Want, " or ")), k.Got))
	case *kind.MinLength:
		out = append(out, key+": must not be empty")
	case *kind.Minimum:
		out = append(out, fmt.Sprintf("%s: must be at least %s", key, k.Want.RatString()))
	case *kind.Maximum:
		out = append(out, fmt.Sprintf("%s: must be at most %s", key, k.Want.RatString()))
	default:
		out = append(out, key+": breaks the schema's "+strings.Join(e.ErrorKind.KeywordPath(), "/"))
	}
	return out
}

func article(noun string) string {
	if noun == "integer" || noun == "object" || noun == "array" {
		return "an " + noun
	}
	return "a " + noun
}

func typeName(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case float64:
		return "a number"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	}
	return "null"
}
