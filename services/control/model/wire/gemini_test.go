package wire_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

// strictGemini reads a request as Gemini does, which has no ids of calls: results are as many as the calls before, in
// their order.
func strictGemini(raw []byte) ([]turn, error) {
	type part struct {
		Text                           *string
		Thought                        bool
		ThoughtSignature               json.RawMessage
		InlineData                     *struct{ MimeType, Data string }
		FunctionCall, FunctionResponse *struct {
			Name           string
			Args, Response json.RawMessage
		}
	}
	var req struct {
		Contents []struct {
			Role  string
			Parts []part
		}
	}
	if err := json.Unmarshal(raw, &req); err != nil {
		return nil, err
	}
	var turns []turn
	var names []string // of the calls of the turn before
	for i, c := range req.Contents {
		t := turn{who: map[string]string{"user": "user", "model": "assistant"}[c.Role]}
		results := 0
		for _, p := range c.Parts {
			switch {
			case p.FunctionCall != nil:
				if _, err := object(p.FunctionCall.Args); err != nil {
					return nil, fmt.Errorf("content %d: %w", i, err)
				}
				if err := strictName(p.FunctionCall.Name); err != nil {
					return nil, err
				}
				t.calls = append(t.calls, fmt.Sprintf("%d-%d", i, len(t.calls)))
			case p.FunctionResponse != nil:
				if _, err := object(p.FunctionResponse.Response); err != nil {
					return nil, fmt.Errorf("content %d: %w", i, err)
				}
				if results >= len(names) || names[results] != p.FunctionResponse.Name {
					return nil, fmt.Errorf("content %d: a result of %s for %v", i, p.FunctionResponse.Name, names)
				}
				t.who, t.results = "tool", append(t.results, turns[len(turns)-1].calls[results])
				results++
			case p.InlineData != nil:
				t.images++
			case p.Text == nil:
				return nil, fmt.Errorf("content %d: a part without data", i)
			case p.Thought && len(p.ThoughtSignature) < 3:
				return nil, fmt.Errorf("content %d: a thought without a signature", i)
			case !p.Thought:
				t.texts = append(t.texts, *p.Text)
			}
		}
		names = nil
		for _, p := range c.Parts {
			if p.FunctionCall != nil {
				names = append(names, p.FunctionCall.Name)
			}
		}
		if last := len(turns) - 1; t.who == "user" && last >= 0 && turns[last].who == "tool" &&
			(t.images > 0 || strings.HasPrefix(t.texts[0], "[result")) {
			continue // images of results
		}
		turns = append(turns, t)
	}
	return turns, nil
}

