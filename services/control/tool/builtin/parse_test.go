package builtin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// parse reads a call as an answer asks for it.
func parse(name, args string) (tool.Call, error) {
	return Tools().Parse(0, model.Block{Tool: name, Args: json.RawMessage(args)})
}

// notes are what the result of a call says about its arguments: to the model, and to clients.
func notes(t *testing.T, c tool.Call) (text, ignored string) {
	t.Helper()
	reply := tool.Failure{Reason: "X", Message: "out"}
	with := tool.Asked{Call: c}.Result(reply)
	without := tool.Asked{Call: tool.Call{Tool: c.Tool, Request: c.Request}}.Result(reply)
	text, ok := strings.CutPrefix(with.Text, without.Text)
	if !ok {
		t.Fatalf("the result changed: %q, without notes %q", with.Text, without.Text)
	}
	var details struct{ Ignored json.RawMessage }
	if err := json.Unmarshal(with.Details, &details); err != nil {
		t.Fatal(err)
	}
	return text, string(details.Ignored)
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		tool, args string
		want       tool.Request
	}{
		"read": {
			NameRead, `{"path":"a.txt","offset":3,"limit":10}`,
			tool.ReadText{Path: "a.txt", Offset: 3, Limit: 10},
		},
		"read, path only": {NameRead, `{"path":"a.txt"}`, tool.ReadText{Path: "a.txt"}},
		"write": {
			NameWrite, `{"path":"a","content":"x\u0000\n$& <>"}`,
			tool.WriteFile{Path: "a", Content: []byte("x\x00\n$& <>")},
		},
		"write nothing": {NameWrite, `{"path":"a","content":""}`, tool.WriteFile{Path: "a", Content: []byte{}}},
		"edit": {
			NameEdit, `{"path":"a","oldText":" x\n","newText":"$1","replaceAll":true}`,
			tool.EditFile{Path: "a", Old: " x\n", New: "$1", ReplaceAll: true},
		},
		"edit away":        {NameEdit, `{"path":"a","oldText":"x","newText":""}`, tool.EditFile{Path: "a", Old: "x"}},
		"bash":             {NameBash, `{"command":"ls","timeout":0.5}`, tool.Exec{Command: "ls", TimeoutSeconds: 0.5}},
		"bash, no timeout": {NameBash, `{"command":" ls","timeout":0}`, tool.Exec{Command: " ls"}},
		"grep": {
			NameGrep,
			`{"pattern":"-a|b","path":"d","include":"*.go","literal":true,"ignoreCase":true}`,
			tool.Grep{Pattern: "-a|b", Path: "d", Include: "*.go", Literal: true, IgnoreCase: true},
		},
		"glob": {NameGlob, `{"pattern":"**/*.go","path":"d"}`, tool.Glob{Pattern: "**/*.go", Path: "d"}},
		"number as string": {
			NameRead, `{"path":"a","offset":" 2 ","limit":"1e2"}`,
			tool.ReadText{Path: "a", Offset: 2, Limit: 100},
		},
		"fraction as string": {
			NameBash,
			`{"command":"a","timeout":"1.5"}`,
			tool.Exec{Command: "a", TimeoutSeconds: 1.5},
		},
		"whole float": {
			NameRead, `{"path":"a","offset":2.0,"limit":1e3}`,
			tool.ReadText{Path: "a", Offset: 2, Limit: 1000},
		},
		"boolean as string": {
			NameGrep, `{"pattern":"a","literal":"true","ignoreCase":"false"}`,
			tool.Grep{Pattern: "a", Literal: true},
		},
		"number for string":   {NameGrep, `{"pattern":5}`, tool.Grep{Pattern: "5"}},
		"fraction for string": {NameGrep, `{"pattern":1.5}`, tool.Grep{Pattern: "1.5"}},
		"large for string":    {NameGrep, `{"pattern":12345678901}`, tool.Grep{Pattern: "12345678901"}},
		"boolean for string": {
			NameWrite, `{"path":"a","content":true}`,
			tool.WriteFile{Path: "a", Content: []byte("true")},
		},
		"null for optional":   {NameRead, `{"path":"a","offset":null,"limit":null}`, tool.ReadText{Path: "a"}},
		"string stays string": {NameGrep, `{"pattern":"5"}`, tool.Grep{Pattern: "5"}},
		"blank content": {
			NameWrite,
			`{"path":"a","content":" "}`,
			tool.WriteFile{Path: "a", Content: []byte(" ")},
		},
		"NUL in text to edit": {
			NameEdit, `{"path":"a","oldText":"\u0000","newText":""}`,
			tool.EditFile{Path: "a", Old: "\x00"},
		},
		"the largest offset": {
			NameRead, `{"path":"a","offset":9007199254740991}`,
			tool.ReadText{Path: "a", Offset: 9007199254740991},
		},
		"the longest timeout": {
			NameBash, `{"command":"a","timeout":86400}`,
			tool.Exec{Command: "a", TimeoutSeconds: 86400},
		},
		"space around the lot": {NameGlob, " {\"pattern\":\"a\"}\n", tool.Glob{Pattern: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			call, err := parse(c.tool, c.args)
			if err != nil || !reflect.DeepEqual(call.Request, c.want) {
				t.Fatalf("got %#v, %v, want %#v", call.Request, err, c.want)
			}
			if call.Tool.Name != c.tool {
				t.Errorf("tool %s", call.Tool.Name)
			}
			if note, ignored := notes(t, call); note != "" || ignored != "" {
				t.Errorf("a note without a cause: %s %s", note, ignored)
			}
		})
	}
}

