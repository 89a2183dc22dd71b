package provider_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares a request's body with a file, after indenting it.
func golden(t *testing.T, name string, body []byte) {
	t.Helper()
	var got bytes.Buffer
	if err := json.Indent(&got, body, "", "  "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s differs; run the test with -update if that is meant:\n%s", file, got.Bytes())
	}
}

var bashTool = model.Tool{
	Name: "bash", Description: "Runs a command.",
	Schema: json.RawMessage(`{"type":"object","properties":{"command":{"type":"string"},"env":{"$ref":"#/$defs/env"}},` +
		`"required":["command"],"$defs":{"env":{"type":"object"}}}`),
}

var image = &model.Image{MediaType: "image/png", Data: []byte("png")}

func toolResult(id, text string) model.Block {
	return model.Block{Type: model.ToolResultBlock, CallID: id, Tool: "bash", Text: text}
}

// TestAConversationIsSentBackAsItCame makes a first turn with thinking and tool calls, and looks at the request of the
// second.
func TestAConversationIsSentBackAsItCame(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		first := twoCalls
		first.Thinking, first.Signature = []string{"h", "m"}, "c2ln"
		s := modeltest.NewServer(t, w.Stream(first), w.Stream(modeltest.Turn{Text: []string{"done"}}))
		m := open(t, w, s)
		req := model.Request{
			System: "You are a test.", Thinking: model.ThinkingHigh, MaxOutput: 30000, CacheKey: "session-1",
			Tools: []model.Tool{bashTool, {
				Name: "read", Description: "Reads.",
				Schema: json.RawMessage(`{"type":"object"}`),
			}},
			Messages: []model.Message{{Role: model.User, Content: []model.Block{
				{Type: model.TextBlock, Text: "look"}, {Type: model.ImageBlock, Image: image},
			}}},
		}
		tr, err := ask(t, m, req)
		if err != nil {
			t.Fatal(err)
		}
		answer := tr.Message
		if answer.Content[0].Type != model.ThinkingBlock || answer.Content[0].Text != "hm" {
			t.Errorf("the thought is %+v", answer.Content[0])
		}
		ref := m.Ref()
		answer.Model = &ref
		answer = journaled(t, answer)
		failed, picture := toolResult("call_1", "no such file"), toolResult("call_2", "")
		failed.IsError, failed.Details, picture.Image = true, json.RawMessage(`{"secret":"for clients"}`), image
		req.Messages = append(req.Messages, answer,
			model.Message{Role: model.ToolRole, Content: []model.Block{picture}},
			model.Message{Role: model.ToolRole, Content: []model.Block{failed}})
		if _, err := ask(t, m, req); err != nil {
			t.Fatal(err)
		}
		second := s.Requests()[1]
		if second.Path != w.Path || second.Method != http.MethodPost {
			t.Errorf("%s %s", second.Method, second.Path)
		}
		golden(t, string(w.API), second.Body)
	})
}

