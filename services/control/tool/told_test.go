package tool

import (
	"encoding/json"
	"strings"
	"testing"
)

// Providers refuse a request if the schema of one of its tools has a choice at its top: one tool of a stranger would
// cost the prompt.
func TestASchemaAsModelsAreToldIt(t *testing.T) {
	for name, c := range map[string]struct{ schema, want string }{
		"as it is": {`{"type": "object",  "properties": {"b": {"anyOf": [{}]}, "a": {}}}`, ""},
		"one of two": {
			`{"type":"object","oneOf":[{"properties":{"a":{"type":"string"},"c":{}},"required":["a","c"]},` +
				`{"properties":{"b":{},"c":{"type":"null"}},"required":["b","c"]}],"description":"d"}`,
			`{"description":"d","properties":{"a":{"type":"string"},"b":{},"c":{}},"required":["c"],"type":"object"}`,
		},
		"all of two": {
			`{"type":"object","properties":{"x":{}},"required":["x"],"allOf":[` +
				`{"properties":{"a":{}},"required":["a"]},{"properties":{"b":{}},"required":["b","gone"]},true]}`,
			`{"properties":{"a":{},"b":{},"x":{}},"required":["a","b","x"],"type":"object"}`,
		},
		"other choices": {
			`{"type":"object","properties":{"a":{}},"not":{"required":["a"]},"if":{},"then":{},"enum":[{}],"anyOf":1}`,
			`{"properties":{"a":{}},"type":"object"}`,
		},
	} {
		if c.want == "" {
			c.want = c.schema
		}
		if got := string(told(json.RawMessage(c.schema))); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// What models are not told still holds.
func TestAChoiceOfArgumentsIsChecked(t *testing.T) {
	schema := `{"type":"object","properties":{"a":{},"b":{}},"anyOf":[{"required":["a"]},{"required":["b"]}]}`
	one, err := Offered{Name: "x", Description: "d", Schema: json.RawMessage(schema), Safety: Pure}.Tool("a test")
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewSet(one)
	if err != nil {
		t.Fatal(err)
	}
	if said := string(set.Told()[0].Schema); strings.Contains(said, "anyOf") {
		t.Errorf("models are told %s", said)
	}
	if _, err := one.parse(json.RawMessage(`{}`)); err == nil || !strings.Contains(err.Error(), "is required") {
		t.Errorf("neither of two: %v", err)
	}
	if _, err := one.parse(json.RawMessage(`{"b":1}`)); err != nil {
		t.Error(err)
	}
	bad := Offered{Name: "x", Description: "d", Safety: Pure, Schema: json.RawMessage(
		`{"type":"object","properties":{"$filter":{}}}`)}
	if err := bad.Check(); err == nil || !strings.Contains(err.Error(), `"$filter" cannot be the name of an argument`) {
		t.Errorf("a name that providers refuse: %v", err)
	}
}
