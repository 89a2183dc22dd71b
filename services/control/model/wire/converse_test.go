package wire_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

// strictConverse reads a request as Bedrock does.
func strictConverse(raw []byte) ([]turn, error) {
	type image struct {
		Format string
		Source struct{ Bytes []byte }
	}
	type block struct {
		Text    *string
		Image   *image
		ToolUse *struct {
			ToolUseID, Name string
			Input           json.RawMessage
		}
		ToolResult *struct {
			ToolUseID, Status string
			Content           []struct {
				Text  *string
				Image *image
			}
		}
		ReasoningContent *struct {
			ReasoningText   *struct{ Text, Signature string }
			RedactedContent string
		}
		CachePoint *struct{ Type string }
	}
	var req struct {
		Messages []struct {
			Role    string
			Content []block
		}
	}
	if err := json.Unmarshal(raw, &req); err != nil {
		return nil, err
	}
	var turns []turn
	for i, m := range req.Messages {
		t := turn{who: m.Role}
		for n, b := range m.Content {
			switch {
			case b.Text != nil:
				t.texts = append(t.texts, *b.Text)
			case b.Image != nil:
				if !strings.Contains("png jpeg gif webp", b.Image.Format) {
					return nil, fmt.Errorf("message %d: an image of format %q", i, b.Image.Format)
				}
				t.images++
			case b.ReasoningContent != nil:
				signed := b.ReasoningContent.ReasoningText != nil && b.ReasoningContent.ReasoningText.Signature != ""
				if !signed && b.ReasoningContent.RedactedContent == "" || n == len(m.Content)-1 {
					return nil, fmt.Errorf("message %d: a thought at %d of %d", i, n, len(m.Content))
				}
			case b.ToolUse != nil:
				if _, err := object(b.ToolUse.Input); err != nil {
					return nil, fmt.Errorf("message %d: %w", i, err)
				}
				if err := strictName(b.ToolUse.Name); err != nil {
					return nil, err
				}
				t.calls = append(t.calls, b.ToolUse.ToolUseID)
			case b.ToolResult != nil:
				if len(t.texts)+t.images > 0 || len(b.ToolResult.Content) == 0 {
					return nil, fmt.Errorf("message %d: a result that is empty or behind something else", i)
				}
				t.who, t.results = "tool", append(t.results, b.ToolResult.ToolUseID)
				for _, c := range b.ToolResult.Content {
					if c.Text != nil && strings.TrimSpace(*c.Text) == "" {
						return nil, fmt.Errorf("message %d: a blank text in a result", i)
					}
				}
			case b.CachePoint == nil:
				return nil, fmt.Errorf("message %d: a block of no type", i)
			case n == 0:
				return nil, fmt.Errorf("message %d: a mark before all else", i)
			}
		}
		turns = append(turns, t)
	}
	return turns, nil
}

// frames are an answer as AWS frames it.
func frames(p modeltest.Play) string {
	var all strings.Builder
	for _, e := range p {
		all.WriteString(e.Raw)
	}
	return all.String()
}