func TestParseListsProblems(t *testing.T) {
	for name, c := range map[string]struct {
		tool, args string
		want       []string
	}{
		"nothing": {NameRead, ``, []string{"path: is required"}},
		"null":    {NameRead, `null`, []string{"path: is required"}},
		"every problem": {
			NameEdit, `{"path":"","newText":[],"replaceAll":"maybe","mode":1}`,
			[]string{
				"newText: must be a string, got array", "oldText: is required", "path: must not be empty",
				"replaceAll: must be a boolean, got string",
				"mode: no such argument; there are newText, oldText, path, replaceAll",
			},
		},
		"not JSON": {NameRead, `{"path":`, []string{"arguments: not valid JSON (unexpected end of JSON " +
			"input)"}},
		"more than one value": {NameRead, `{} {}`, []string{"arguments: not valid JSON (invalid character '{' after " +
			"top-level value)"}},
		"list":         {NameRead, `["a"]`, []string{"arguments: must be an object, got an array"}},
		"string":       {NameEdit, `"a"`, []string{"arguments: must be an object, got a string"}},
		"blank string": {NameRead, `" "`, []string{"arguments: must be an object, got a string"}},
		"number":       {NameRead, `1`, []string{"arguments: must be an object, got a number"}},
		"boolean":      {NameRead, `true`, []string{"arguments: must be an object, got a boolean"}},
		"several edits": {
			NameEdit, `{"path":"a","edits":[{"old":"a","new":"b"},{"old":"c","new":"d"}]}`,
			[]string{
				"newText: is required", "oldText: is required",
				"edits: one call makes one edit; call edit once for each",
			},
		},
		"two other names": {
			NameWrite, `{"path":"a","text":"b","body":"c"}`,
			[]string{"content: is given twice, as body and as text, with different values; give content alone"},
		},
		"two cases": {
			NameBash, `{"Command":"ls","COMMAND":"rm x"}`,
			[]string{"command: is given twice, as COMMAND and as Command, with different values; give command alone"},
		},
		"days in milliseconds": {
			NameBash, `{"command":"ls","timeout_ms":172800000}`, []string{"timeout: must be at most 86400"},
		},
		"argument vector": {NameBash, `{"command":["ls","-l"]}`, []string{"command: must be a string, got array"}},
		"two paths":       {NameRead, `{"path":["a","b"]}`, []string{"path: must be a string, got array"}},
		"NUL in cwd": {
			NameBash, `{"command":"a","cwd":"b\u0000"}`, []string{"cwd: must not contain a NUL character"},
		},
		"null for required": {NameRead, `{"path":null}`, []string{"path: must be a string, got null"}},
		"offset text": {NameRead, `{"path":"a","offset":"end"}`, []string{"offset: must be an integer, got " +
			"string"}},
		"offset infinite": {NameRead, `{"path":"a","offset":"Inf"}`, []string{"offset: must be an integer, got " +
			"string"}},
		"offset not a number": {NameRead, `{"path":"a","offset":"NaN"}`, []string{"offset: must be an integer, got " +
			"string"}},
		"offset fraction": {NameRead, `{"path":"a","offset":1.5}`, []string{"offset: must be an integer, got " +
			"number"}},
		"offset huge": {
			NameRead, `{"path":"a","offset":9007199254740992}`,
			[]string{"offset: must be at most 9007199254740991"},
		},
		"limit huge": {NameRead, `{"path":"a","limit":"1e300"}`, []string{"limit: must be at most " +
			"9007199254740991"}},
		"endless number": {
			NameRead, `{"path":"a","limit":1e999999999}`,
			[]string{"arguments: not valid JSON (json: cannot unmarshal number 1e999999999 into Go value of type " +
				"float64)"},
		},
		"NUL in read": {NameRead, `{"path":"a\u0000"}`, []string{"path: must not contain a NUL character"}},
		"NUL in write": {
			NameWrite, `{"path":"a\u0000","content":""}`,
			[]string{"path: must not contain a NUL character"},
		},
		"NUL in edit": {
			NameEdit, `{"path":"a\u0000","oldText":"a","newText":"b"}`,
			[]string{"path: must not contain a NUL character"},
		},
		"NUL in bash": {NameBash, `{"command":"a\u0000"}`, []string{"command: must not contain a NUL " +
			"character"}},
		"NUL in grep": {
			NameGrep, `{"pattern":"a","path":"b\u0000","include":"c\u0000"}`,
			[]string{"path: must not contain a NUL character", "include: must not contain a NUL character"},
		},
		"NUL in glob": {
			NameGlob, `{"pattern":"a\u0000","path":"b\u0000"}`,
			[]string{"path: must not contain a NUL character", "pattern: must not contain a NUL character"},
		},
		"empty old text": {
			NameEdit, `{"path":"a","oldText":"","newText":"b"}`,
			[]string{"oldText: must not be empty"},
		},
		"edit changes nothing": {
			NameEdit, `{"path":"a","oldText":"b","newText":"b"}`,
			[]string{"newText: is the same as oldText, so nothing would change"},
		},
		"blank command": {NameBash, `{"command":" \n"}`, []string{"command: must not be blank"}},
		"endless timeout": {
			NameBash, `{"command":"a","timeout":1e300}`,
			[]string{"timeout: must be at most 86400"},
		},
		"empty pattern": {NameGrep, `{"pattern":""}`, []string{"pattern: must not be empty"}},
		"empty glob":    {NameGlob, `{"pattern":"","path":""}`, []string{"pattern: must not be empty"}},
		"no command":    {NameBash, `{}`, []string{"command: is required"}},
		"no content":    {NameWrite, `{"path":"a"}`, []string{"content: is required"}},
		"no pattern":    {NameGlob, `{}`, []string{"pattern: is required"}},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := parse(c.tool, c.args)
			if req.Request != nil || !errors.Is(err, tool.ErrArguments) {
				t.Fatalf("got %#v, %v", req, err)
			}
			want := "Validation failed for tool \"" + c.tool + "\":\n  - " + strings.Join(c.want, "\n  - ") +
				"\n\nReceived arguments:\n" + c.args + "\n\nCorrect the arguments and call the tool again."
			if err.Error() != want {
				t.Errorf("got\n%s\nwant\n%s", err, want)
			}
		})
	}
}

