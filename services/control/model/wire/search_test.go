package wire_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

// sse are events as a server sends them.
func sse(data ...string) string {
	var b strings.Builder
	for _, d := range data {
		b.WriteString("data: " + d + "\n\n")
	}
	return b.String()
}

// answers of models that have searched, by API.
var answersThatSearched = map[model.API]string{
	model.APIAnthropic: sse(
		`{"type":"message_start","message":{"usage":{"input_tokens":10}}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"srv_1",`+
			`"name":"web_search","input":{}}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\":\"a"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":" b\"}"}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result",`+
			`"tool_use_id":"srv_1","content":[{"type":"web_search_result","url":"https://x.test/","title":"X",`+
			`"encrypted_content":"SECRET"}]}}`,
		`{"type":"content_block_stop","index":1}`,
		`{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}`,
		`{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"It is "}}`,
		`{"type":"content_block_stop","index":2}`,
		`{"type":"content_block_start","index":3,"content_block":{"type":"text","text":"","citations":[]}}`,
		`{"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"so"}}`,
		`{"type":"content_block_delta","index":3,"delta":{"type":"citations_delta",`+
			`"citation":{"url":"https://x.test/",`+
			`"encrypted_index":"I1"}}}`,
		`{"type":"content_block_delta","index":3,"delta":{"type":"citations_delta",`+
			`"citation":{"encrypted_index":"I2"}}}`,
		`{"type":"content_block_stop","index":3}`,
		`{"type":"content_block_start","index":4,"content_block":{"type":"text","text":"."}}`,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7,`+
			`"server_tool_use":{"web_search_requests":1}}}`,
		`{"type":"message_stop"}`),
	model.APIResponses: sse(
		`{"type":"response.output_item.added","output_index":0,"item":{"id":"ws_1","type":"web_search_call",`+
			`"status":"in_progress"}}`,
		`{"type":"response.web_search_call.searching","output_index":0,"item_id":"ws_1"}`,
		`{"type":"response.output_item.done","output_index":0,"item":{"id":"ws_1","type":"web_search_call",`+
			`"status":"completed","action":{"type":"search","query":"a b","sources":[{"url":"https://x.test/"}]}}}`,
		`{"type":"response.output_text.delta","output_index":1,"item_id":"m_1","delta":"It is so."}`,
		`{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":10,`+
			`"output_tokens":7}}}`),
	model.APIGemini: sse(
		`{"candidates":[{"content":{"parts":[{"toolCall":{"id":"t1","toolType":"GOOGLE_SEARCH_WEB"},`+
			`"thoughtSignature":"S"},{"toolResponse":{"id":"t1"}}]}}]}`,
		`{"candidates":[{"content":{"parts":[{"text":"It is so."}]},"finishReason":"STOP","groundingMetadata":`+
			`{"webSearchQueries":["a b"],"groundingChunks":[{"web":{"uri":"https://x.test/","title":"X"}}]}}],`+
			`"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":7}}`),
}

// What a provider has searched and found goes back to it as it came, and to others as a text. It is counted.
func TestSearchesOfProviders(t *testing.T) {
	sent := map[model.API][]string{
		model.APIAnthropic: {
			`{"id":"srv_1","input":{"query":"a b"},"name":"web_search","type":"server_tool_use"},` +
				`{"type":"web_search_tool_result","tool_use_id":"srv_1",`, `"encrypted_content":"SECRET"`,
			`{"type":"text","text":"so","citations":[{"url":"https://x.test/","encrypted_index":"I1"},` +
				`{"encrypted_index":"I2"}]}`,
		},
		model.APIResponses: {`{"id":"ws_1","type":"web_search_call","status":"completed","action":`},
		model.APIGemini:    {`{"toolCall":{"id":"t1",`, `"thoughtSignature":"S"}`, `{"toolResponse":{"id":"t1"}}`},
	}
	for api, src := range answersThatSearched {
		t.Run(string(api), func(t *testing.T) {
			tr, err, broken := modeltest.Read(parts(api, strings.NewReader(src)))
			if err != nil || broken != nil {
				t.Fatal(err, broken)
			}
			m := tr.Message
			if m.Text() != "It is so." || m.Stop != model.StopEnd || m.Usage.Searches != 1 || m.Usage.Output != 7 {
				t.Errorf("%q, %s, %+v", m.Text(), m.Stop, m.Usage)
			}
			m.Role = model.Assistant
			for _, own := range []bool{true, false} {
				ref := model.Ref{Provider: "p", ID: "gemini-3-x"}
				m.Model = &model.Ref{Provider: "other", ID: "m"}
				if own {
					m.Model = &ref
				}
				e := wire.NewEncoder(wire.Target{API: api, Ref: ref}, wire.Omission{})
				user := model.Message{Role: model.User, Content: []model.Block{{Type: model.TextBlock, Text: "hi"}}}
				e.Take([]model.Message{user, m, user})
				var body strings.Builder
				for _, part := range e.Body([]byte(`{"messages":[`), false) {
					body.Write(part)
				}
				if !json.Valid([]byte(body.String())) {
					t.Fatalf("no JSON: %s", body.String())
				}
				for _, want := range sent[api] {
					if strings.Contains(body.String(), want) != own {
						t.Errorf("own: %v, want %s:\n%s", own, want, body.String())
					}
				}
				if told := `[searched the web for \"a b\"; found `; strings.Contains(body.String(), told) == own {
					t.Errorf("own: %v, told as a text: %s", own, body.String())
				}
			}
		})
	}
}

func TestTheSearchIsOffered(t *testing.T) {
	one := model.Tool{Name: "ls", Schema: json.RawMessage(`{"type":"object"}`)}
	for api, want := range map[model.API][2]string{
		model.APIAnthropic: {
			`[{"type":"web_search_20250305","name":"web_search","max_uses":8}]`,
			`[{"name":"ls","input_schema":{"type":"object"}},` +
				`{"type":"web_search_20250305","name":"web_search","max_uses":8}]`,
		},
		model.APIResponses: {
			`[{"type":"web_search"}]`,
			`[{"type":"function","strict":false,"name":"ls","parameters":{"properties":{},"type":"object"}},` +
				`{"type":"web_search"}]`,
		},
		model.APIGemini: {
			`[{"googleSearch":{}}]`, `[{"functionDeclarations":[{"name":"ls"}]},{"googleSearch":{}}]`,
		},
		model.APIChat: {
			``, `[{"type":"function","function":{"name":"ls","parameters":{"properties":{},"type":"object"}}}]`,
		},
		model.APIConverse: {
			``, `{"tools":[{"toolSpec":{"name":"ls","inputSchema":{"json":{"type":"object"}}}}]}`,
		},
	} {
		for i, tools := range [][]model.Tool{{model.WebSearch}, {one, model.WebSearch}} {
			got, err := wire.EncodeTools(wire.Target{API: api}, tools, false)
			if err != nil || string(got) != want[i] {
				t.Errorf("%s: %s, %v, want %s", api, got, err, want[i])
			}
		}
		marked, err := wire.EncodeTools(wire.Target{API: api}, []model.Tool{one, model.WebSearch}, true)
		if err != nil || strings.Count(string(marked), "cache_control") > 1 || !json.Valid(marked) {
			t.Errorf("%s: %s, %v", api, marked, err)
		}
	}
}
