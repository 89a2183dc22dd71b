package tool

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"

	"github.com/pawl-dev/pawl/internal/rawjson"
)

// choices are the keywords that providers refuse at the top of a tool's schema, and with it the whole request.
var choices = []string{"allOf", "anyOf", "oneOf", "not", "enum", "const", "if", "then", "else"}

// told is a schema of an object as models can be told it: what is said of arguments in choices at its top is said at
// the top, and the rest is left to whoever holds the arguments against the schema itself.
func told(schema json.RawMessage) json.RawMessage {
	var keys map[string]json.RawMessage
	chooses := func(keyword string) bool { return keys[keyword] != nil }
	if json.Unmarshal(schema, &keys) != nil || !slices.ContainsFunc(choices, chooses) {
		return schema
	}
	own := shapeOf(schema)
	for _, keyword := range choices[:3] {
		var branches []json.RawMessage
		if json.Unmarshal(keys[keyword], &branches) != nil {
			continue
		}
		var needed []string // by every branch, or by all of allOf
		for i, branch := range branches {
			b := shapeOf(branch)
			for name, property := range b.Properties {
				if _, there := own.Properties[name]; !there {
					own.Properties[name] = property
				}
			}
			switch {
			case i == 0 || keyword == "allOf":
				needed = append(needed, b.Required...)
			default:
				needed = slices.DeleteFunc(needed, func(n string) bool { return !slices.Contains(b.Required, n) })
			}
		}
		own.Required = append(own.Required, needed...)
	}
	maps.DeleteFunc(keys, func(k string, _ json.RawMessage) bool { return slices.Contains(choices, k) })
	slices.Sort(own.Required)
	own.Required = slices.DeleteFunc(slices.Compact(own.Required), func(n string) bool {
		_, there := own.Properties[n]
		return !there
	})
	all := map[string]any{"properties": own.Properties}
	for k, v := range keys {
		if k != "properties" && k != "required" {
			all[k] = v
		}
	}
	if len(own.Required) > 0 {
		all["required"] = own.Required
	}
	out, err := rawjson.Encode(all)
	if err != nil {
		return schema
	}
	return out
}

// shape is what a schema says of arguments.
type shape struct {
	Properties map[string]json.RawMessage `json:"properties"`
	Required   []string                   `json:"required"`
}

// shapeOf reads a schema, whatever it is.
func shapeOf(schema json.RawMessage) (s shape) {
	if json.Unmarshal(schema, &s) != nil {
		s = shape{}
	}
	if s.Properties == nil {
		s.Properties = map[string]json.RawMessage{}
	}
	return s
}

// tellable are the names of arguments that all providers take.
var tellable = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)

// untellable is the first argument whose name a provider would refuse, "" for none.
func untellable(schema json.RawMessage) string {
	for _, name := range slices.Sorted(maps.Keys(shapeOf(schema).Properties)) {
		if !tellable.MatchString(name) {
			return name
		}
	}
	return ""
}
