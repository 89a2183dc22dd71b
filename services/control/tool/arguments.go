package tool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/internal/rawjson"
)

// Arguments are the arguments of a call on their way from what a model wrote to what it means.
type Arguments struct {
	tool     *Tool
	values   map[string]any
	raw      map[string]json.RawMessage // the same as they were written: key order and numbers survive
	given    map[string]string          // argument → the name under which it was given, if not its own
	notes    []string
	ignored  []string
	problems []string // what cannot be taken in one way only
	word     string   // the argument that is put into the tool's words now
}

// readArguments decodes the arguments and takes from them what is meant, as far as that is plain: under another name,
// in a wrapper, as another type. What is left over is named in ignored.
func readArguments(t *Tool, args json.RawMessage) (*Arguments, error) {
	a := &Arguments{tool: t, given: map[string]string{}}
	if err := a.decode(args); err != nil {
		return nil, err
	}
	if t.Exact {
		return a, nil
	}
	a.unwrap()
	if t.Habits.Before != nil {
		t.Habits.Before(a)
	}
	a.rename()
	for name := range a.values {
		a.coerce(name)
	}
	if t.Habits.After != nil {
		t.Habits.After(a)
	}
	return a, nil
}

// Value is an argument as it is understood by now; nil when there is none.
func (a *Arguments) Value(name string) any { return a.values[name] }

// Raw is an argument as it was written.
func (a *Arguments) Raw(name string) json.RawMessage { return a.raw[name] }

// All calls f with the name of every argument, in the order of the names. f may change them.
func (a *Arguments) All(f func(name string)) {
	for _, name := range slices.Sorted(maps.Keys(a.values)) {
		f(name)
	}
}

// Meaning is the argument that a name stands for; "" when there is none.
func (a *Arguments) Meaning(name string) string { return a.tool.meaning(name) }

// GivenAs is the name under which an argument was given; "" when it is its own.
func (a *Arguments) GivenAs(name string) string { return a.given[name] }

// Set gives an argument a value.
func (a *Arguments) Set(name string, value any) { a.values[name] = value }

// Fill gives an argument a value unless it has one.
func (a *Arguments) Fill(name string, value any) {
	if _, there := a.values[name]; !there {
		a.values[name] = value
		if a.word != "" {
			a.given[name] = a.word
		}
	}
}

// Drop takes an argument away.
func (a *Arguments) Drop(name string) { delete(a.values, name) }

// Note tells the model that an argument was taken in another way than it was written.
func (a *Arguments) Note(text string) { a.notes = append(a.notes, text) }

// Inner reads arguments that stand within an argument: as an object, or as a string that holds one. ok is false when
// there are none.
func (a *Arguments) Inner(written json.RawMessage) (inner *Arguments, ok bool) {
	inner = &Arguments{tool: a.tool}
	return inner, inner.decode(written) == nil && inner.raw != nil
}

// Merge adds arguments of another call that are not there.
func (a *Arguments) Merge(other *Arguments) {
	for name, v := range other.values {
		if _, there := a.values[name]; !there {
			a.values[name], a.raw[name] = v, other.raw[name]
		}
	}
}

// decode accepts an object, nothing, an object written as a string, and for a tool with one required argument that one
// alone.
func (a *Arguments) decode(args json.RawMessage) error {
	a.values, a.raw = map[string]any{}, map[string]json.RawMessage{}
	if len(bytes.TrimSpace(args)) == 0 {
		return nil
	}
	// Decoded to float64 and not to json.Number: the validator computes with exact rationals, which a short number
	// with a huge exponent would make enormous.
	var v any
	if err := json.Unmarshal(args, &v); err != nil {
		return fmt.Errorf("not valid JSON (%w)", err)
	}
	switch v := v.(type) {
	case nil:
		return nil
	case map[string]any:
		a.values = v
		return json.Unmarshal(args, &a.raw)
	case string:
		if object(v) {
			return a.decode(json.RawMessage(v))
		}
		if strings.TrimSpace(v) != "" && len(a.tool.contract.required) == 1 {
			a.values[a.tool.contract.required[0]] = v
			return nil
		}
	}
	return fmt.Errorf("must be an object, got %s", typeName(v))
}

