// Package result has the tools by which an agent ends with a structured result, one that a JSON Schema describes.
//
//	schema ─New─▶ finish, whose arguments are the result, and give_up ─▶ tool.Closing
//
// A schema of something else than an object is wrapped for the model, whose arguments are always an object: the result
// is its property result then. What is checked is the schema of the caller in either case.
package result

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

const (
	// MaxSchema is the longest schema in bytes.
	MaxSchema = 64 << 10
	// MaxData is the longest result in bytes.
	MaxData = 256 << 10
	// MaxCorrections is how often an agent may correct a result, MaxAsks how often one is asked again that ends without
	// any.
	MaxCorrections = 5
	MaxAsks        = 5
)

// Reasons for which a loop fails that has to end with a result.
const (
	ReasonInvalid = "RESULT_INVALID"
	ReasonGaveUp  = "GAVE_UP"
)

// ErrSchema refuses a schema.
var ErrSchema = errs.New(errs.InvalidArgument, "RESULT_SCHEMA_INVALID",
	"result_schema is no JSON Schema that can be used")

var errTooLong = errs.New(errs.InvalidArgument, "RESULT_TOO_LONG", fmt.Sprintf(
	"the result is longer than %d bytes of JSON: give a shorter one, with long parts in files if need be", MaxData))

// Names of the tools.
const (
	NameFinish = "finish"
	NameGiveUp = "give_up"
)

// Inside is the property that has a result which is no object.
const Inside = "result"

const (
	source = "the result that the caller wants"
)

// Instruction is what the system text of a loop ends with that has to end with a result.
const Instruction = "You must end by calling the tool " + NameFinish + ", once, with the result as its arguments. " +
	"Text is no result. Call " + NameGiveUp + " only if there cannot be a result."

// again asks an agent that has ended without a result.
const again = "You have ended without a result. Call " + NameFinish + " with the result, or " + NameGiveUp +
	" if there cannot be one."

// Again is what an agent is told that has ended without a result.
func Again() model.Message { return model.Note(again) }

// Check says what is wrong with a schema: ErrSchema.
func Check(schema json.RawMessage) error {
	if len(schema) > MaxSchema {
		return errSchema("it has %d bytes, and at most %d are allowed", len(schema), MaxSchema)
	}
	_, err := Tools(schema)
	return err
}

func errSchema(format string, args ...any) error {
	return ErrSchema.WithFacts(map[string]string{"field": "result_schema"}, "result_schema: "+format, args...)
}

// Tools are finish and give_up for a schema. ErrSchema says what is wrong with it.
func Tools(schema json.RawMessage) ([]*tool.Tool, error) {
	var head struct {
		Schema string `json:"$schema"`
		Type   any    `json:"type"`
	}
	if err := json.Unmarshal(schema, &head); err != nil {
		return nil, errSchema("it must be a JSON object: %v", err)
	}
	if s := strings.TrimSuffix(head.Schema, "#"); s != "" && s != "https://json-schema.org/draft/2020-12/schema" {
		return nil, errSchema("$schema is %.100q: only draft 2020-12 is understood", head.Schema)
	}
	args, isObject := schema, head.Type == "object"
	if _, err := tool.NewSchema(schema); err != nil { // before it is wrapped, so that places are the caller's
		return nil, errSchema("%v", err)
	}
	if !isObject {
		var err error
		if args, err = wrap(schema); err != nil {
			return nil, errSchema("%v", err)
		}
	}
	f, err := tool.Define(tool.Spec{
		Name: NameFinish, Source: source, Safety: tool.Pure, Own: true, Exact: true, Strict: strict(args), Schema: args,
		Description: "Ends the work with its result, which are the arguments. Call it once, when all is done.",
		How:         tool.ByControl(closes(isObject), shown[json.RawMessage]),
	})
	if err != nil {
		return nil, errSchema("%v", err)
	}
	return []*tool.Tool{f, giver}, nil
}

// reason is the request of give_up.
type reason struct {
	Reason string `json:"reason"`
}

var giver = func() *tool.Tool {
	t, err := tool.Define(tool.Spec{
		Name: NameGiveUp, Source: source, Safety: tool.Pure, Own: true,
		Schema: json.RawMessage(`{"type": "object", "properties": {"reason": {"type": "string", "minLength": 1,
			"description": "Why there cannot be a result."}}, "required": ["reason"], "additionalProperties": false}`),
		Description: "Ends the work without a result. Call it only if there cannot be one.",
		How: tool.ByControl(func(_ context.Context, c tool.Call) (tool.Reply, error) {
			return tool.Closing{GaveUp: c.Request.(reason).Reason}, nil
		}, shown[reason]),
	})
	if err != nil {
		panic(err)
	}
	return t
}()