func TestGemini(t *testing.T) {
	const count = `"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":3,"thoughtsTokenCount":2}`
	piece := func(parts, rest string) string {
		return `data: {"candidates":[{"content":{"parts":[` + parts + `],"role":"model"}` + rest + `,"index":0}],` +
			count + `,"modelVersion":"gemini"}` + "\n\n"
	}
	text := func(s string) string { return piece(`{"text":"`+s+`"}`, "") }
	call := func(args, more string) string {
		return `{"functionCall":{"name":"bash","args":` + args + `}` + more + `}`
	}
	end := func(reason string) string { return piece(`{"text":""}`, `,"finishReason":"`+reason+`"`) }
	checkAll(t, model.APIGemini, []answer{
		{"plain", text("hel") + text("lo") + end("STOP"), "hello | 10+5 | stop"},
		{"a reason with the text", piece(`{"text":"a"}`, `,"finishReason":"STOP"`), "a | 10+5 | stop"},
		{
			"no content at the end", text("a") + `data: {"candidates":[{"finishReason":"STOP"}]}` + "\n\n",
			"a | 10+5 | stop",
		},
		{"usage behind the end", `data: {"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}` +
			"\n\ndata: {" + count + "}\n\n", "a | 10+5 | stop"},
		{"cut", text("hello"), "hello | error: the stream ended before its end"},
		{"the limit", text("a") + end("MAX_TOKENS"), "a | 10+5 | length"},
		{
			"cached tokens are part of the prompt's",
			`data: {"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}],"usageMetadata":{` +
				`"promptTokenCount":10,"cachedContentTokenCount":8,"toolUsePromptTokenCount":1,` +
				`"candidatesTokenCount":3}}` + "\n\n",
			"a | 3+3 | cached 8+0 | stop",
		},
		{
			"thoughts",
			piece(`{"text":"hm","thought":true}`, "") + piece(`{"text":"m","thought":true}`, "") +
				piece(`{"text":"a","thoughtSignature":"c2ln"}`, "") + end("STOP"),
			`thinks hmm | a {"signature":"c2ln"} | 10+5 | stop`,
		},
		{
			"a signature with nothing else belongs to what was said",
			text("a") + piece(`{"text":"","thoughtSignature":"c2ln"}`, `,"finishReason":"STOP"`),
			`a {"signature":"c2ln"} | 10+5 | stop`,
		},
		{
			"what follows a signature is another part",
			piece(`{"text":"a","thoughtSignature":"c2ln"}`, "") + text("b") + end("STOP"),
			`a {"signature":"c2ln"} | b | 10+5 | stop`,
		},
		{
			"a signature after a call",
			piece(call(`{"c":1}`, ""), "") + piece(`{"text":"","thoughtSignature":"c2ln"}`, "") + end("STOP"),
			`call_1=bash{"c":1} | thinks  {"signature":"c2ln"} | 10+5 | tool_use`,
		},
		{
			"calls without ids, of which the first is signed",
			text("so") + piece(call(`{"c":1}`, `,"thoughtSignature":"c2ln"`)+","+call(`{"c":1}`, ""), "") + end("STOP"),
			`so | call_1=bash{"c":1} {"signature":"c2ln"} | call_2=bash{"c":1} | 10+5 | tool_use`,
		},
		{
			"calls in chunks of their own",
			piece(call(`{"c":1}`, ""), "") + piece(call(`{"c":2}`, ""), "") + end("STOP"),
			`call_1=bash{"c":1} | call_2=bash{"c":2} | 10+5 | tool_use`,
		},
		{
			"a call without arguments, with an id, among thoughts",
			piece(`{"functionCall":{"name":"ls","id":"x7"},"thought":true}`, "") + end("STOP"),
			`x7=ls{} {"id":"x7"} | 10+5 | tool_use`,
		},
		{
			"a piece of a text that is signed is a piece of its own",
			text("a") + piece(`{"text":"b","thoughtSignature":"c2ln"}`, "") +
				piece(`{"text":"c","thoughtSignature":"MgMg"}`, "") + text("d") + end("STOP"),
			`a | b {"signature":"c2ln"} | c {"signature":"MgMg"} | d | 10+5 | stop`,
		},
		{
			"stopped by a guard in front of the model", text("a") + end("MODEL_ARMOR"),
			"a | error: the provider's safety system stopped the answer: it ended with MODEL_ARMOR",
		},
		{
			"a prompt that is blocked", `data: {"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},` + count +
				"}\n\n",
			"error: the provider's safety system stopped the answer: it blocked the prompt: PROHIBITED_CONTENT",
		},
		{
			"an answer that is stopped", text("a") + end("SAFETY"),
			"a | error: the provider's safety system stopped the answer: it ended with SAFETY",
		},
		{
			"a recitation", text("a") + end("RECITATION"),
			"a | error: the provider's safety system stopped the answer: it ended with RECITATION",
		},
		{
			"a call that the server cannot read",
			`data: {"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"call:bash{"}]}` + "\n\n",
			`error: the provider could not read its model's answer: MALFORMED_FUNCTION_CALL: "call:bash{"`,
		},
		{
			"a reason that is not told", `data: {"candidates":[{"finishReason":"OTHER"}]}` + "\n\n",
			"error: the provider ended the answer for a reason that it does not tell",
		},
		{
			"an error in the middle", text("a") + `data: {"error":{"code":503,"status":"UNAVAILABLE"}}` + "\n\n",
			`a | error: the provider reported an error: "{\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\"}}"`,
		},
		{
			"a list, as without alt=sse",
			`[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]},{"candidates":[{"content":{"parts":[` +
				`{"text":"b"}]},"finishReason":"STOP"}]}]`, "ab | stop",
		},
	})
}

