package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
)

func TestSchemasThatAreRefused(t *testing.T) {
	for name, schema := range map[string]string{
		"no JSON":         `{`,
		"no object":       `true`,
		"no schema":       `{"type": "text"}`,
		"a remote one":    `{"$ref": "https://example.com/schema.json"}`,
		"a file":          `{"$ref": "file:///etc/passwd"}`,
		"another draft":   `{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}`,
		"a bad pattern":   `{"type": "string", "pattern": "("}`,
		"a missing part":  `{"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}`,
		"a long one":      `{"description": "` + strings.Repeat("a", MaxSchema) + `"}`,
		"no real keyword": `{"type": "object", "required": "a"}`,
	} {
		if err := Check(json.RawMessage(schema)); !errors.Is(err, ErrSchema) ||
			!strings.Contains(err.Error(), "result_schema") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, schema := range []string{
		`{}`, `{"type": "object"}`, `{"$schema": "https://json-schema.org/draft/2020-12/schema", "enum": [1]}`,
	} {
		if err := Check(json.RawMessage(schema)); err != nil {
			t.Errorf("%s: %v", schema, err)
		}
	}
}

// A schema is refused with the place in it, as the caller has written it, and nothing of this host.
func TestRefusalsNameThePlace(t *testing.T) {
	for schema, want := range map[string]string{
		`{"type": "array", "items": {"type": "text"}}`:                   "items.type: must be ",
		`{"type": "object", "properties": {"a": {"minLength": "long"}}}`: "properties.a.minLength: must be a",
		`{"type": "object", "required": "a"}`:                            "required: must be an array, got string",
		`{"$ref": "other.json"}`:                                         "it refers to another document, ",
	} {
		err := Check(json.RawMessage(schema))
		if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", schema, err)
		}
		for _, inside := range []string{"file://", "arguments.json", "metaschema", "tool finish", "\n"} {
			if strings.Contains(err.Error(), inside) {
				t.Errorf("%s: %v tells %q", schema, err, inside)
			}
		}
	}
}

// finishing asks for finish with arguments.
func finishing(t *testing.T, schema, args string) (tool.Reply, error) {
	t.Helper()
	tools, err := Tools(json.RawMessage(schema))
	if err != nil {
		t.Fatal(err)
	}
	set, err := tool.NewSet(tools...)
	if err != nil {
		t.Fatal(err)
	}
	call, err := set.Parse(0, model.Block{Type: model.ToolCallBlock, Tool: NameFinish, Args: json.RawMessage(args)})
	if err != nil {
		return nil, err
	}
	return call.Run(t.Context(), nil)
}

// What is wrong with a result is told with the path to it.
func TestProblemsHavePaths(t *testing.T) {
	const schema = `{"type": "object", "properties": {"list": {"type": "array", "items": {
		"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]
	}}}}`
	_, err := finishing(t, schema, `{"list": [{"n": 1}, {}, {"n": "x"}]}`)
	if err == nil || !strings.Contains(err.Error(), "list.1.n: is required") ||
		!strings.Contains(err.Error(), "list.2.n: must be an integer") {
		t.Errorf("told %v", err)
	}
}

func TestLongResultsAreRefused(t *testing.T) {
	reply, err := finishing(t, `{"type": "string"}`, `{"result": "`+strings.Repeat("a", MaxData)+`"}`)
	if f, failed := reply.(tool.Failure); err != nil || !failed || f.Reason != "RESULT_TOO_LONG" {
		t.Errorf("answered %.100v, %v", reply, err)
	}
}

// A schema can be written so that to check a value takes as many steps as there are paths through it.
func TestCostlySchemasEnd(t *testing.T) {
	var defs []string
	for i := range 40 {
		next := fmt.Sprintf(`{"$ref": "#/$defs/d%d"}`, i+1)
		defs = append(defs, fmt.Sprintf(`"d%d": {"allOf": [%s, %[2]s]}`, i, next))
	}
	schema := `{"$defs": {` + strings.Join(defs, ", ") + `, "d40": {"type": "object"}}, "type": "object",
		"$ref": "#/$defs/d0"}`
	if _, err := finishing(t, schema, `{}`); !errors.Is(err, tool.ErrArguments) ||
		!strings.Contains(err.Error(), "too many steps") {
		t.Errorf("told %v", err)
	}
}

func TestStrict(t *testing.T) {
	object := func(a, rest string) string { return `{"type": "object", "properties": {"a": ` + a + `}` + rest + `}` }
	const closed = `, "required": ["a"], "additionalProperties": false`
	for schema, want := range map[string]bool{
		object(`{"type": "string"}`, closed):                             true,
		object(`{"type": "string"}`, `, "additionalProperties": false`):  false,
		object(`{"type": "string"}`, `, "required": ["a"]`):              false,
		object(`{"type": "string", "pattern": "x"}`, closed):             false,
		object(`{"type": "array", "items": {"type": "object"}}`, closed): false,
		object(object(`{"type": "null"}`, closed), closed):               true,
		`{"type": "integer"}`:                         true,
		`{"anyOf": [{"type": "null"}, {"enum": []}]}`: false,
		`{}`: false,
	} {
		tools, err := Tools(json.RawMessage(schema))
		if err != nil {
			t.Fatal(schema, err)
		}
		if got := tools[0].Strict; got != want {
			t.Errorf("%s: %v", schema, got)
		}
	}
}
