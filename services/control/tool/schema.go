package tool

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// contract is a tool's schema, ready for use.
type contract struct {
	schema   *jsonschema.Schema
	budget   *budget           // of one validation
	types    map[string]string // of each argument the JSON type, "" when it can have several
	required []string
	open     bool // the schema allows arguments that it does not name
}

// CheckSchema says what is wrong with the JSON Schema of a tool's arguments. They are an object.
func CheckSchema(schema json.RawMessage) error {
	if _, err := compile(schema); err != nil {
		return err
	}
	if singleType(schema) != "object" {
		return errors.New("must be the JSON Schema of an object: type: object, and properties")
	}
	if name := untellable(schema); name != "" {
		return fmt.Errorf("%.100q cannot be the name of an argument: models are told of names with 1 to 64 letters, "+
			"digits, _, . and -", name)
	}
	return nil
}

// compile reads a schema. One that refers to files or to the network is refused: it may come from a stranger.
func compile(schema json.RawMessage) (contract, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return contract{}, err
	}
	const name = "mem:///schema" // a name without a scheme becomes a path of this host, which errors would tell
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(jsonschema.SchemeURLLoader{})
	cost := &budget{}
	cost.limit(compiler)
	if err := compiler.AddResource(name, doc); err != nil {
		return contract{}, err
	}
	compiled, err := compiler.Compile(name)
	if err != nil {
		return contract{}, broken(err)
	}
	var shape struct {
		Properties           map[string]json.RawMessage `json:"properties"`
		Required             []string                   `json:"required"`
		AdditionalProperties json.RawMessage            `json:"additionalProperties"`
	}
	if err := json.Unmarshal(schema, &shape); err != nil {
		return contract{}, err
	}
	types := make(map[string]string, len(shape.Properties))
	for property, body := range shape.Properties {
		types[property] = singleType(body)
	}
	return contract{
		schema: compiled, budget: cost, types: types, required: shape.Required,
		open: string(bytes.TrimSpace(shape.AdditionalProperties)) != "false",
	}, nil
}

// broken words an error of a schema as those of arguments are worded: where in the schema, and what must be there.
func broken(err error) error {
	var elsewhere *jsonschema.LoadURLError
	if errors.As(err, &elsewhere) {
		return fmt.Errorf("it refers to another document, %.200q: put what is meant into the schema, below $defs",
			elsewhere.URL)
	}
	var invalid *jsonschema.SchemaValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	return errors.New(strings.Join(contract{}.explain(invalid.Err), "; "))
}

// singleType is the one JSON type that a schema allows; "" when there are several, or it does not say.
func singleType(schema json.RawMessage) string {
	var s struct {
		Type any `json:"type"`
	}
	if json.Unmarshal(schema, &s) != nil { // true and false are schemas too
		return ""
	}
	name, _ := s.Type.(string)
	return name
}

// arguments reads and validates. It returns the arguments as they are meant, or every problem with them.
func (t *Tool) arguments(args json.RawMessage) (*Arguments, []string) {
	a, err := readArguments(t, args)
	if err != nil {
		return nil, []string{"arguments: " + err.Error()}
	}
	if err := t.contract.validate(a.values); err != nil {
		return nil, slices.Concat(a.problems, t.contract.explain(err), a.hints())
	}
	return a, a.problems
}

// hints help whoever has left out an argument and given others that the tool does not know.
func (a *Arguments) hints() []string {
	out := make([]string, len(a.ignored))
	for i, name := range a.ignored {
		out[i] = fmt.Sprintf("%s: no such argument; there are %s", clip.Shorten(clip.Sanitize(name), 100),
			a.tool.contract.names())
		if hint := a.tool.Habits.Hints[Fold(name)]; hint != "" {
			out[i] = hint
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
	key := cmp.Or(strings.Join(e.InstanceLocation, "."), "arguments")
	var out []string
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			out = append(out, strings.Join(append(slices.Clone(e.InstanceLocation), name), ".")+": is required")
		}
	case *kind.Type:
		out = append(out, fmt.Sprintf("%s: must be %s, got %s", key, article(strings.Join(k.Want, " or ")), k.Got))
	case *kind.MinLength:
		problem := fmt.Sprintf("%s: must have at least %d characters", key, k.Want)
		if k.Want == 1 {
			problem = key + ": must not be empty"
		}
		out = append(out, problem)
	case *kind.Enum:
		out = append(out, fmt.Sprintf("%s: must be one of %v", key, k.Want))
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