// What Gemini told about its own call goes back with it. A call of another model, and one whose signature was refused,
// gets what stands for a signature, once a turn.
func TestGeminiSignatures(t *testing.T) {
	signed := func(b model.Block) model.Block { b.Opaque = json.RawMessage(`{"signature":"c2ln"}`); return b }
	other := says(model.Assistant, signed(callOf("t", `{}`)), callOf("u", `{}`))
	other.Model = &model.Ref{Provider: "other", ID: "m"}
	own := says(model.Assistant, signed(thought("hm")), thought("no signature"), signed(textOf("so")),
		signed(callOf("t", `{}`)), callOf("u", `{}`))
	gemini3 := target(model.APIGemini)
	gemini3.Ref.ID = "gemini-3-pro"
	own.Model = &gemini3.Ref
	gemini2 := target(model.APIGemini)
	gemini2.Ref.ID = "gemini-2.5-pro"
	const results = `,{"role":"user","parts":[{"functionResponse":{"name":"bash","response":{"output":"1"}}},` +
		`{"functionResponse":{"name":"bash","response":{"error":"no"}}}]}`
	const skip = `,"thoughtSignature":"skip_thought_signature_validator"`
	const bare = `{"functionCall":{"name":"bash","args":{}}`
	for _, tt := range []struct {
		name   string
		target wire.Target
		omit   wire.Omission
		answer model.Message
		want   string // of the answer
	}{
		{
			"its own", gemini3,
			wire.Omission{},
			own,
			`{"text":"hm","thought":true,"thoughtSignature":"c2ln"},{"text":"so","thoughtSignature":"c2ln"},` +
				bare + `,"thoughtSignature":"c2ln"},` + bare + `}`,
		},
		{"its own, refused", gemini3, wire.Omission{Thinking: true}, own, `{"text":"so"},` + bare + skip + `},` +
			bare + `}`},
		{"another model's", gemini3, wire.Omission{}, other, bare + skip + `},` + bare + `}`},
		{"another model's, for an older one", gemini2, wire.Omission{}, other, bare + `},` + bare + `}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			failed := resultOf("u", "no")
			failed.IsError = true
			raw := body(tt.target, tt.omit, []model.Message{
				says(model.User, textOf("a")), tt.answer, says(model.ToolRole, resultOf("t", "1"), failed),
			})
			want := `{"contents":[{"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[` + tt.want + `]}` +
				results + `]}`
			if string(raw) != want {
				t.Errorf("\ngot  %s\nwant %s", raw, want)
			}
		})
	}
}

// A call to which Gemini has given an id goes back with it, and its result names it. One that has none, or shares it
// with another, is told by its place.
func TestGeminisIDs(t *testing.T) {
	src := `data: {"candidates":[{"content":{"parts":[` +
		`{"functionCall":{"id":"x7","name":"bash","args":{}},"thoughtSignature":"c2ln"},` +
		`{"functionCall":{"id":"x7","name":"bash","args":{}}},{"functionCall":{"name":"bash","args":{}}}]},` +
		`"finishReason":"STOP"}]}` + "\n\n"
	tr, err, broken := modeltest.Read(parts(model.APIGemini, strings.NewReader(src)))
	if err != nil || broken != nil {
		t.Fatal(err, broken)
	}
	answer := tr.Message
	results := says(model.ToolRole)
	for _, b := range answer.Content {
		results.Content = append(results.Content, resultOf(b.CallID, "1"))
	}
	const bare = `{"functionCall":{"name":"bash","args":{}}}`
	const result = `{"functionResponse":{"name":"bash","response":{"output":"1"}}}`
	for _, tt := range []struct {
		by                     model.Ref
		firstCall, firstResult string
	}{
		{
			self, `{"functionCall":{"name":"bash","id":"x7","args":{}},"thoughtSignature":"c2ln"}`,
			`{"functionResponse":{"name":"bash","id":"x7","response":{"output":"1"}}}`,
		},
		{model.Ref{Provider: "other", ID: "m"}, bare, result},
	} {
		answer.Model = &tt.by
		raw := body(target(model.APIGemini), wire.Omission{}, []model.Message{
			says(model.User, textOf("a")), answer, results,
		})
		want := `{"contents":[{"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[` + tt.firstCall + `,` +
			bare + `,` + bare + `]},{"role":"user","parts":[` + tt.firstResult + `,` + result + `,` + result + `]}]}`
		if string(raw) != want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.by, raw, want)
		}
	}
}

// A text is one, whichever pieces of it are signed.
func TestATextThatIsSignedInPieces(t *testing.T) {
	src := sse(`{"candidates":[{"content":{"parts":[{"text":"It is"}]}}]}`,
		`{"candidates":[{"content":{"parts":[{"text":" so","thoughtSignature":"c2ln"}]}}]}`,
		`{"candidates":[{"content":{"parts":[{"text":"."}]},"finishReason":"STOP"}]}`)
	tr, err, broken := modeltest.Read(parts(model.APIGemini, strings.NewReader(src)))
	if err != nil || broken != nil || tr.Message.Text() != "It is so." || len(tr.Message.Content) != 3 {
		t.Errorf("%q in %d blocks, %v, %v", tr.Message.Text(), len(tr.Message.Content), err, broken)
	}
}

