package tool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// contract is a tool's schema, ready for use.
type contract struct {
	tool     string
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
	return contract{tool: t.Name, schema: schema, types: types, required: shape.Required}, nil
}

// checkArguments reads and validates. It returns the arguments as they are meant, or every problem with them.
func checkArguments(t Tool, text json.RawMessage) (*arguments, []string) {
	c := contracts()[t.Name]
	a, err := readArguments(c, text)
	if err != nil {
		return nil, []string{"arguments: " + err.Error()}
	}
	if err := c.schema.Validate(a.values); err != nil {
		return nil, slices.Concat(a.problems, c.explain(err), a.hints())
	}
	return a, a.problems
}

// hints help whoever has left out an argument and given others that the tool does not know.
func (a *arguments) hints() []string {
	out := make([]string, len(a.ignored))
	for i, name := range a.ignored {
		out[i] = fmt.Sprintf("%s: no such argument; there are %s", shorten(sanitize(name), 100), a.contract.names())
		if fold(name) == "edits" {
			out[i] = "edits: one call makes one edit; call edit once for each"
		}
	}
	return out
}

// names lists the arguments of the tool.
func (c contract) names() string { return strings.Join(slices.Sorted(maps.Keys(c.types)), ", ") }

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