// journaled is what a message is after it was stored.
func journaled(t *testing.T, m model.Message) model.Message {
	t.Helper()
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back model.Message
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

func TestHeaders(t *testing.T) {
	for name, value := range map[string]string{ // what the libraries would send on their own account
		"ANTHROPIC_API_KEY": "env-key", "ANTHROPIC_AUTH_TOKEN": "env-token", "ANTHROPIC_BASE_URL": "http://evil.test",
		"ANTHROPIC_CUSTOM_HEADERS": "X-Env: env-header", "OPENAI_API_KEY": "env-key", "OPENAI_BASE_URL": "http://evil.test",
		"OPENAI_ORG_ID": "env-org", "OPENAI_PROJECT_ID": "env-project", "OPENAI_CUSTOM_HEADERS": "X-Env: env-header",
	} {
		t.Setenv(name, value)
	}
	for _, w := range modeltest.Wires() {
		for _, secret := range []model.Secret{key, ""} {
			if w.API == model.APIConverse && secret == "" {
				continue // which is signed then
			}
			synctest.Test(t, func(t *testing.T) {
				s := modeltest.NewServer(t, w.Stream(modeltest.Turn{Text: []string{"x"}}))
				m := open(t, w, s, func(e *model.Endpoint) {
					e.Key, e.Headers = secret, map[string]model.Secret{"X-Mine": "1", "User-Agent": "me"}
				})
				if _, err := ask(t, m, model.Request{}); err != nil {
					t.Fatal(err)
				}
				h := s.Requests()[0].Header
				want := map[string]string{"X-Mine": "1", "User-Agent": "me", "Content-Type": "application/json"}
				switch {
				case w.API == model.APIAnthropic:
					want["X-Api-Key"], want["Anthropic-Version"] = secret.Reveal(), "2023-06-01"
				case w.API == model.APIGemini:
					want["X-Goog-Api-Key"] = secret.Reveal()
				case secret != "":
					want["Authorization"] = "Bearer " + key
				}
				for name, v := range want {
					if h.Get(name) != v {
						t.Errorf("%s: %s is %q, want %q", w.API, name, h.Get(name), v)
					}
				}
				for name := range h {
					if _, ok := want[name]; !ok && name != "Accept" && name != "Content-Length" &&
						name != "Accept-Encoding" {
						t.Errorf("%s: the header %s: %s was not asked for", w.API, name, h.Get(name))
					}
				}
			})
		}
	}
}

// sent is the body of the request that a conversation makes.
func sent(t *testing.T, w modeltest.Wire, req model.Request, change ...func(*model.Endpoint)) string {
	t.Helper()
	s := modeltest.NewServer(t, w.Stream(modeltest.Turn{Text: []string{"x"}}))
	if _, err := ask(t, open(t, w, s, change...), req); err != nil {
		t.Fatal(err)
	}
	return string(s.Requests()[0].Body)
}

func TestAnotherModelsThoughtsAreText(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		other := model.Ref{Provider: "other", ID: "m"}
		body := sent(t, w, model.Request{Messages: []model.Message{
			user("hi"),
			{Role: model.Assistant, Model: &other, Content: []model.Block{
				{
					Type: model.ThinkingBlock, Text: "a thought",
					Opaque: json.RawMessage(`{"anthropic":{"type":"anthropic.reasoning_metadata","data":{"signature":"foreign"}}}`),
				},
				{Type: model.TextBlock, Text: "said"},
			}},
			user("go on"),
		}})
		if !strings.Contains(body, `"a thought`) || !strings.Contains(body, `said"`) ||
			strings.Contains(body, "foreign") || strings.Contains(body, "reasoning_content") {
			t.Error(body)
		}
	})
}

func TestWhatAPIsRefuseIsRepaired(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		call := func(id string) model.Block {
			return model.Block{Type: model.ToolCallBlock, CallID: id, Tool: "bash", Args: json.RawMessage(`{}`)}
		}
		assistant := func(b ...model.Block) model.Message { return model.Message{Role: model.Assistant, Content: b} }
		results := func(b ...model.Block) model.Message { return model.Message{Role: model.ToolRole, Content: b} }
		body := sent(t, w, model.Request{Messages: []model.Message{
			user("hi"),
			assistant(model.Block{Type: model.TextBlock}, call("same"), call("lost")),
			results(toolResult("same", ""), toolResult("nobody's", "stray")),
			user(""),
			assistant(call("same"), call("odd id: ü")),
			results(toolResult("odd id: ü", "odd"), toolResult("same", "second"), toolResult("same", "twice")),
			assistant(model.Block{Type: model.ThinkingBlock}),
			assistant(call("open")),
		}})
		for _, text := range []string{"stray", "twice", "odd id", `"text":""`, `"content":""`} {
			if strings.Contains(body, text) {
				t.Errorf("%q was sent", text)
			}
		}
		for text, n := range map[string]int{
			`"(no output)"`: 1, `"The outcome of this call is unknown: no result was recorded."`: 2,
			`"odd"`: 1, `"second"`: 1, `"same"`: 2,
		} {
			if w.API == model.APIGemini && text == `"same"` {
				n = 0 // it tells calls apart by their order
			}
			if strings.Count(body, text) != n {
				t.Errorf("%s was sent %d times, want %d", text, strings.Count(body, text), n)
			}
		}
		if t.Failed() {
			t.Log(body)
		}
	})
}

