package tool

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		tool, args string
		want       Request
	}{
		"read": {
			NameRead, `{"path":"a.txt","offset":3,"limit":10}`,
			ReadText{Path: "a.txt", Offset: 3, Limit: 10},
		},
		"read, path only": {NameRead, `{"path":"a.txt"}`, ReadText{Path: "a.txt"}},
		"write": {
			NameWrite, `{"path":"a","content":"x\u0000\n$& <>"}`,
			WriteFile{Path: "a", Content: []byte("x\x00\n$& <>")},
		},
		"write nothing": {NameWrite, `{"path":"a","content":""}`, WriteFile{Path: "a", Content: []byte{}}},
		"edit": {
			NameEdit, `{"path":"a","oldText":" x\n","newText":"$1","replaceAll":true}`,
			EditFile{Path: "a", Old: " x\n", New: "$1", ReplaceAll: true},
		},
		"edit away":        {NameEdit, `{"path":"a","oldText":"x","newText":""}`, EditFile{Path: "a", Old: "x"}},
		"bash":             {NameBash, `{"command":"ls","timeout":0.5}`, Exec{Command: "ls", TimeoutSeconds: 0.5}},
		"bash, no timeout": {NameBash, `{"command":" ls","timeout":0}`, Exec{Command: " ls"}},
		"grep":             {NameGrep, `{"pattern":"-a|b","path":"d","include":"*.go","literal":true,"ignoreCase":true}`, Grep{Pattern: "-a|b", Path: "d", Include: "*.go", Literal: true, IgnoreCase: true}},
		"glob":             {NameGlob, `{"pattern":"**/*.go","path":"d"}`, Glob{Pattern: "**/*.go", Path: "d"}},
		"number as string": {
			NameRead, `{"path":"a","offset":" 2 ","limit":"1e2"}`,
			ReadText{Path: "a", Offset: 2, Limit: 100},
		},
		"fraction as string": {NameBash, `{"command":"a","timeout":"1.5"}`, Exec{Command: "a", TimeoutSeconds: 1.5}},
		"whole float": {
			NameRead, `{"path":"a","offset":2.0,"limit":1e3}`,
			ReadText{Path: "a", Offset: 2, Limit: 1000},
		},
		"boolean as string": {
			NameGrep, `{"pattern":"a","literal":"true","ignoreCase":"false"}`,
			Grep{Pattern: "a", Literal: true},
		},
		"number for string":   {NameGrep, `{"pattern":5}`, Grep{Pattern: "5"}},
		"fraction for string": {NameGrep, `{"pattern":1.5}`, Grep{Pattern: "1.5"}},
		"large for string":    {NameGrep, `{"pattern":12345678901}`, Grep{Pattern: "12345678901"}},
		"boolean for string": {
			NameWrite, `{"path":"a","content":true}`,
			WriteFile{Path: "a", Content: []byte("true")},
		},
		"null for optional":   {NameRead, `{"path":"a","offset":null,"limit":null}`, ReadText{Path: "a"}},
		"string stays string": {NameGrep, `{"pattern":"5"}`, Grep{Pattern: "5"}},
		"blank content":       {NameWrite, `{"path":"a","content":" "}`, WriteFile{Path: "a", Content: []byte(" ")}},
		"NUL in text to edit": {
			NameEdit, `{"path":"a","oldText":"\u0000","newText":""}`,
			EditFile{Path: "a", Old: "\x00"},
		},
		"the largest offset": {
			NameRead, `{"path":"a","offset":9007199254740991}`,
			ReadText{Path: "a", Offset: 9007199254740991},
		},
		"the longest timeout": {
			NameBash, `{"command":"a","timeout":86400}`,
			Exec{Command: "a", TimeoutSeconds: 86400},
		},
		"space around the lot": {NameGlob, " {\"pattern\":\"a\"}\n", Glob{Pattern: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			call, err := Parse(c.tool, json.RawMessage(c.args))
			if err != nil || !reflect.DeepEqual(call.Request, c.want) {
				t.Fatalf("got %#v, %v, want %#v", call.Request, err, c.want)
			}
			if got := call.Request.Tool(); got != c.tool {
				t.Errorf("tool %s", got)
			}
			if res := call.Annotate(Result{Text: "x"}); res.Text != "x" || res.Details != nil {
				t.Errorf("a note without a cause: %+v", res)
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
			req, err := Parse(c.tool, json.RawMessage(c.args))
			if req.Request != nil || !errors.Is(err, ErrArguments) {
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
	_, err := Parse(NameRead, raw)
	if err == nil || len(err.Error()) > 6000 || !strings.Contains(err.Error(), "\n  - … 81 more\n") ||
		strings.Count(err.Error(), "\n  - ") != 21 {
		t.Errorf("got %d bytes: %v", len(err.Error()), err)
	}
	if _, err := Parse(NameRead, []byte("\xff\x00")); err == nil || sanitize(err.Error()) != err.Error() {
		t.Errorf("unsafe text: %q", err)
	}
	if _, err := Parse(NameRead, []byte(`{"a\u0000b":1}`)); err == nil || strings.Contains(err.Error(), "\x00") {
		t.Errorf("unsafe text: %q", err)
	}
}

func TestParseUnknownTool(t *testing.T) {
	_, err := Parse("nope", nil)
	if !errors.Is(err, ErrUnknown) || err.Error() != "Tool nope not found. Available tools: read, write, edit, bash, "+
		"grep, glob." {
		t.Errorf("got %v", err)
	}
	if _, err := Parse(strings.Repeat("x\x00", 1000), nil); !errors.Is(err, ErrUnknown) || len(err.Error()) > 250 ||
		strings.Contains(err.Error(), "\x00") {
		t.Errorf("got %q", err)
	}
	if r := Refused(err); !r.IsError || r.Text != err.Error() {
		t.Errorf("got %#v", r)
	}
}

func TestBuildKnowsOnlyTheTools(t *testing.T) {
	if req, err := build("nope", nil); req != nil || err == nil {
		t.Errorf("got %v, %v", req, err)
	}
}

func TestCompileRefusesBadSchemas(t *testing.T) {
	for _, schema := range []string{`{`, `{"type":"nothing"}`, `{"properties":{"a":{"type":["string","null"]}}}`} {
		if _, err := compile(Tool{Name: "x", Schema: json.RawMessage(schema)}); err == nil {
			t.Errorf("%s passes", schema)
		}
	}
}

func TestExplainHasAWordForEverything(t *testing.T) {
	c, err := compile(Tool{Name: "x", Schema: json.RawMessage(`{"properties":{"a":{"type":"string","pattern":"^x$"}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.explain(c.schema.Validate(map[string]any{"a": "y"})); !slices.Equal(got,
		[]string{"a: breaks the schema's pattern"}) {
		t.Errorf("got %q", got)
	}
	if got := c.explain(errors.New("odd")); !slices.Equal(got, []string{"arguments: odd"}) {
		t.Errorf("got %q", got)
	}
}

func TestTools(t *testing.T) {
	if got := Names(); !slices.Equal(got, []string{"read", "write", "edit", "bash", "grep", "glob"}) {
		t.Errorf("got %v", got)
	}
	for name, want := range map[string]Safety{
		NameRead: Pure, NameWrite: Idempotent, NameEdit: AtMostOnce, NameBash: AtMostOnce, NameGrep: Pure, NameGlob: Pure, "nope": AtMostOnce,
	} {
		if got := SafetyOf(name); got != want {
			t.Errorf("%s is %v", name, got)
		}
	}
	for s, want := range map[Safety]string{
		AtMostOnce: "at_most_once", Idempotent: "idempotent", Pure: "pure",
		0: "unspecified",
	} {
		if s.String() != want {
			t.Errorf("got %s", s)
		}
	}
	for _, name := range Names() {
		got, err := Get(name)
		if err != nil || got.Name != name || len(got.Description) < 50 || !json.Valid(got.Schema) {
			t.Errorf("got %#v, %v", got, err)
		}
	}
	if _, err := Get("nope"); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestOfferKeepsOneOrder(t *testing.T) {
	got := Offer([]string{"task", "grep", "read"})
	if len(got) != 2 || got[0].Name != "read" || got[1].Name != "grep" || got[0].Description == "" ||
		!json.Valid(got[0].Schema) {
		t.Errorf("got %v", got)
	}
	if Offer(nil) != nil {
		t.Error("offered something")
	}
}

// Every argument that a schema names must reach the request.
func TestEverySchemaPropertyIsUsed(t *testing.T) {
	for _, tl := range builtin {
		var shape struct {
			Properties map[string]struct {
				Type        string
				Description string
			}
		}
		if err := json.Unmarshal(tl.Schema, &shape); err != nil {
			t.Fatal(err)
		}
		for name, p := range shape.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s is not described", tl.Name, name)
			}
			value := map[string]any{"string": "marker", "integer": 77, "number": 77, "boolean": true}[p.Type]
			args := map[string]any{name: value}
			req, err := build(tl.Name, args)
			if err != nil {
				t.Fatal(err)
			}
			empty, _ := build(tl.Name, nil)
			if reflect.DeepEqual(req, empty) {
				t.Errorf("%s.%s is ignored", tl.Name, name)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range append(Names(), "nope") {
		f.Add(name, []byte(`{"path":"a","offset":"2","content":null,"command":1,"pattern":true,"oldText":"x","newText":"\ud800"}`))
		f.Add(name, []byte(`{"path":"a"}`))
		f.Add(name, []byte(`{"command":"ls","timeout":1e-300}`))
	}
	f.Fuzz(func(t *testing.T, name string, args []byte) {
		call, err := Parse(name, args)
		req := call.Request
		if (req == nil) == (err == nil) {
			t.Fatalf("got %v and %v", req, err)
		}
		if err != nil {
			if !errors.Is(err, ErrArguments) && !errors.Is(err, ErrUnknown) {
				t.Fatalf("got %v", err)
			}
			if sanitize(err.Error()) != err.Error() || len(err.Error()) > 8000 {
				t.Fatalf("unsafe or long: %q", err)
			}
			return
		}
		if res := call.Annotate(Result{}); sanitize(res.Text) != res.Text || len(res.Text) > 1000 {
			t.Fatalf("unsafe or long: %q", res.Text)
		}
		if req.Tool() != name {
			t.Fatalf("%s for %s", req.Tool(), name)
		}
		switch r := req.(type) {
		case ReadText:
			if r.Path == "" || r.Limit < 0 || strings.Contains(r.Path, "\x00") {
				t.Fatalf("got %#v", r)
			}
		case EditFile:
			if r.Path == "" || r.Old == "" || r.Old == r.New {
				t.Fatalf("got %#v", r)
			}
		case Exec:
			if strings.TrimSpace(r.Command) == "" || !(r.TimeoutSeconds >= 0 && r.TimeoutSeconds <= 86400) {
				t.Fatalf("got %#v", r)
			}
		}
	})
}