func TestParseBoundsItsErrors(t *testing.T) {
	args := map[string]string{}
	for i := range 100 {
		args[fmt.Sprintf("%03d", i)+strings.Repeat("x", 200)] = strings.Repeat("\xff", 1000)
	}
	raw, _ := json.Marshal(args)
	_, err := parse(NameRead, string(raw))
	if err == nil || len(err.Error()) > 6000 || !strings.Contains(err.Error(), "\n  - … 81 more\n") ||
		strings.Count(err.Error(), "\n  - ") != 21 {
		t.Errorf("got %d bytes: %v", len(err.Error()), err)
	}
	if _, err := parse(NameRead, "\xff\x00"); err == nil || clip.Sanitize(err.Error()) != err.Error() {
		t.Errorf("unsafe text: %q", err)
	}
	if _, err := parse(NameRead, `{"a\u0000b":1}`); err == nil || strings.Contains(err.Error(), "\x00") {
		t.Errorf("unsafe text: %q", err)
	}
}

func TestParseUnknownTool(t *testing.T) {
	_, err := parse("nope", "")
	if !errors.Is(err,
		tool.ErrUnknown) || err.Error() != "Tool nope not found. Available tools: read, write, edit, bash, "+
		"grep, glob." {
		t.Errorf("got %v", err)
	}
	if _, err := parse(strings.Repeat("x\x00", 1000), ""); !errors.Is(err, tool.ErrUnknown) || len(err.Error()) > 250 ||
		strings.Contains(err.Error(), "\x00") {
		t.Errorf("got %q", err)
	}
	if r := (tool.Asked{Refused: err}).Result(nil); !r.IsError || r.Text != err.Error() {
		t.Errorf("got %#v", r)
	}
}