func TestAModelWithoutEyesGetsAWord(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		no := false
		body := sent(t, w, model.Request{Messages: []model.Message{{
			Role:    model.User,
			Content: []model.Block{{Type: model.ImageBlock, Image: image}},
		}}},
			func(e *model.Endpoint) { e.Info = model.Info{Images: &no} })
		if !strings.Contains(body, "does not take images") || strings.Contains(body, "cG5n") {
			t.Error(body)
		}
	})
}

func TestThinking(t *testing.T) {
	yes, no := true, false
	tests := []struct {
		name  string
		w     modeltest.Wire
		info  model.Info
		level model.Thinking
		want  string // in the body; "" for nothing about thinking
	}{
		{"default", modeltest.Anthropic, model.Info{Thinks: &yes}, "", ""},
		{"off", modeltest.Anthropic, model.Info{Thinks: &yes}, "off", ""},
		{"cannot", modeltest.Anthropic, model.Info{Thinks: &no}, "high", ""},
		{
			"budget", modeltest.Anthropic,
			model.Info{Thinks: &yes, MaxOutput: 64000, Efforts: []string{"low"}},
			"high",
			`"thinking":{"type":"enabled","budget_tokens":16384}`,
		},
		{
			"budget that fits", modeltest.Anthropic,
			model.Info{Thinks: &yes, MaxOutput: 8000},
			"high",
			`"thinking":{"type":"enabled","budget_tokens":6976}`,
		},
		{"no room", modeltest.Anthropic, model.Info{Thinks: &yes, MaxOutput: 2000}, "high", ""},
		{
			"level", modeltest.Anthropic,
			model.Info{Thinks: &yes, Efforts: []string{"low", "medium", "high", "max"}},
			"medium", `"output_config":{"effort":"medium"}`,
		},
		{"next level", modeltest.Anthropic, model.Info{Thinks: &yes, Efforts: []string{
			"low", "medium", "high",
			"max",
		}}, "xhigh", `"output_config":{"effort":"max"}`},
		{"default", modeltest.Responses, model.Info{Thinks: &yes}, "", `"include":["reasoning.encrypted_content"]`},
		{
			"level", modeltest.Responses,
			model.Info{Thinks: &yes},
			"high",
			`"reasoning":{"effort":"high","summary":"auto"}`,
		},
		{
			"off", modeltest.Responses,
			model.Info{Thinks: &yes, Efforts: []string{"minimal", "low"}},
			"off",
			`"reasoning":{"effort":"minimal"`,
		},
		{
			"none", modeltest.Responses,
			model.Info{Thinks: &yes, Efforts: []string{"none", "low"}},
			"off",
			`"reasoning":{"effort":"none"}`,
		},
		{"cannot", modeltest.Responses, model.Info{Thinks: &no}, "high", ""},
		{"level", modeltest.Chat, model.Info{Thinks: &yes}, "xhigh", `"reasoning_effort":"high"`},
		{"cannot", modeltest.Chat, model.Info{Thinks: &no}, "high", ""},
		{"default", modeltest.Gemini, model.Info{Thinks: &yes}, "", ""},
		{"cannot", modeltest.Gemini, model.Info{Thinks: &no}, "high", ""},
		{
			"level", modeltest.Gemini,
			model.Info{Thinks: &yes, Efforts: []string{"minimal", "low", "medium", "high"}},
			"medium", `{"thinkingConfig":{"includeThoughts":true,"thinkingLevel":"MEDIUM"}}`,
		},
		{
			"next level", modeltest.Gemini,
			model.Info{Thinks: &yes, Efforts: []string{"low", "high"}},
			"medium", `"thinkingLevel":"HIGH"`,
		},
		{
			"off", modeltest.Gemini,
			model.Info{Thinks: &yes, Efforts: []string{"low", "high"}},
			"off", `{"thinkingConfig":{"thinkingLevel":"LOW"}}`,
		},
	}
	for _, tt := range tests {
		t.Run(string(tt.w.API)+" "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body := sent(t, tt.w, model.Request{Thinking: tt.level}, func(e *model.Endpoint) {
					if tt.info.Efforts == nil {
						tt.info.Efforts = []string{}
					}
					e.Info = tt.info
				})
				about := strings.Contains(body, "thinking") || strings.Contains(body, "effort") ||
					strings.Contains(body, "reasoning")
				if tt.want == "" && about || !strings.Contains(body, tt.want) {
					t.Errorf("want %s in %s", tt.want, body)
				}
			})
		})
	}
}