func shown[Q tool.Request](_ Q, c tool.Closing) tool.Result { return c.Show() }

// closes makes a result of the arguments of finish.
func closes(isObject bool) tool.Run {
	return func(_ context.Context, c tool.Call) (tool.Reply, error) {
		data := c.Request.(json.RawMessage)
		if !isObject {
			var wrapped map[string]json.RawMessage
			if err := json.Unmarshal(data, &wrapped); err != nil {
				return nil, fmt.Errorf("unwrapping a result: %w", err)
			}
			data = wrapped[Inside]
		}
		if len(data) > MaxData {
			return nil, errTooLong
		}
		return tool.Closing{Data: data}, nil
	}
}

// Corrects reports whether an entry tells the model that its result is not accepted.
func Corrects(e session.Entry) bool {
	return e.Kind == session.ToolResult && len(e.Message.Content) == 1 && e.Message.Content[0].IsError &&
		e.Message.Content[0].Tool == NameFinish
}

// Asks reports whether an entry asks the model for a result again.
func Asks(e session.Entry) bool {
	return e.Kind == session.Marker && Asked(e.Message)
}

// Asked reports whether a message is Again.
func Asked(m model.Message) bool { return m.IsNote() && strings.HasSuffix(m.Text(), again) }

// wrap is the schema of an object whose only property is described by a schema. References within the schema that begin
// at its root are made to begin at the new one.
func wrap(schema json.RawMessage) (json.RawMessage, error) {
	var inner map[string]any
	if err := json.Unmarshal(schema, &inner); err != nil {
		return nil, err
	}
	outer := map[string]any{
		"type": "object", "properties": map[string]any{Inside: inner}, "required": []string{Inside},
		"additionalProperties": false,
	}
	if _, apart := inner["$id"]; !apart { // with an id of its own its root stays its root
		move(inner)
		if defs, ok := inner["$defs"]; ok {
			outer["$defs"] = defs
			delete(inner, "$defs")
		}
	}
	delete(inner, "$schema")
	return rawjson.Encode(outer)
}

// data are keywords whose values are no schemas.
var data = map[string]bool{"const": true, "enum": true, "default": true, "examples": true}

// move makes references from the root of a schema ones to where the schema stands now.
func move(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, of := range v {
			ref, isText := of.(string)
			switch {
			case (name == "$ref" || name == "$dynamicRef") && isText &&
				(ref == "#" || strings.HasPrefix(ref, "#/") && !strings.HasPrefix(ref, "#/$defs/")):
				v[name] = "#/properties/" + Inside + strings.TrimPrefix(ref, "#")
			case !data[name]:
				move(of)
			}
		}
	case []any:
		for _, of := range v {
			move(of)
		}
	}
}

// strict reports whether a schema is one that strict modes of providers take: every object is closed and requires all
// of its properties, and nothing but the plainest keywords is used.
func strict(schema json.RawMessage) bool {
	in := json.NewDecoder(bytes.NewReader(schema))
	var v map[string]any
	return in.Decode(&v) == nil && strictly(v, 0)
}

// plain are the keywords that strict modes take; of the others some refuse the request.
var plain = map[string]bool{
	"type": true, "properties": true, "required": true, "additionalProperties": true, "items": true, "enum": true,
	"description": true, "title": true, "anyOf": true,
}

// maxStrictDepth is how deeply strict modes take objects nested.
const maxStrictDepth = 5

func strictly(v any, depth int) bool {
	s, ok := v.(map[string]any)
	if !ok || depth > 2*maxStrictDepth {
		return false
	}
	for name := range s {
		if !plain[name] {
			return false
		}
	}
	_, listed := s["anyOf"]
	if _, typed := s["type"]; !typed && !listed {
		return false
	}
	properties, _ := s["properties"].(map[string]any)
	if s["type"] == "object" {
		required, _ := s["required"].([]any)
		if s["additionalProperties"] != false || len(required) != len(properties) {
			return false
		}
		for _, name := range required {
			text, _ := name.(string)
			if _, there := properties[text]; !there {
				return false
			}
		}
	}
	for _, of := range properties {
		if !strictly(of, depth+1) {
			return false
		}
	}
	if items, ok := s["items"]; ok && !strictly(items, depth+1) {
		return false
	}
	options, _ := s["anyOf"].([]any)
	for _, of := range options {
		if !strictly(of, depth+1) {
			return false
		}
	}
	return true
}