func TestTools(t *testing.T) {
	if got := Tools().Names(); !slices.Equal(got, []string{"read", "write", "edit", "bash", "grep", "glob"}) {
		t.Errorf("got %v", got)
	}
	for name, want := range map[string]struct {
		safety tool.Safety
		access tool.Access
	}{
		NameRead:  {tool.Pure, tool.ReadsFiles | tool.ListsFiles},
		NameWrite: {tool.Idempotent, tool.WritesFiles},
		NameEdit:  {tool.AtMostOnce, 0},
		NameBash: {
			tool.AtMostOnce,
			tool.ReadsFiles | tool.ListsFiles | tool.WritesFiles | tool.RemovesFiles | tool.RunsCommands,
		},
		NameGrep: {tool.Pure, tool.ListsFiles},
		NameGlob: {tool.Pure, tool.ListsFiles},
	} {
		got, err := Tools().Find(name)
		if err != nil || got.Safety != want.safety || got.Access != want.access || got.Kind() != tool.KindExecutor ||
			len(got.Description) < 50 || !json.Valid(got.Schema) {
			t.Errorf("got %#v, %v", got, err)
		}
	}
}

// Every argument that a schema names must reach the request.
func TestEverySchemaPropertyIsUsed(t *testing.T) {
	for _, told := range Tools().Told() {
		var shape struct {
			Properties map[string]struct {
				Type        string
				Description string
			}
			Required []string
		}
		if err := json.Unmarshal(told.Schema, &shape); err != nil {
			t.Fatal(err)
		}
		values := map[string]any{"string": "marker", "integer": 77, "number": 77, "boolean": true}
		args := map[string]any{}
		for _, name := range shape.Required {
			args[name] = "x" + name
		}
		least := requestOf(t, told.Name, args)
		for name, p := range shape.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s is not described", told.Name, name)
			}
			with := maps.Clone(args)
			with[name] = values[p.Type]
			if reflect.DeepEqual(requestOf(t, told.Name, with), least) {
				t.Errorf("%s.%s is ignored", told.Name, name)
			}
		}
	}
}

func requestOf(t *testing.T, name string, args map[string]any) tool.Request {
	t.Helper()
	body, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parse(name, string(body))
	if err != nil {
		t.Fatal(err)
	}
	return c.Request
}

func FuzzParse(f *testing.F) {
	for _, name := range append(Tools().Names(), "nope") {
		f.Add(name,
			[]byte(`{"path":"a","offset":"2","content":null,"command":1,"pattern":true,"oldText":"x",`+
				`"newText":"\ud800"}`))
		f.Add(name, []byte(`{"path":"a"}`))
		f.Add(name, []byte(`{"command":"ls","timeout":1e-300}`))
	}
	f.Fuzz(func(t *testing.T, name string, args []byte) {
		call, err := parse(name, string(args))
		req := call.Request
		if (req == nil) == (err == nil) {
			t.Fatalf("got %v and %v", req, err)
		}
		if err != nil {
			if !errors.Is(err, tool.ErrArguments) && !errors.Is(err, tool.ErrUnknown) {
				t.Fatalf("got %v", err)
			}
			if clip.Sanitize(err.Error()) != err.Error() || len(err.Error()) > 8000 {
				t.Fatalf("unsafe or long: %q", err)
			}
			return
		}
		if note, _ := notes(t, call); clip.Sanitize(note) != note || len(note) > 1000 {
			t.Fatalf("unsafe or long: %q", note)
		}
		if call.Tool.Name != name {
			t.Fatalf("%s for %s", call.Tool.Name, name)
		}
		switch r := req.(type) {
		case tool.ReadText:
			if r.Path == "" || r.Limit < 0 || strings.Contains(r.Path, "\x00") {
				t.Fatalf("got %#v", r)
			}
		case tool.EditFile:
			if r.Path == "" || r.Old == "" || r.Old == r.New {
				t.Fatalf("got %#v", r)
			}
		case tool.Exec:
			if strings.TrimSpace(r.Command) == "" || !(r.TimeoutSeconds >= 0 && r.TimeoutSeconds <= 86400) {
				t.Fatalf("got %#v", r)
			}
		}
	})
}