func TestTheSameConversationMakesTheSameRequest(t *testing.T) { // or no prompt cache would hit
	each(t, func(t *testing.T, w modeltest.Wire) {
		req := model.Request{
			System: "s", Tools: []model.Tool{bashTool}, Messages: []model.Message{user("hi")},
			CacheKey: strings.Repeat("k", 99),
		}
		if a, b := sent(t, w, req), sent(t, w, req); a != b {
			t.Errorf("%s\n%s", a, b)
		}
	})
}

// What is kept of a conversation is counted whole: caches are bounded by it.
func TestWhatIsKeptIsCounted(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		s := modeltest.NewServer(t, w.Stream(modeltest.Turn{Text: []string{"x"}}))
		var memo model.Memo
		req := model.Request{
			System: strings.Repeat("s", 100_000), Messages: []model.Message{user(strings.Repeat("u",
				100_000))}, Memo: &memo,
		}
		if _, err := ask(t, open(t, w, s), req); err != nil {
			t.Fatal(err)
		}
		if sent := len(s.Requests()[0].Body); memo.Size() < sent {
			t.Errorf("%d bytes are counted of a request of %d", memo.Size(), sent)
		}
	})
}

func TestASchemaThatIsNoJSON(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		s := modeltest.NewServer(t)
		_, err := ask(t, open(t, w, s), model.Request{Tools: []model.Tool{{Name: "x", Schema: json.RawMessage(`{`)}}})
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindInvalidRequest || !strings.Contains(e.Text, `"x"`) {
			t.Errorf("%#v", err)
		}
		if len(s.Requests()) != 0 {
			t.Error("a request was made")
		}
	})
}

func TestRedactedThinkingGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Anthropic
		s := modeltest.NewServer(t, w.Stream(modeltest.Turn{
			Redacted: "blackbox", Signature: "only-a-signature",
			Text: []string{"x"},
		}),
			w.Stream(modeltest.Turn{Text: []string{"y"}}))
		m := open(t, w, s)
		tr, err := ask(t, m, model.Request{})
		if err != nil {
			t.Fatal(err)
		}
		ref := m.Ref()
		tr.Message.Model = &ref
		if _, err := ask(t, m, model.Request{Messages: []model.Message{
			user("hi"), journaled(t, tr.Message),
			user("more"),
		}}); err != nil {
			t.Fatal(err)
		}
		body := string(s.Requests()[1].Body)
		kinds := []string{}
		for _, b := range tr.Message.Content {
			kinds = append(kinds, string(b.Type))
		}
		if !slices.Equal(kinds, []string{"thinking", "thinking", "text"}) ||
			!strings.Contains(body, `"data":"blackbox"`) || !strings.Contains(body, `"signature":"only-a-signature"`) {
			t.Errorf("%v\n%s", kinds, body)
		}
	})
}
