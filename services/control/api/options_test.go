package api

import (
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// A schema is a part of what is compared on a replay and of what providers cache, so that two builds of control must
// write it alike.
func TestASchemaOfResultsHasOneForm(t *testing.T) {
	schema, err := structpb.NewStruct(map[string]any{"type": "object", "required": []any{"b", "a"}, "maxProperties": 2})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeOptions(&pawlv1.SubmitRequest{ResultSchema: schema})
	want := `{"maxProperties":2,"required":["b","a"],"type":"object"}`
	if err != nil || string(got.ResultSchema) != want {
		t.Errorf("got %s, %v, want %s", got.ResultSchema, err, want)
	}
}
