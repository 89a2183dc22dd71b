// Package openapi is the description of /v1: one OpenAPI 3.1 document, and a page to read it in.
//
//	proto/ ─protoc-gen-openapiv3─▶ parts/, one a file ─▶ Document: merged, named, with errors and streams
//
// The documents in parts/ are generated, with the comments of proto/ as their texts. What they do not know is added
// here: the security scheme, the form of errors and their reasons, server-sent events, and what is not an RPC.
package openapi

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed parts
var parts embed.FS

// object is a JSON object.
type object = map[string]any

//go:embed about.txt
var about string

// Document is the whole document, as JSON.
var Document = sync.OnceValues(func() ([]byte, error) {
	doc, err := build()
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(doc, "", "  ")
})

// build puts the parts together.
func build() (object, error) {
	paths, schemas, tags := object{}, object{"Problem": problem}, []any{}
	err := fs.WalkDir(parts, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := parts.ReadFile(name)
		if err != nil {
			return err
		}
		var part struct {
			Paths      object
			Components struct{ Schemas object }
			Tags       []any
		}
		if err := json.Unmarshal(body, &part); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for path, item := range part.Paths { // two services may have methods of one path
			path = nested.Replace(path)
			known, _ := paths[path].(object)
			methods, _ := item.(object)
			if known == nil {
				known = object{}
			}
			maps.Copy(known, methods)
			paths[path] = known
		}
		maps.Copy(schemas, part.Components.Schemas)
		tags = append(tags, part.Tags...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := addByHand(paths, schemas); err != nil {
		return nil, err
	}
	delete(schemas, "google.rpc.Status") // errors have a form of their own
	used := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for _, op := range operations(paths[path]) {
			finish(op, used)
		}
	}
	return object{
		"openapi":    "3.1.0",
		"info":       object{"title": "Pawl", "version": "v1", "description": about, "license": license},
		"servers":    []any{object{"url": "/"}},
		"security":   []any{object{"token": []any{}}},
		"paths":      paths,
		"tags":       tags,
		"components": object{"schemas": schemas, "securitySchemes": object{"token": token}},
	}, nil
}

var (
	license = object{"name": "Apache-2.0", "identifier": "Apache-2.0"}
	token   = object{"type": "http", "scheme": "bearer", "description": "A token that `control token create` has made."}
	text    = object{"type": "string"}
	problem = object{
		"type": "object", "description": "Why a request failed.", "required": []any{"error"},
		"properties": object{"error": object{
			"type": "object", "required": []any{"reason", "message", "request_id"},
			"properties": object{
				"reason":  object{"type": "string", "description": "For programs, in UPPER_SNAKE_CASE."},
				"message": object{"type": "string", "description": "For people: what is wrong, and what to do."},
				"details": object{
					"type": "object", "additionalProperties": text,
					"description": "Facts for programs, by name; which there are depends on the reason.",
				},
				"request_id": object{"type": "string", "description": "X-Request-Id of the request."},
			},
		}},
	}
	problemRef = object{"application/json": object{"schema": object{"$ref": "#/components/schemas/Problem"}}}
)

// nested leaves out of a path in which message a variable is.
var nested = strings.NewReplacer("{key.", "{", "{target.", "{")

// operations are those of a path, in a fixed order.
func operations(item any) []object {
	var all []object
	methods, _ := item.(object)
	for _, m := range slices.Sorted(maps.Keys(methods)) {
		if op, ok := methods[m].(object); ok && op["responses"] != nil {
			all = append(all, op)
		}
	}
	return all
}

// finish adds to an operation what its generated description lacks.
func finish(op object, used map[string]bool) {
	op["operationId"] = name(op["operationId"], used)
	summary, _ := op["summary"].(string)
	description, _ := op["description"].(string)
	whole := strings.TrimSpace(summary + "\n\n" + description)
	first, _, _ := strings.Cut(summary, ". ")
	op["summary"], op["description"] = strings.TrimSuffix(strings.Join(strings.Fields(first), " "), "."), whole
	params, _ := op["parameters"].([]any)
	for _, p := range params {
		if p, ok := p.(object); ok {
			p["name"] = strings.TrimPrefix(strings.TrimPrefix(p["name"].(string), "key."), "target.")
		}
	}
	if op["requestBody"] != nil || strings.Contains(whole, "idempotency key") {
		describeKey(op, params)
	}
	responses, _ := op["responses"].(object)
	for status, r := range errorsOf(whole) {
		responses[status] = r
	}
	if ok, streams := responses["200"].(object); streams {
		describeStream(ok)
	}
}

// name is an operation's id, as client generators make functions of it: listSessions for SessionService_ListSessions.
func name(id any, used map[string]bool) string {
	long, _ := id.(string)
	_, short, _ := strings.Cut(long, "_")
	short, _, _ = strings.Cut(short, "_")
	short = strings.ToLower(short[:1]) + short[1:]
	unique := short
	for n := 2; used[unique]; n++ {
		unique = short + strconv.Itoa(n)
	}
	used[unique] = true
	return unique
}

// describeKey adds the header that stands for the field idempotencyKey.
func describeKey(op object, params []any) {
	body, _ := json.Marshal(op["requestBody"]) // of what came from JSON
	if !strings.Contains(string(body), "idempotencyKey") {
		return
	}
	op["parameters"] = append(params, object{
		"name": "Idempotency-Key", "in": "header", "schema": text,
		"description": "The field idempotencyKey, as a header.",
	})
}

// describeStream says that a stream is lines of JSON, or server-sent events.
func describeStream(response object) {
	content, _ := response["content"].(object)
	media, _ := content["application/json"].(object)
	schema, _ := media["schema"].(object)
	properties, _ := schema["properties"].(object)
	result := properties["result"]
	if result == nil {
		return
	}
	said, _ := response["description"].(string)
	response["description"] = strings.TrimSuffix(said, " (streaming responses)")
	response["content"] = object{
		"application/x-ndjson": object{"schema": result},
		"text/event-stream":    object{"schema": text},
	}
}

// reasons finds "fails with CODE, reason A or B" in the comments of proto/, which say so of every error that is an
// RPC's own.
var reasons = regexp.MustCompile(`([A-Z_]{4,}),\s+reason\s+([A-Z_]+(?:(?:,|,?\s+or)\s+[A-Z_]+)*)`)

// statusOf are the statuses of gRPC's codes, by name, as package transcode answers them.
var statusOf = map[string]string{
	"INVALID_ARGUMENT": "400", "NOT_FOUND": "404", "ALREADY_EXISTS": "409", "FAILED_PRECONDITION": "409",
	"OUT_OF_RANGE": "410", "RESOURCE_EXHAUSTED": "429", "UNAVAILABLE": "503", "PERMISSION_DENIED": "403",
}

// common are the errors of every operation.
var common = map[string][]string{
	"400": {"BODY_INVALID", "PARAMETER_INVALID", "INVALID_NAME"},
	"401": {"UNAUTHENTICATED"},
	"403": {"FORBIDDEN"},
	"429": {"TOO_MANY_CALLS", "TOO_MANY_FAILURES"},
	"500": {"INTERNAL"},
	"503": {"UNAVAILABLE", "SERVER_STOPPING"},
}

// errorsOf are an operation's error responses.
func errorsOf(text string) map[string]object {
	all := map[string][]string{}
	for status, list := range common {
		all[status] = slices.Clone(list)
	}
	for _, m := range reasons.FindAllStringSubmatch(text, -1) {
		if status, ok := statusOf[m[1]]; ok {
			own := regexp.MustCompile(`[A-Z_]{4,}`).FindAllString(m[2], -1)
			all[status] = append(own, all[status]...)
		}
	}
	out := map[string]object{}
	for status, list := range all {
		out[status] = object{"description": "Reasons: " + strings.Join(list, ", ") + ".", "content": problemRef}
	}
	return out
}