func TestConverse(t *testing.T) {
	stream := func(turn modeltest.Turn) string { return frames(modeltest.Converse.Stream(turn)) }
	full := modeltest.Turn{
		Redacted: "dark", Thinking: []string{"h", "m"}, Signature: "c2ln", Text: []string{"hel", "lo"},
		Calls: []modeltest.WireCall{
			{ID: "a", Tool: "bash", Args: []string{`{"c"`, `:1}`}}, {ID: "b", Tool: "ls"},
		},
		Usage: model.Usage{Input: 3, Output: 5, CacheRead: 7, CacheWrite: 2},
	}
	part := modeltest.Converse.Stream(modeltest.Turn{Text: []string{"hello"}})
	failed := func(kind string) string {
		return frames(append(part[:2:2], modeltest.Converse.ErrorEvent(kind, "oh no")))
	}
	spoiled := modeltest.Framed("messageStop", `{"stopReason":"malformed_tool_use"}`)
	broken := []byte(stream(modeltest.Turn{Text: []string{"a"}}))
	broken[len(broken)/2] ^= 1
	dark := base64.StdEncoding.EncodeToString([]byte("dark"))
	for name, tt := range map[string]struct{ src, want string }{
		"everything": {
			stream(full), `thinks  {"redacted":"` + dark + `"} | thinks hm {"signature":"c2ln"} | hello | a=bash{` +
				`"c":1}` +
				` | b=ls{} | 3+5 | cached 7+2 | tool_use`,
		},
		"without its usage": {frames(part[:len(part)-1]), "hello | stop"},
		"cut":               {frames(part[:3]), "hello | error: the stream ended before its end"},
		"cut in a frame": {
			frames(part[:2]) + part[2].Raw[:20], "hello | error: the stream ended before its end",
		},
		"refused": {
			stream(modeltest.Turn{Text: []string{"a"}, Refused: true}),
			"a | error: the provider's safety system stopped the answer: it ended with guardrail_intervened",
		},
		"throttled": {
			failed("throttlingException"), `hello | error: the provider reported an error: ` +
				`"{\"error\":{\"type\":\"throttlingException\",\"message\":\"oh no\"}}"`,
		},
		"an answer that the server cannot read": {
			frames(append(part[:2:2], spoiled, part[len(part)-1])),
			"hello | error: the provider could not read its model's answer: malformed_tool_use",
		},
		"no frames": {"<html>", "error: the stream ended before its end"},
	} {
		for _, r := range []io.Reader{strings.NewReader(tt.src), iotest.OneByteReader(strings.NewReader(tt.src))} {
			if got := tell(t, parts(model.APIConverse, r)); got != tt.want {
				t.Errorf("%s, by %T:\ngot  %s\nwant %s", name, r, got, tt.want)
			}
		}
	}
	whole := `{"output":{"message":{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"hm",` +
		`"signature":"c2ln"}}},{"text":"so"},{"toolUse":{"toolUseId":"a","name":"ls","input":{"c":1}}}]}},` +
		`"stopReason":"tool_use","usage":{"inputTokens":3,"outputTokens":5}}`
	for src, want := range map[string]string{
		whole:               `thinks hm {"signature":"c2ln"} | so | a=ls{"c":1} | 3+5 | tool_use`,
		"\n" + whole + "\n": `thinks hm {"signature":"c2ln"} | so | a=ls{"c":1} | 3+5 | tool_use`,
		`{"message":"no"}`:  `error: the provider reported an error: "{\"message\":\"no\"}"`,
		`[{"error":"no"}]`:  `error: the provider reported an error: "{\"error\":\"no\"}"`,
		`{"message":`:       "error: an event of the provider's stream is no JSON object: \"{\\\"message\\\":\"",
		`{}`:                "error: the stream ended before its end",
	} {
		if got := tell(t, parts(model.APIConverse, iotest.OneByteReader(strings.NewReader(src)))); got != want {
			t.Errorf("%s without frames:\ngot  %s\nwant %s", src, got, want)
		}
	}
	if got := tell(t, parts(model.APIConverse, strings.NewReader(string(broken)))); !strings.Contains(got,
		"a frame of the provider's stream cannot be read") {
		t.Errorf("a frame with another checksum: %s", got)
	}
}

// What Bedrock keeps in a cache is marked by pieces of their own, and only for models that have one.
func TestConverseMarksWhatIsKept(t *testing.T) {
	for id, want := range map[string]int{
		"eu.anthropic.claude-sonnet-4-6": 3, "amazon.nova-pro-v1:0": 2,
		"meta.llama": 0,
	} {
		to := target(model.APIConverse)
		to.Ref.ID = id
		tools, err := wire.EncodeTools(to, []model.Tool{{
			Name:   "ls",
			Schema: json.RawMessage(`{"type":"object"}`),
		}}, true)
		if err != nil {
			t.Fatal(err)
		}
		e := wire.NewEncoder(to, wire.Omission{})
		e.Take([]model.Message{says(model.User, textOf("a")), says(model.Assistant, textOf("b")), says(model.User,
			textOf("c"))})
		head := wire.Head{Request: model.Request{System: "s"}, Tools: tools}.Append(nil, to)
		var raw []byte
		for _, part := range e.Body(head, true) {
			raw = append(raw, part...)
		}
		if got := strings.Count(string(raw), `{"cachePoint":{"type":"default"}}`); got != want || !json.Valid(raw) {
			t.Errorf("%s: %d marks: %s", id, got, raw)
		}
		if _, err := strict(model.APIConverse, raw); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