func TestGeminiTakesNoGIF(t *testing.T) {
	raw := string(body(target(model.APIGemini), wire.Omission{}, []model.Message{
		says(model.User, imageOf([]byte("GIF89a")), imageOf(pic)),
	}))
	if !strings.Contains(raw, `its type \"image/gif\" is none`) || strings.Count(raw, "inlineData") != 1 {
		t.Error(raw)
	}
}

// Gemini takes a subset of JSON Schema.
func TestGeminiSchemas(t *testing.T) {
	for _, tt := range []struct{ name, schema, want string }{
		{"no properties", `{"type":"object","additionalProperties":false}`, ``},
		{
			"keywords that it does not know",
			`{"$schema":"x","$id":"y","type":"object","additionalProperties":false,"properties":{"a":{"type":"str` +
				`ing",` +
				`"format":"uri","examples":["x"],"default":"z","pattern":"^x"},"b":{"type":"integer","format":"in` +
				`t64",` +
				`"exclusiveMinimum":0,"minimum":1}},"required":["a","gone","a"],"patternProperties":{"x":{}}}`,
			`{"properties":{"a":{"pattern":"^x","type":"string"},"b":{"format":"int64","minimum":1,"type":"intege` +
				`r"}},` +
				`"required":["a"],"type":"object"}`,
		},
		{
			"references, and one that leads back",
			`{"type":"object","properties":{"n":{"$ref":"#/$defs/node","description":"root"}},"$defs":{"node":{` +
				`"type":"object","properties":{"v":{"type":"number"}}}}}`,
			`{"properties":{"n":{"description":"root","properties":{"v":{"type":"number"}},"type":"object"}},"typ` +
				`e":"object"}`,
		},
		{
			"several types",
			`{"type":"object","properties":{"a":{"type":["string","null"]},"b":{"type":["integer","array"]},"c":{}}}`,
			`{"properties":{"a":{"nullable":true,"type":"string"},"b":{"anyOf":[{"type":"integer"},{"items":{"type":` +
				`"string"},"type":"array"}]},"c":{"type":"string"}},"type":"object"}`,
		},
		{
			"choices",
			`{"type":"object","properties":{"a":{"enum":["x","y",null,""]},"b":{"const":"k"},"c":{"type":"integer",` +
				`"enum":[1,2],"description":"How many."},"d":{"oneOf":[{"type":"string"},{"type":"null"}]},"e":{"` +
				`anyOf":[` +
				`{"type":"string"},{"type":"number"}]}}}`,
			`{"properties":{"a":{"enum":["x","y"],"nullable":true,"type":"string"},"b":{"enum":["k"],"type":"stri` +
				`ng"},` +
				`"c":{"description":"How many. One of [1,2].","type":"integer"},"d":{"nullable":true,"type":"stri` +
				`ng"},` +
				`"e":{"anyOf":[{"type":"string"},{"type":"number"}]}},"type":"object"}`,
		},
		{
			"parts of a whole, and lists",
			`{"type":"object","allOf":[{"properties":{"a":{"type":"array"}},"required":["a"]},{"properties":{"b":{` +
				`"type":"array","items":{"type":"boolean"}}}}]}`,
			`{"properties":{"a":{"items":{"type":"string"},"type":"array"},"b":{"items":{"type":"boolean"},"type":` +
				`"array"}},"required":["a"],"type":"object"}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := wire.EncodeTools(target(model.APIGemini), []model.Tool{{
				Name:   "x",
				Schema: json.RawMessage(tt.schema),
			}}, true)
			if err != nil {
				t.Fatal(err)
			}
			want := `[{"functionDeclarations":[{"name":"x"}]}]`
			if tt.want != "" {
				want = `[{"functionDeclarations":[{"name":"x","parameters":` + tt.want + `}]}]`
			}
			if string(got) != want {
				t.Errorf("\ngot  %s\nwant %s", got, want)
			}
		})
	}
	loop := `{"type":"object","properties":{"a":{"$ref":"#"}}}`
	twice := `{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"$ref":"#/$defs/x","allOf":[` +
		`{"$ref":"#/$defs/x"},{"$ref":"#/$defs/x"}]}}}`
	for _, schema := range []string{loop, twice} {
		got, err := wire.EncodeTools(target(model.APIGemini), []model.Tool{{
			Name:   "x",
			Schema: json.RawMessage(schema),
		}}, true)
		if err != nil || len(got) > 4096 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
}
