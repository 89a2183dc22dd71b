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
)

// arguments are the arguments of a call on their way from what a model wrote to what it means.
type arguments struct {
	contract contract
	values   map[string]any
	raw      map[string]json.RawMessage // the same as they were written: key order and numbers survive
	notes    []string
	ignored  []string
	problems []string // what cannot be taken in one way only
	seconds  bool     // timeout was given in a name that says its unit
}

// readArguments decodes the arguments and takes from them what is meant, as far as that is plain: under another name,
// in a wrapper, as another type. What is left over is named in ignored.
func readArguments(c contract, text json.RawMessage) (*arguments, error) {
	a := &arguments{contract: c}
	if err := a.decode(text); err != nil {
		return nil, err
	}
	a.unwrap()
	a.unbundle()
	a.rename()
	for name := range a.values {
		a.coerce(name)
	}
	a.adjust()
	return a, nil
}

// decode accepts an object, nothing, an object written as a string, and for a tool with one required argument that one
// alone.
func (a *arguments) decode(text json.RawMessage) error {
	a.values, a.raw = map[string]any{}, map[string]json.RawMessage{}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	// Decoded to float64 and not to json.Number: the validator computes with exact rationals, which a short number
	// with a huge exponent would make enormous.
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return fmt.Errorf("not valid JSON (%w)", err)
	}
	switch v := v.(type) {
	case nil:
		return nil
	case map[string]any:
		a.values = v
		return json.Unmarshal(text, &a.raw)
	case string:
		if object(v) {
			return a.decode(json.RawMessage(v))
		}
		if strings.TrimSpace(v) != "" && len(a.contract.required) == 1 {
			a.values[a.contract.required[0]] = v
			return nil
		}
	}
	return fmt.Errorf("must be an object, got %s", typeName(v))
}

// object reports whether text is a JSON object.
func object(text string) bool {
	return strings.HasPrefix(strings.TrimSpace(text), "{") && json.Valid([]byte(text))
}

// wrappers are the names under which models put the arguments when they should be the arguments.
var wrappers = []string{"input", "arguments", "args", "parameters", "params", "kwargs", "properties"}

// unwrap takes the arguments out of a single argument that holds them all.
func (a *arguments) unwrap() {
	if len(a.values) != 1 {
		return
	}
	for name, v := range a.values {
		if !slices.Contains(wrappers, fold(name)) && fold(name) != a.contract.tool {
			return
		}
		inner := arguments{contract: a.contract}
		switch v := v.(type) {
		case map[string]any:
			if inner.decode(a.raw[name]) == nil {
				a.values, a.raw = inner.values, inner.raw
			}
		case string:
			if object(v) && inner.decode(json.RawMessage(v)) == nil {
				a.values, a.raw = inner.values, inner.raw
			}
		}
	}
}

// rename gives every argument its own name. An argument that is there under its own name wins. Of two other names with
// different values neither does: to run, or to write, what was not meant is worse than to ask again.
func (a *arguments) rename() {
	by := map[string]string{} // the name under which an argument was given
	for _, name := range slices.Sorted(maps.Keys(a.values)) {
		v, meant := a.values[name], a.contract.meaning(name)
		if meant == name {
			continue
		}
		delete(a.values, name)
		_, taken := a.values[meant]
		switch {
		case meant == "" && v == nil:
		case by[meant] != "" && !reflect.DeepEqual(a.values[meant], v):
			a.problems = append(a.problems, fmt.Sprintf(
				"%s: is given twice, as %s and as %s, with different values; give %[1]s alone", meant, by[meant], name))
		case meant == "" || taken:
			a.ignored = append(a.ignored, name)
		case strings.HasPrefix(meant, "\x00"):
			a.mean(meant, name, v)
		default:
			a.values[meant], a.raw[meant], by[meant] = v, a.raw[name], name
			a.seconds = a.seconds || meant == "timeout" && fold(name) != "timeout"
		}
	}
}

// mean puts an argument that says the same in another way into the tool's own words.
func (a *arguments) mean(meant, name string, v any) {
	set := func(own string, value any) {
		if _, there := a.values[own]; !there {
			a.values[own] = value
		}
	}
	n, number := toNumber(v)
	flag, boolean := toBoolean(v)
	switch {
	case meant == milliseconds && number:
		set("timeout", n/1000)
		a.seconds = true
	case meant == caseSensitive && boolean:
		set("ignoreCase", !flag)
	case meant == isRegex && boolean:
		set("literal", !flag)
	case meant == endLine && number:
		first, _ := toNumber(a.firstLine())
		set("limit", n-max(first, 1)+1)
	case meant == lineRange && a.lineRange(v, set):
	default:
		a.ignored = append(a.ignored, name)
	}
}

// firstLine is the first line to show, whatever it is called.
func (a *arguments) firstLine() any {
	for name, v := range a.values {
		if a.contract.meaning(name) == "offset" {
			return v
		}
	}
	return nil
}

// lineRange takes [first, last]; a last of -1 is the end of the file.
func (a *arguments) lineRange(v any, set func(string, any)) bool {
	pair, ok := v.([]any)
	if !ok || len(pair) != 2 {
		return false
	}
	first, ok1 := toNumber(pair[0])
	last, ok2 := toNumber(pair[1])
	if !ok1 || !ok2 {
		return false
	}
	set("offset", first)
	if last >= first {
		set("limit", last-max(first, 1)+1)
	}
	return true
}

