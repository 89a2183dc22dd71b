package tool

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
)

// words is a request of tools that only tests have.
type words struct {
	Said   string `json:"said"`
	Number int    `json:"number"`
}

const wordsSchema = `{"type": "object", "properties": {"said": {"type": "string"}, "number": {"type": "integer"}},
	"additionalProperties": false}`

func spec(name string) Spec {
	return Spec{
		Name: name, Source: "tests/" + name, Schema: json.RawMessage(wordsSchema), Safety: Pure,
		Subject: "said",
		How:     ByExecutor(func(q words, r Answer) Result { return RenderAnswer(r, Fields{"said": q.Said}) }),
	}
}

func define(t *testing.T, s Spec) *Tool {
	t.Helper()
	defined, err := Define(s)
	if err != nil {
		t.Fatal(err)
	}
	return defined
}

func setOf(t *testing.T, names ...string) Set {
	t.Helper()
	var tools []*Tool
	for _, name := range names {
		tools = append(tools, define(t, spec(name)))
	}
	s, err := NewSet(tools...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func asks(tools ...string) model.Message {
	m := model.Message{Role: model.Assistant, Content: []model.Block{{Type: model.TextBlock, Text: "I will."}}}
	for _, name := range tools {
		m.Content = append(m.Content, model.Block{
			Type: model.ToolCallBlock, CallID: "id of " + name, Tool: name,
			Args: json.RawMessage(`{"said":"` + name + `"}`),
		})
	}
	return m
}

func TestASetIsOfferedInItsOwnOrder(t *testing.T) {
	all := setOf(t, "b", "a", "c")
	got := all.Offer([]string{"c", "nothing", "b"}, 0)
	if !slices.Equal(got.Names(), []string{"b", "c"}) || len(got.Told()) != 2 || got.Told()[0].Name != "b" ||
		!json.Valid(got.Told()[0].Schema) {
		t.Errorf("offered %v", got.Told())
	}
	if none := all.Offer(nil, 0); none.Told() != nil || none.Uses(KindExecutor) {
		t.Errorf("offered %v", none.Told())
	}
	if !got.Uses(KindExecutor) || got.Uses(KindTask) {
		t.Error("the kinds of the tools are wrong")
	}
	if more, err := all.With(define(t, spec("d"))); err != nil || len(more.Names()) != 4 || len(all.Names()) != 3 {
		t.Errorf("%v of %v, %v", more.Names(), all.Names(), err)
	}
}

func TestTwoToolsOfOneNameAreRefused(t *testing.T) {
	other := spec("a")
	other.Source = "mcp/server.yaml"
	_, err := setOf(t, "a").With(define(t, other))
	if !errors.Is(err, ErrInvalid) ||
		err.Error() != "two tools have the name a: one of tests/a, one of mcp/server.yaml" {
		t.Errorf("got %v", err)
	}
}

// What cannot be a tool says whose definition it is and what is wrong with it.
func TestDefineRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(`{"type":"object"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Spec){
		"name":            func(s *Spec) { s.Name = "a b" },
		"long name":       func(s *Spec) { s.Name = strings.Repeat("a", 65) },
		"no way":          func(s *Spec) { s.How = How{} },
		"no safety":       func(s *Spec) { s.Safety = 0 },
		"not JSON":        func(s *Spec) { s.Schema = json.RawMessage(`{`) },
		"not a schema":    func(s *Spec) { s.Schema = json.RawMessage(`{"type":"nothing"}`) },
		"a file":          func(s *Spec) { s.Schema = json.RawMessage(`{"$ref":"file://` + file + `"}`) },
		"somewhere":       func(s *Spec) { s.Schema = json.RawMessage(`{"$ref":"http://127.0.0.1:1/x"}`) },
		"not even a type": func(s *Spec) { s.Schema = json.RawMessage(`{"properties":1}`) },
	} {
		s := spec("a")
		change(&s)
		if _, err := Define(s); !errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), "tests/a: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAnAnswerIsReadOnce(t *testing.T) {
	got := setOf(t, "a", "b").Offer([]string{"a", "b"}, 3).Read(asks("b", "nope", "a", "a"))
	if len(got) != 4 || got[0].Refused != nil || got[0].Call.Tool.Name != "b" || got[0].Block.CallID != "id of b" ||
		got[0].Call.Request != (words{Said: "b"}) || got[2].Refused != nil {
		t.Fatalf("got %+v", got)
	}
	if !errors.Is(got[1].Refused, ErrUnknown) ||
		got[1].Refused.Error() != "Tool nope not found. Available tools: a, b." {
		t.Errorf("got %v", got[1].Refused)
	}
	if !errors.Is(got[3].Refused, ErrTooMany) {
		t.Errorf("got %v", got[3].Refused)
	}
	if res := got[1].Result(nil); !res.IsError || res.Text != got[1].Refused.Error() {
		t.Errorf("got %+v", res)
	}
	if res := got[0].Result(nil); !res.IsError || res.Text != "The call was cancelled." {
		t.Errorf("a call that was never made: %+v", res)
	}
	if _, err := (Set{}).Parse(0, model.Block{Tool: "a"}); err == nil ||
		err.Error() != "Tool a not found. Available tools: none." {
		t.Errorf("got %v", err)
	}
	if _, err := setOf(t, "a").Parse(0, model.Block{Tool: "a", ArgsError: "cut"}); !errors.Is(err, ErrArguments) ||
		err.Error() != "cut" {
		t.Errorf("got %v", err)
	}
}

// A reply is kept in a form that its tool alone knows, and a failure in one that every tool has.
func TestRepliesAreReadBack(t *testing.T) {
	set := setOf(t, "a")
	for _, reply := range []Reply{
		Answer{Text: "yes", Details: map[string]string{"b": "c"}}, Failure{Reason: "R", Message: "M"}, Answer{},
	} {
		body, err := Encode(reply)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := set.Decode("a", body); err != nil || !reflect.DeepEqual(got, reply) {
			t.Errorf("got %#v, %v, want %#v", got, err, reply)
		}
	}
	body, _ := Encode(Failure{Reason: "R"})
	if got, err := (Set{}).Decode("gone", body); err != nil || got != (Failure{Reason: "R"}) {
		t.Errorf("the failure of a tool that is gone: %v, %v", got, err)
	}
	for _, body := range []string{`{}`, ``, `x`, `{"reply":[]}`} {
		if got, err := set.Decode("a", []byte(body)); err == nil {
			t.Errorf("%s: got %#v", body, got)
		}
	}
	if _, err := set.Decode("b", []byte(`{"reply":{}}`)); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

// The hash of a call is that of what is carried out: however it was written, and wherever.
func TestHashIsOfWhatIsCarriedOut(t *testing.T) {
	set := setOf(t, "a", "b")
	value := "v"
	hash := func(name, args, cwd string, env map[string]*string) []byte {
		c, err := set.Parse(0, model.Block{Tool: name, Args: json.RawMessage(args)})
		if err != nil {
			t.Fatal(err)
		}
		h, err := c.Hash(cwd, env)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	same := hash("a", `{"said":"x","number":1}`, ".", nil)
	if !bytes.Equal(same, hash("a", ` {"Number":"1", "said":"x"}`, ".", map[string]*string{})) {
		t.Error("the same call has two hashes")
	}
	for name, other := range map[string][]byte{
		"tool":     hash("b", `{"said":"x","number":1}`, ".", nil),
		"request":  hash("a", `{"said":"x","number":2}`, ".", nil),
		"cwd":      hash("a", `{"said":"x","number":1}`, "d", nil),
		"variable": hash("a", `{"said":"x","number":1}`, ".", map[string]*string{"V": &value}),
		"no more":  hash("a", `{"said":"x","number":1}`, ".", map[string]*string{"V": nil}),
	} {
		if bytes.Equal(same, other) {
			t.Errorf("another %s has the same hash", name)
		}
	}
}

// A schema that others wrote may say less, or more, than those of Pawl.
func TestSchemasOfOthers(t *testing.T) {
	s := spec("a")
	s.Schema = json.RawMessage(`{"type": "object", "required": ["said"], "properties": {
		"said": {"type": "string", "minLength": 3}, "number": {"type": ["integer", "null"]},
		"kind": {"enum": ["x", "y"]}, "anything": true, "input": {"type": "object"}}}`)
	var got json.RawMessage
	s.How = ByExecutor(func(raw, Answer) Result { return Result{} })
	set, err := NewSet(define(t, s))
	if err != nil {
		t.Fatal(err)
	}
	parse := func(args string) error {
		c, err := set.Parse(0, model.Block{Tool: "a", Args: json.RawMessage(args)})
		if err == nil {
			got = c.Request.(raw).RawMessage
		}
		return err
	}
	for args, want := range map[string]string{
		`{"said":"abc","other":{"z":1}}`:       `{"other":{"z":1},"said":"abc"}`,
		`{"said":"abc","number":null}`:         `{"number":null,"said":"abc"}`,
		`{"SAID":"abc","description":"aloud"}`: `{"description":"aloud","said":"abc"}`,
		`{"said":"abc","anything":""}`:         `{"anything":"","said":"abc"}`,
		`"abc"`:                                `{"said":"abc"}`,
	} {
		if err := parse(args); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", args, got, err, want)
		}
	}
	for args, want := range map[string]string{
		`{"said":"ab"}`:               "said: must have at least 3 characters",
		`{"said":"abc","kind":"z"}`:   "kind: must be one of [x y]",
		`{"said":"abc","number":"x"}`: "number: must be a null or integer, got string",
		`{"input":{"said":"abc"}}`:    "said: is required",
	} {
		if err := parse(args); err == nil || !strings.Contains(err.Error(), "\n  - "+want+"\n") {
			t.Errorf("%s: got %v", args, err)
		}
	}
}

// raw is a request that keeps the arguments.
type raw struct{ json.RawMessage }

func TestExplainHasAWordForEverything(t *testing.T) {
	c, err := compile(json.RawMessage(`{"properties":{"a":{"type":"string","pattern":"^x$"}},"maxProperties":1}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, breach := range []struct {
		values map[string]any
		want   string
	}{
		{map[string]any{"a": "y"}, "a: breaks the schema's pattern"},
		{map[string]any{"a": "x", "b": 1.0}, "arguments: breaks the schema's maxProperties"},
	} {
		if got := c.explain(c.validate(breach.values)); !slices.Equal(got, []string{breach.want}) {
			t.Errorf("got %q", got)
		}
	}
	if got := c.explain(errors.New("odd")); !slices.Equal(got, []string{"arguments: odd"}) {
		t.Errorf("got %q", got)
	}
}

func TestWords(t *testing.T) {
	for s, want := range map[Safety]string{
		AtMostOnce: "at_most_once", Idempotent: "idempotent", Pure: "pure", 0: "unspecified",
	} {
		if s.String() != want {
			t.Errorf("got %s", s)
		}
	}
	// The numbers are those of rows.
	for k, want := range []string{"unspecified", "executor", "task", "control", "code"} {
		if Kind(k).String() != want {
			t.Errorf("kind %d is %s", k, Kind(k))
		}
	}
}