// encode is the arguments as JSON. An object, a list and a whole number stand there as they were written, if nothing of
// them was changed: a float has fewer digits than a number can have.
func (a *Arguments) encode() ([]byte, error) {
	all := make(map[string]json.RawMessage, len(a.values))
	for name, v := range a.values {
		var written any
		raw := bytes.TrimSpace(a.raw[name])
		_, number := v.(float64)
		if len(raw) > 0 && (!number || len(bytes.Trim(raw, "-0123456789")) == 0) &&
			json.Unmarshal(raw, &written) == nil && reflect.DeepEqual(written, v) {
			all[name] = raw
			continue
		}
		body, err := rawjson.Encode(v)
		if err != nil {
			return nil, err
		}
		all[name] = body
	}
	return rawjson.Encode(all)
}

// object reports whether text is a JSON object.
func object(text string) bool {
	return strings.HasPrefix(strings.TrimSpace(text), "{") && json.Valid([]byte(text))
}

// wrappers are the names under which models put the arguments when they should be the arguments.
var wrappers = []string{"input", "arguments", "args", "parameters", "params", "kwargs", "properties"}

// unwrap takes the arguments out of a single argument that holds them all.
func (a *Arguments) unwrap() {
	if len(a.values) != 1 {
		return
	}
	for name, v := range a.values {
		if _, own := a.tool.contract.types[name]; own ||
			!slices.Contains(wrappers, Fold(name)) && Fold(name) != Fold(a.tool.Name) {
			return
		}
		written, whole := v.(string)
		if _, isObject := v.(map[string]any); !isObject && !(whole && object(written)) {
			return
		}
		inner := Arguments{tool: a.tool}
		if inner.decode(a.raw[name]) == nil {
			a.values, a.raw = inner.values, inner.raw
		}
	}
}

// rename gives every argument its own name. An argument that is there under its own name wins. Of two other names with
// different values neither does: to run, or to write, what was not meant is worse than to ask again.
func (a *Arguments) rename() {
	by := map[string]string{} // the name under which an argument was given
	for _, name := range slices.Sorted(maps.Keys(a.values)) {
		v, meant := a.values[name], a.tool.meaning(name)
		word := a.tool.Habits.Words[Fold(name)]
		if meant == name || meant == "" && word == nil && a.tool.contract.open {
			continue
		}
		delete(a.values, name)
		_, taken := a.values[meant]
		switch {
		case meant == "" && v == nil:
		case by[meant] != "" && !reflect.DeepEqual(a.values[meant], v):
			a.problems = append(a.problems, fmt.Sprintf(
				"%s: is given twice, as %s and as %s, with different values; give %[1]s alone", meant, by[meant], name))
		case meant == "" && word != nil:
			a.word = name
			if !word(a, v) {
				a.ignored = append(a.ignored, name)
			}
			a.word = ""
		case meant == "" || taken:
			a.ignored = append(a.ignored, name)
		default:
			a.values[meant], a.raw[meant], by[meant], a.given[meant] = v, a.raw[name], name, name
		}
	}
}

// coerce turns a value into the type that the schema wants where the meaning is plain.
func (a *Arguments) coerce(name string) {
	v := a.values[name]
	want := a.tool.contract.types[name]
	switch want {
	case "integer", "number":
		if n, ok := Number(v); ok {
			v = n
		}
	case "boolean":
		if b, ok := Boolean(v); ok {
			v = b
		}
	case "string":
		v = a.toText(name, v)
	}
	if v == nil && want != "" && want != "null" && !a.Required(name) {
		delete(a.values, name)
		return
	}
	a.values[name] = v
}

// Required reports whether the tool needs an argument.
func (a *Arguments) Required(name string) bool {
	return slices.Contains(a.tool.contract.required, name)
}

// toText is what a value means where text is wanted.
func (a *Arguments) toText(name string, v any) any {
	switch v := v.(type) {
	case float64:
		return numeral(v, a.raw[name])
	case bool:
		return strconv.FormatBool(v)
	case map[string]any, []any:
		if habit := a.tool.Habits.Text; habit != nil {
			if said, ok := habit(a, name, v); ok {
				return said
			}
		}
		if list, ok := v.([]any); ok && len(list) == 1 {
			return list[0]
		}
	}
	return v
}

// numeral is a number as it was written: 1.10 is another text than 1.1, and a long one has more digits than a float.
func numeral(v float64, raw json.RawMessage) string {
	if text := string(bytes.TrimSpace(raw)); text != "" {
		return text
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// Number is a value as a number, if it can be one.
func Number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case string:
		n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return n, err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
	}
	return 0, false
}

// Boolean is a value as a boolean, if it can be one.
func Boolean(v any) (value, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case float64:
		return v == 1, v == 0 || v == 1
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true", "yes", "1":
			return true, true
		case "false", "no", "0":
			return false, true
		}
	}
	return false, false
}