// coerce turns a value into the type that the schema wants where the meaning is plain.
func (a *arguments) coerce(name string) {
	v := a.values[name]
	required := slices.Contains(a.contract.required, name)
	switch a.contract.types[name] {
	case "integer", "number":
		if n, ok := toNumber(v); ok {
			v = n
		}
	case "boolean":
		if b, ok := toBoolean(v); ok {
			v = b
		}
	case "string":
		v = a.toText(name, v)
		if v == "" && !required {
			v = nil // an empty path is no path
		}
	}
	if v == nil && !required {
		delete(a.values, name)
		return
	}
	a.values[name] = v
}

// toText is what a value means where text is wanted.
func (a *arguments) toText(name string, v any) any {
	switch v := v.(type) {
	case float64:
		return numeral(v, a.raw[name])
	case bool:
		return strconv.FormatBool(v)
	case map[string]any:
		if name == "content" {
			return a.jsonText(name)
		}
	case []any:
		switch {
		case name == "content":
			return a.jsonText(name)
		case name == "command":
			return commandOf(v)
		case name == "include":
			return anyOf(v)
		case len(v) == 1:
			return v[0]
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

// jsonText is for who writes a JSON file and gives the document instead of its text.
func (a *arguments) jsonText(name string) string {
	var b bytes.Buffer
	if err := json.Indent(&b, a.raw[name], "", "  "); err != nil {
		return string(a.raw[name])
	}
	a.notes = append(a.notes, name+" was given as JSON and not as text; it was written as indented JSON.")
	return b.String() + "\n"
}

// commandOf is the command of an argument vector that a shell would run: ["bash", "-lc", "make"].
func commandOf(list []any) any {
	texts := stringsOf(list)
	switch {
	case len(texts) == 1:
		return texts[0]
	case len(texts) == 3 && slices.Contains([]string{"bash", "sh", "/bin/bash", "/bin/sh"}, texts[0]) &&
		slices.Contains([]string{"-c", "-lc"}, texts[1]):
		return texts[2]
	}
	return list
}

// anyOf is one glob for several.
func anyOf(list []any) any {
	texts := stringsOf(list)
	if len(texts) == 0 {
		return list
	}
	if len(texts) == 1 {
		return texts[0]
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// stringsOf is a list whose elements are all strings; nil for any other.
func stringsOf(list []any) []string {
	texts := make([]string, len(list))
	for i, v := range list {
		text, ok := v.(string)
		if !ok {
			return nil
		}
		texts[i] = text
	}
	return texts
}

func toNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case string:
		n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return n, err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
	}
	return 0, false
}

func toBoolean(v any) (value, ok bool) {
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

// unbundle takes the one edit out of a list of edits. A list beside another edit stays where it is, to be ignored
// aloud.
func (a *arguments) unbundle() {
	list, ok := a.values["edits"].([]any)
	if a.contract.tool != NameEdit || !ok || len(list) != 1 {
		return
	}
	var raw []json.RawMessage
	inner := arguments{contract: a.contract}
	if json.Unmarshal(a.raw["edits"], &raw) != nil || inner.decode(raw[0]) != nil {
		return
	}
	for name := range a.values {
		if own := a.contract.meaning(name); own == "oldText" || own == "newText" {
			return
		}
	}
	delete(a.values, "edits")
	for name, v := range inner.values {
		if _, there := a.values[name]; !there {
			a.values[name], a.raw[name] = v, inner.raw[name]
		}
	}
}

// A timeout from leastMillis on that is a multiple of a thousand is taken as milliseconds, as other tools count: nobody
// means 120,000 seconds. One above the limit can be nothing else.
const (
	leastMillis = 10_000
	maxTimeout  = 86_400
)

// adjust settles what has the right type and an odd value.
func (a *arguments) adjust() {
	for _, name := range []string{"offset", "limit"} {
		if n, ok := a.values[name].(float64); ok && (n == 0 || name == "limit" && n < 0) {
			delete(a.values, name)
		}
	}
	if command, ok := a.values["command"].(string); ok {
		a.values["command"] = unfence(command)
	}
	n, ok := a.values["timeout"].(float64)
	switch {
	case !ok:
	case n < 0:
		delete(a.values, "timeout")
	case a.seconds:
	case n >= leastMillis && math.Mod(n, 1000) == 0 || n > maxTimeout && n <= maxTimeout*1000:
		a.values["timeout"] = n / 1000
		a.notes = append(a.notes, fmt.Sprintf("timeout is in seconds; %s was taken as milliseconds.",
			strconv.FormatFloat(n, 'f', -1, 64)))
	}
}

// unfence takes a command out of the Markdown fence that a model has put around it.
func unfence(command string) string {
	text := strings.TrimSpace(command)
	first, rest, ok := strings.Cut(text, "\n")
	body, closed := strings.CutSuffix(rest, "```")
	if !ok || !closed || !strings.HasPrefix(first, "```") || strings.ContainsAny(first[3:], " `") {
		return command
	}
	return body
}
