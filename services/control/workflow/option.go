package workflow

import (
	"math"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// Option is a key of a mapping: of a workflow, of a step, or of something within these.
type Option struct {
	Name string
	Doc  string
	Form Form
	// Required keys must be there.
	Required bool
}

// Form is how the value of a key is written.
type Form struct {
	Name string // for the documentation
	// Schema is the JSON Schema of what an editor may accept: Parse is stricter. Steps and StepLists are names of
	// definitions that it may refer to.
	Schema map[string]any
	// Inner are the keys of a mapping, nil of anything else.
	Inner []Option

	read  func(r *reader, n *yaml.Node, sc *expr.Scope)
	later bool // the step reads it itself, when what it depends on was read
}

// StepsRef refers in schemas to the definition of a list of steps.
const StepsRef = "#/$defs/steps"

func required(o Option) Option {
	o.Required = true
	return o
}

// durationPattern is that of durations in schemas.
const durationPattern = `^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$`

func textSchema() map[string]any { return map[string]any{"type": "string"} }

// noExpressions names what is a text and no template.
const noExpressions = "text without `${{ }}`"

// plain is text without expressions, of at most most characters.
func plain(to *string, most int) Form {
	return Form{Name: noExpressions, Schema: textSchema(), read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
		*to = r.plain(n, most)
	}}
}

// name is one of what valid accepts; what says what it is.
func name(to *string, what string, valid func(string) bool) Form {
	return Form{Name: "name", Schema: textSchema(), read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
		if s := r.plain(n, maxName); s != "" && !valid(s) {
			r.at(n, "%q cannot be %s", short(s), what)
		} else {
			*to = s
		}
	}}
}

// text is one with expressions.
func text(to **expr.Template) Form {
	return Form{
		Name: "text", Schema: map[string]any{"type": []any{"string", "number", "boolean"}},
		read: func(r *reader, n *yaml.Node, sc *expr.Scope) { *to = r.text(n, sc) },
	}
}

// texts is a mapping of names to texts. Where secrets may be used, secret is true.
func texts(to *map[string]*expr.Template, secret bool) Form {
	return Form{
		Name: "map of texts",
		Schema: map[string]any{
			"type":                 "object",
			"additionalProperties": map[string]any{"type": []any{"string", "number", "boolean"}},
		},
		read: func(r *reader, n *yaml.Node, sc *expr.Scope) {
			if secret {
				sc = sc.With(secretVariable())
			}
			*to = r.texts(n, sc)
		},
	}
}

// value is any value with expressions in it.
func value(to **Value) Form {
	return Form{Name: "value", Schema: map[string]any{}, read: func(r *reader, n *yaml.Node, sc *expr.Scope) {
		*to = r.value(n, sc)
	}}
}

// condition is an expression that is true or false.
func condition(to **expr.Expr) Form {
	return Form{
		Name:   "expression",
		Schema: map[string]any{"type": []any{"string", "boolean"}},
		read:   func(r *reader, n *yaml.Node, sc *expr.Scope) { *to = r.condition(n, sc) },
	}
}

// length is a duration that may be an expression.
func length(to *Duration) Form {
	return Form{
		Name: "duration",
		Schema: map[string]any{
			"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$|^\s*\$\{\{`,
		},
		read: func(r *reader, n *yaml.Node, sc *expr.Scope) { *to = r.duration(n, sc) },
	}
}

// fixed is a duration that is written.
func fixed(to *time.Duration) Form {
	return Form{
		Name: "duration", Schema: map[string]any{"type": "string", "pattern": durationPattern},
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) { *to = r.fixed(n) },
	}
}

// words is one of some words.
func words[W ~string](to *W, choices ...W) Form {
	names := make([]string, len(choices))
	enum := make([]any, len(choices))
	for i, c := range choices {
		names[i], enum[i] = string(c), string(c)
	}
	return Form{
		Name: "one of " + listed(names), Schema: map[string]any{"enum": enum},
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) { *to = W(r.word(n, names)) },
	}
}

// continues is on_error.
func continues(to *bool) Form {
	word := ""
	f := words(&word, "fail", "continue")
	read := f.read
	f.read = func(r *reader, n *yaml.Node, sc *expr.Scope) {
		read(r, n, sc)
		*to = word == "continue"
	}
	return f
}

