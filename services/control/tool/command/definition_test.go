package command

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/tool"
)

const full = `# comment
description: Resizes an image.
arguments:
  type: object
  properties:
    zoom: {type: number, minimum: 0.5, enum: [1, 2.5]}
    path: {type: string, description: "Where it is: a <path>."}
  required: [path]
  additionalProperties: false
command: |
  exec resize "$ARG_PATH"
cwd: tools
env:
  TOKEN: ${TOKEN}
  HOME: null
timeout: 1m30s
safety: idempotent
output: image
`

func TestParse(t *testing.T) {
	got, err := Parse("resize", "tools/resize.yaml", []byte(full), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Definition{
		Name: "resize", Description: "Resizes an image.", Command: "exec resize \"$ARG_PATH\"\n", Cwd: "tools",
		Arguments: []byte(`{"type":"object","properties":{"zoom":{"type":"number","minimum":0.5,"enum":[1,2.5]},` +
			`"path":{"type":"string","description":"Where it is: a <path>."}},"required":["path"],` +
			`"additionalProperties":false}`),
		Env:     map[string]*string{"TOKEN": new("${TOKEN}"), "HOME": nil},
		Timeout: 90 * time.Second, Safety: tool.Idempotent, Output: Image,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	least, err := Parse("x", "x.yaml", []byte("description: a\ncommand: b\n"), nil)
	want = Definition{
		Name: "x", Description: "a", Command: "b", Arguments: []byte(noArguments), Safety: tool.AtMostOnce,
		Output: Text,
	}
	if err != nil || !reflect.DeepEqual(least, want) {
		t.Errorf("got %+v, %v", least, err)
	}
	for _, d := range []Definition{got, least} {
		if _, err := d.Tool(); err != nil {
			t.Error(err)
		}
	}
}

// The files are given without their first two lines.
func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key": {
			"runs: x",
			"3:1: runs: unknown key; there are description, arguments, command, cwd, env, timeout, safety, output",
		},
		"twice":          {"command: x", "3:1: command: is given twice"},
		"blank cwd":      {`cwd: " "`, "3:6: cwd: must not be empty"},
		"long cwd":       {"cwd: " + strings.Repeat("x", maxPath+1), "3:6: cwd: must have at most 4096 characters"},
		"safety":         {"safety: none", `3:9: safety: must be one of pure, idempotent, at_most_once, got "none"`},
		"output":         {"output: xml", `3:9: output: must be one of text, json, image, got "xml"`},
		"timeout number": {"timeout: 5", "3:10: timeout: must be a duration, such as 30m or 1h, got a number"},
		"timeout long":   {"timeout: 25h", "3:10: timeout: must be at most 24h0m0s"},
		"variable's name": {
			"env: {a-b: x}",
			"3:7: env.a-b: cannot be a variable's name: letters, digits and _, not beginning with a digit",
		},
		"argument's": {
			"env: {ARG_A: x}", "3:7: env.ARG_A: is for an argument: variables that begin with ARG_ have these",
		},
		"reference": {
			`env: {A: "${}"}`,
			"3:10: env.A: ${ must be followed by the name of a variable and }; write $${ for a literal ${",
		},
		"not set": {`env: {A: "${NOPE}"}`, "3:10: env.A: variable NOPE is not set in the environment of control"},
		"no object": {
			"arguments: {type: string}",
			"3:12: arguments: must be the JSON Schema of an object: type: object, and properties",
		},
		"list":      {"arguments: [a]", "3:12: arguments: "},
		"no schema": {"arguments: {type: object, properties: {a: {type: nope}}}", "3:12: arguments: "},
		"another's": {"arguments: {type: object, properties: {a: {$ref: \"http://a/b\"}}}", "3:12: arguments: "},
		"date": {
			"arguments: {type: object, properties: {a: {const: 2020-01-01}}}",
			"3:51: arguments.properties.a.const: must be a value that JSON has, got a date; put it in quotes",
		},
		"infinite": {
			"arguments: {type: object, properties: {a: {const: .inf}}}",
			"3:51: arguments.properties.a.const: must be a number that JSON has: neither infinite nor .nan",
		},
		"one variable": {
			"arguments: {type: object, properties: {a-b: {}, a_b: {}}}",
			"3:12: arguments: a-b and a_b would both be the variable ARG_A_B: rename one",
		},
		"key in a schema": {"arguments: {type: object, type: object}", "3:27: arguments.type: is given twice"},
	} {
		src := []byte("description: d\ncommand: c\n" + c.text)
		d, err := Parse("x", "x.yaml", src, func(string) (string, bool) { return "", false })
		if !errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), "x.yaml:"+c.want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %+v, %v\nwant %s", name, d, err, c.want)
		}
	}
	for name, src := range map[string]string{
		"x y": "description: d\ncommand: c", "empty": "", "list": "- a", "blank": "description: ' '\ncommand: ''",
		"bytes": "\xff", "two": "description: d\ncommand: c\n---\na: b",
	} {
		if _, err := Parse(name, "x.yaml", []byte(src), nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("description: d\ncommand: c\narguments: {type: object, properties: {a: {const: [1, {b: null}]}}}"))
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := Parse("x", "x.yaml", src, nil)
		if err != nil {
			return
		}
		if _, err := d.Tool(); err != nil {
			t.Fatalf("what Parse takes is no tool: %v", err)
		}
	})
}
