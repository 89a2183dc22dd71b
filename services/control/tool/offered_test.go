package tool

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
)

// What an executor's tool says has no secrets, wherever they stand, and keeps its numbers.
func TestSaidIsClean(t *testing.T) {
	said := Said{
		Text:       "a hunter2hunter2 b",
		Structured: []byte(`{"hunter2hunter2":[1.10,12345678901234567890,{"x":"is \u0068unter2hunter2"}],"t":true}`),
	}
	got := Clean(said, []string{"hunter2hunter2"}).(Said)
	const structured = `{"[redacted]":[1.10,12345678901234567890,{"x":"is [redacted]"}],"t":true}`
	if got.Text != "a [redacted] b" || string(got.Structured) != structured {
		t.Errorf("got %q and %s", got.Text, got.Structured)
	}
	if broken := Clean(Said{Structured: []byte(`{"a`)}, []string{"hunter2hunter2"}).(Said); broken.Structured != nil {
		t.Errorf("what cannot be searched is kept: %s", broken.Structured)
	}
}

func TestSaidIsShown(t *testing.T) {
	for name, c := range map[string]struct {
		said          Said
		text, details string
		images        int
	}{
		"text":       {Said{Text: "hello\n"}, "hello", "", 0},
		"both":       {Said{Text: "hello", Structured: []byte(`{"a":1}`)}, "hello", `{"structured":{"a":1}}`, 0},
		"structured": {Said{Structured: []byte(`{"a":1}`)}, `{"a":1}`, `{"structured":{"a":1}}`, 0},
		"images":     {Said{Images: [][]byte{{1}, {2}}}, "2 images:", "", 2},
		"nothing":    {Said{}, "(no answer)", "", 0},
		"much": {
			Said{Text: strings.Repeat("x", MaxText+5)},
			strings.Repeat("x", MaxText) + "\n[... 5 more bytes cut ...]",
			"", 0,
		},
		"a failure": {Said{Text: "no", IsError: true}, "no", "", 0},
	} {
		body, err := Encode(c.said)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := Set{}.Decode("gone", body)
		if err != nil {
			t.Fatal(err)
		}
		res := Accepted(model.Block{Tool: "gone", Args: json.RawMessage(`{}`)}, KindExecutor, Pure, nil).Result(stored)
		if res.Text != c.text || string(res.Details) != c.details || len(res.Images) != c.images ||
			res.IsError != c.said.IsError {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

// A reply that the tool alone could show is not guessed at.
func TestAReplyWithoutItsToolIsUnknown(t *testing.T) {
	asked := Accepted(model.Block{Tool: "read"}, KindExecutor, AtMostOnce, nil)
	res := asked.Result(TextReply{})
	if !res.IsError || !strings.Contains(res.Text, "outcome of this call is unknown") {
		t.Errorf("%+v", res)
	}
	reply, err := Accepted(model.Block{Tool: "x"}, KindControl, Pure, nil).Call.Run(t.Context(), nil)
	if f, ok := reply.(Failure); err != nil || !ok || f.Reason != "TOOL_GONE" {
		t.Errorf("%+v, %v", reply, err)
	}
}