// count is a whole number.
func count[N ~int | ~int64](to *N, least, most int64) Form {
	s := map[string]any{"type": "integer", "minimum": least}
	if most < math.MaxInt32 {
		s["maximum"] = most
	}
	return Form{Name: "whole number", Schema: s, read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
		*to = N(r.count(n, least, most))
	}}
}

// counts is a list of whole numbers.
func counts(to *[]int, least, most int64) Form {
	return Form{
		Name: "list of whole numbers",
		Schema: map[string]any{
			"type": "array", "minItems": 1,
			"items": map[string]any{"type": "integer", "minimum": least, "maximum": most},
		},
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
			r.each(n, func(item *yaml.Node) {
				*to = append(*to, int(r.count(item, least, most)))
			})
		},
	}
}

// amount is a positive number.
func amount(to *float64) Form {
	return Form{
		Name: "number", Schema: map[string]any{"type": "number", "exclusiveMinimum": 0},
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
			var v float64
			if r.is(n, "a number", "!!int", "!!float") && (n.Decode(&v) != nil || v <= 0 || math.IsInf(v, 0)) {
				r.at(n, "must be a number greater than 0")
			}
			*to = v
		},
	}
}

// boolean is true or false.
func boolean(to *bool) Form {
	return Form{Name: "true or false", Schema: map[string]any{"type": "boolean"}, read: func(
		r *reader, n *yaml.Node, _ *expr.Scope,
	) {
		if r.is(n, "true or false", "!!bool") {
			_ = n.Decode(to) //nolint:errcheck // its tag says that it is one
		}
	}}
}

// schema is a JSON Schema.
func schema(to **Schema) Form {
	return Form{
		Name: "JSON Schema", Schema: map[string]any{"type": "object"},
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) { *to = r.schema(n) },
	}
}

// list is one of texts without expressions, each of which valid accepts.
func list(to *[]string, what, pattern string, valid func(string) bool) Form {
	items := textSchema()
	if pattern != "" {
		items["pattern"] = pattern
	}
	return Form{
		Name:   "list of names",
		Schema: map[string]any{"type": "array", "minItems": 1, "items": items, "uniqueItems": true},
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
			r.each(n, func(item *yaml.Node) {
				switch s := r.plain(item, maxName); {
				case s == "":
				case !valid(s):
					r.at(item, "%q cannot be %s", short(s), what)
				case slices.Contains(*to, s):
					r.at(item, "%s is given twice", s)
				default:
					*to = append(*to, s)
				}
			})
		},
	}
}

// sandbox is where commands run, as in agents' files.
func sandbox(to **agent.Sandbox) Form {
	return Form{
		Name: "sandbox", Schema: agent.SandboxSchema(),
		read: func(r *reader, n *yaml.Node, _ *expr.Scope) {
			if s, ok := agent.ReadSandbox(r.Document, "sandbox", n); ok {
				*to = &s
			}
		},
	}
}

// mapping has keys of its own; name is its own key.
func mapping(name string, inner []Option) Form {
	return Form{Name: "mapping", Schema: ObjectSchema(inner), Inner: inner, read: func(
		r *reader, n *yaml.Node, sc *expr.Scope,
	) {
		r.options(n, sc, name, inner)
	}}
}

// mappings is a list of mappings.
func mappings(inner []Option) Form {
	return Form{
		Name: "list of mappings", Inner: inner,
		Schema: map[string]any{"type": "array", "minItems": 1, "items": ObjectSchema(inner)},
	}
}

// steps is a list of steps, which whoever has the option reads itself.
func steps() Form {
	return Form{Name: "list of steps", Schema: map[string]any{"$ref": StepsRef}, later: true}
}

// ObjectSchema is the JSON Schema of a mapping with some keys.
func ObjectSchema(options []Option) map[string]any {
	properties, must := map[string]any{}, []any{}
	for _, o := range options {
		properties[o.Name] = o.Schema()
		if o.Required {
			must = append(must, o.Name)
		}
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(must) > 0 {
		s["required"] = must
	}
	return s
}

// Schema is the JSON Schema of the key's value, with its documentation.
func (o Option) Schema() map[string]any {
	s := map[string]any{}
	for k, v := range o.Form.Schema {
		s[k] = v
	}
	if o.Doc != "" {
		s["description"] = o.Doc
	}
	return s
}
