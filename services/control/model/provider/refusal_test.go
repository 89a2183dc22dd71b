package provider_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/provider"
)

// strictly refuses requests that have one of the texts, in the words that belong to it, and answers others with "yes".
func strictly(w modeltest.Wire, status int, refuses map[string]string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		for text, words := range refuses {
			if strings.Contains(string(body), text) {
				modeltest.Answer(status, w.Error("invalid_request_error", words)).ServeHTTP(rw, r)
				return
			}
		}
		w.Stream(modeltest.Turn{Text: []string{"yes"}}).ServeHTTP(rw, r)
	})
}

// everything is a request with all optional parameters.
func everything() model.Request {
	return model.Request{
		System: "s", Thinking: model.ThinkingHigh, MaxOutput: 5000, CacheKey: "k", Tools: []model.Tool{bashTool},
		Messages: []model.Message{user("hi")},
	}
}

func TestAParameterThatIsRefusedIsLeftOut(t *testing.T) {
	for _, tt := range []struct {
		w           modeltest.Wire
		name, words string
	}{
		{modeltest.Chat, "stream_options", "stream_options: Extra inputs are not permitted"},
		{modeltest.Chat, "reasoning_effort", `Unknown name "reasoning_effort": Cannot find field.`},
		{modeltest.Chat, "max_completion_tokens", "Unrecognized request argument supplied: max_completion_tokens"},
		{
			modeltest.Responses,
			`"summary":"auto"`,
			"Your organization must be verified to generate reasoning summaries: 'reasoning.summary'",
		},
		{modeltest.Responses, "parallel_tool_calls", "Unsupported parameter: 'parallel_tool_calls'"},
		{modeltest.Responses, "prompt_cache_key", "unknown field `prompt_cache_key`"},
		{modeltest.Anthropic, "cache_control", "cache_control: Extra inputs are not permitted"},
		{modeltest.Anthropic, `"thinking"`, "thinking is not supported by this model"},
	} {
		t.Run(string(tt.w.API)+" "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := modeltest.NewServer(t)
				s.Always(strictly(tt.w, http.StatusUnprocessableEntity, map[string]string{tt.name: tt.words}))
				m := open(t, tt.w, s)
				tr, err := ask(t, m, everything())
				if err != nil || tr.Text != "yes" || len(tr.Restarts) != 1 || tr.Restarts[0].Without == "" {
					t.Fatalf("%+v, %v", tr, err)
				}
				if tr, err = ask(t, m, everything()); err != nil || len(tr.Restarts) != 0 {
					t.Errorf("it was not remembered: %+v, %v", tr, err)
				}
				if n := len(s.Requests()); n != 3 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

// What one server refuses is remembered for all who open the same model there, and for nobody else.
func TestARefusalIsRememberedForTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := modeltest.NewServer(t)
		s.Always(strictly(modeltest.Chat, 400, map[string]string{"stream_options": "unknown parameter stream_options"}))
		apis := provider.APIs(s.Client())
		for i, id := range []string{"a", "a", "b"} {
			m, err := apis[model.APIChat](
				model.Endpoint{Name: "x", BaseURL: s.URL(), Settings: model.Settings{API: model.APIChat}}, id,
			)
			if err != nil {
				t.Fatal(err)
			}
			tr, err := ask(t, m, model.Request{})
			if want := []int{1, 0, 1}[i]; err != nil || len(tr.Restarts) != want {
				t.Errorf("%d: %d restarts, want %d: %v", i, len(tr.Restarts), want, err)
			}
		}
	})
}

func TestWhatIsRefusedForGoodIsToldAfterOneTry(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		for _, words := range []string{
			"this model does not support tools", "stream_options, thinking and reasoning are fine", "no",
		} {
			s := modeltest.NewServer(t, modeltest.Answer(400, w.Error("invalid_request_error", words)))
			_, err := ask(t, open(t, w, s), everything())
			if e, ok := model.AsError(err); !ok || e.Kind != model.KindInvalidRequest ||
				!strings.Contains(e.Text, words) {
				t.Errorf("%q: %v", words, err)
			}
		}
	})
}

// A parameter that the configuration sets is the configuration's to take out.
func TestSettingsChangeTheBody(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		drop := map[model.API]string{
			model.APIAnthropic: "thinking", model.APIChat: "stream_options", model.APIResponses: "include",
			model.APIGemini: "generationConfig",
		}[w.API]
		s := modeltest.NewServer(t, w.Stream(modeltest.Turn{Text: []string{"x"}}))
		m := open(t, w, s, func(e *model.Endpoint) {
			e.ExtraBody = map[string]json.RawMessage{
				"service_tier": json.RawMessage(`"flex"`), "model": json.RawMessage(`"other"`),
			}
			e.Drop = []string{drop}
			e.Query = map[string]model.Secret{"api-version": "2025 04"}
		})
		if _, err := ask(t, m, everything()); err != nil {
			t.Fatal(err)
		}
		r := s.Requests()[0]
		var body map[string]json.RawMessage
		if err := json.Unmarshal(r.Body, &body); err != nil {
			t.Fatal(err)
		}
		if string(body["service_tier"]) != `"flex"` || string(body["model"]) != `"other"` || body[drop] != nil ||
			strings.TrimPrefix(r.Query, "alt=sse&") != "api-version=2025+04" {
			t.Errorf("%s?%s: %s", r.Path, r.Query, r.Body)
		}
	})
}

func TestBaseURLs(t *testing.T) {
	for _, tt := range []struct {
		w          modeltest.Wire
		base, want string
	}{
		{modeltest.Anthropic, "", "/v1/messages"},
		{modeltest.Anthropic, "/v1/", "/v1/messages"},
		{modeltest.Anthropic, "/proxy", "/proxy/v1/messages"},
		{modeltest.Anthropic, "/v1/messages", "/v1/messages"},
		{modeltest.Chat, "/v1", "/v1/chat/completions"},
		{modeltest.Chat, "/openai/deployments/d/chat/completions", "/openai/deployments/d/chat/completions"},
		{modeltest.Responses, "/v1/", "/v1/responses"},
		{modeltest.Gemini, "", modeltest.Gemini.Path},
		{modeltest.Gemini, "/v1/", "/v1/models/gemini-3-flash-preview:streamGenerateContent"},
		{modeltest.Gemini, "/proxy/v1beta", "/proxy" + modeltest.Gemini.Path},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := modeltest.NewServer(t, tt.w.Stream(modeltest.Turn{Text: []string{"x"}}))
			m := open(t, tt.w, s, func(e *model.Endpoint) { e.BaseURL += tt.base })
			if _, err := ask(t, m, model.Request{}); err != nil {
				t.Fatal(err)
			}
			if got := s.Requests()[0].Path; got != tt.want {
				t.Errorf("%s %q: %s, want %s", tt.w.API, tt.base, got, tt.want)
			}
		})
	}
}

// marked has an image, a thought and a call, each of which a server may refuse.
func marked(m model.Model) []model.Message {
	ref := m.Ref()
	thought := model.Block{Type: model.ThinkingBlock, Text: "hm", Opaque: json.RawMessage(
		`{"signature":"SIGNED","item":{"type":"reasoning","summary":[],"encrypted_content":"SIGNED"}}`)}
	call := model.Block{Type: model.ToolCallBlock, CallID: "call_abc", Tool: "bash", Args: json.RawMessage(`{}`)}
	return []model.Message{
		{
			Role:    model.User,
			Content: []model.Block{{Type: model.TextBlock, Text: "look"}, {Type: model.ImageBlock, Image: image}},
		},
		{Role: model.Assistant, Model: &ref, Content: []model.Block{thought, call}},
		{Role: model.ToolRole, Content: []model.Block{toolResult("call_abc", "out")}},
	}
}

func TestWhatAServerRefusesOfAConversationIsLeftOut(t *testing.T) {
	for _, w := range modeltest.Wires() {
		for name, tt := range map[string]struct{ has, words, without string }{
			"an image":  {"cG5n", "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum", "images"},
			"a call":    {`"call_abc"`, "messages.1: unexpected `tool_use_id` call_abc", "the call call_abc"},
			"all calls": {`"call_abc"`, "invalid function_call arguments", "calls"},
			"a signature": {
				"SIGNED", "messages.1.content.0: Invalid `signature` in `thinking` block", "the model's thoughts",
			},
			"a block": {"cG5n", "messages.0.content.1: cannot be read", "images, thoughts and calls"},
		} {
			switch {
			case name == "a signature" && w.API == model.APIChat:
				continue // has none
			case name == "a call" && w.API == model.APIGemini:
				continue // whose calls have no ids
			case name == "all calls" && w.API == model.APIGemini:
				tt.has = `"functionCall"`
				tt.words = "please ensure that the number of function response parts is equal to that of function " +
					"call parts"
			}
			t.Run(string(w.API)+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := modeltest.NewServer(t)
					s.Always(strictly(w, 400, map[string]string{tt.has: tt.words}))
					m := open(t, w, s)
					req := model.Request{Messages: marked(m), Memo: &model.Memo{}, Thinking: model.ThinkingHigh}
					tr, err := ask(t, m, req)
					if err != nil || tr.Text != "yes" || len(tr.Restarts) != 1 || tr.Restarts[0].Without != tt.without {
						t.Fatalf("%+v, %v", tr, err)
					}
					// The conversation goes on without it, and the server need not refuse it again.
					tr.Message.Role = model.Assistant
					for i := range req.Messages { // as after the conversation was read anew
						req.Messages[i] = journaled(t, req.Messages[i])
					}
					req.Messages = append(req.Messages, tr.Message, user("more"))
					if tr, err = ask(t, m, req); err != nil || len(tr.Restarts) != 0 {
						t.Errorf("%+v, %v", tr, err)
					}
				})
			})
		}
	}
}

// A router that has no model for images says so as of a model that does not exist.
func TestARouterWithoutEyes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Chat
		s := modeltest.NewServer(t)
		s.Always(strictly(
			w, http.StatusNotFound, map[string]string{"cG5n": "No endpoints found that support image input"},
		))
		m := open(t, w, s)
		if tr, err := ask(t, m, model.Request{Messages: marked(m)}); err != nil || tr.Text != "yes" {
			t.Errorf("%+v, %v", tr, err)
		}
	})
}

// A server that dislikes all calls names one after the other.
func TestASecondCallThatIsRefusedMakesAllTexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Chat
		s := modeltest.NewServer(t)
		refuses := map[string]string{}
		var req model.Request
		for _, id := range []string{"call_a", "call_b", "call_c", "call_d", "call_e", "call_f"} {
			refuses[`"`+id+`"`] = "Tool call id was " + id + " but must be 9 characters"
			req.Messages = append(req.Messages, user("hi"), model.Message{Role: model.Assistant, Content: []model.Block{
				{Type: model.ToolCallBlock, CallID: id, Tool: "bash", Args: json.RawMessage(`{}`)},
			}}, model.Message{Role: model.ToolRole, Content: []model.Block{toolResult(id, "x")}})
		}
		s.Always(strictly(w, 400, refuses))
		if tr, err := ask(t, open(t, w, s), req); err != nil || len(tr.Restarts) != 2 {
			t.Errorf("%+v, %v", tr, err)
		}
	})
}

func TestACompressedAnswer(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		s := modeltest.NewServer(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(rw)
			for _, e := range w.Stream(twoCalls) {
				switch {
				case e.Framed:
					_, _ = io.WriteString(zip, e.Raw)
				case e.Raw == "":
					_, _ = io.WriteString(zip, "data: "+e.Data+"\n\n")
				}
			}
			_ = zip.Close()
		}))
		if tr, err := ask(t, open(t, w, s), model.Request{}); err != nil || len(tr.Message.Content) != 3 {
			t.Errorf("%+v, %v", tr, err)
		}
	})
}

// A server that ends its streams without a mark is not paid five times.
func TestAnAnswerWithoutAnEndIsAskedForTwice(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		p := w.Stream(modeltest.Turn{Text: []string{"one ", "two"}})
		s := modeltest.NewServer(t)
		s.Always(p[:p.Index("two")+1])
		_, err := ask(t, model.Retrying(open(t, w, s), model.RetryPolicy{}), model.Request{})
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindCut || len(s.Requests()) != 2 {
			t.Errorf("%v after %d requests", err, len(s.Requests()))
		}
	})
}

// framings are ways to send a stream, each of which means the same.
func framings(p modeltest.Play) map[string]http.Handler {
	var slow modeltest.Play
	for _, e := range p {
		data := e.Data
		if e.Framed {
			data = e.Raw
		}
		for i := range len(data) {
			if i == 0 && !e.Framed {
				slow = append(slow, modeltest.Event{Raw: "event: " + e.Name + "\n"}, modeltest.Event{Raw: "data:"})
			}
			slow = append(slow, modeltest.Event{Raw: data[i : i+1], Framed: e.Framed})
		}
		if !e.Framed {
			slow = append(slow, modeltest.Event{Raw: "\n\n"})
		}
	}
	open := append(slices.Clone(p), modeltest.Event{Act: modeltest.Stop})
	return map[string]http.Handler{
		"no type":         p.As(""),
		"another type":    p.As("application/json"),
		"plain text":      p.As("text/plain"),
		"byte by byte":    slow,
		"left open":       open,
		"cut at its end":  append(slices.Clone(p), modeltest.Event{Act: modeltest.Cut}),
		"heartbeats":      append(modeltest.Play{{Raw: "data: \n\n"}, {Raw: ": x\n\n"}, {Raw: "data:\n\n"}}, p...),
		"without its end": p[:len(p)-1],
	}
}

func TestFramings(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		if w.API == model.APIResponses {
			return // whose last event is the answer itself
		}
		for name, h := range framings(w.Stream(twoCalls)) {
			if name == "without its end" && (w.API == model.APIGemini || w.Framed) || name == "heartbeats" && w.Framed {
				continue // the last event says that the answer is whole, or what it cost; frames have no heartbeats
			}
			start := time.Now()
			tr, err := ask(t, open(t, w, modeltest.NewServer(t, h)), model.Request{})
			if err != nil || len(tr.Message.Content) != 3 || tr.Message.Usage.Output != 7 {
				t.Errorf("%s: %+v, %v", name, tr.Message, err)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("%s: took %s", name, took)
			}
		}
	})
}

// A stream that said why it ended is not waited for longer than it takes to say what it cost.
func TestAStreamThatStaysOpenAfterItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Chat
		p := w.Stream(modeltest.Turn{Text: []string{"x"}})
		start := time.Now()
		s := modeltest.NewServer(t, p.Until(p.Index(`"finish_reason":"`)+1, modeltest.Stop))
		tr, err := ask(t, model.Timeouts(open(t, w, s), model.TimeoutPolicy{}), model.Request{})
		if err != nil || tr.Text != "x" || time.Since(start) > 5*time.Second {
			t.Errorf("%+v, %v after %s", tr, err, time.Since(start))
		}
	})
}

// Some servers give a reason with every chunk: that one is no end.
func TestAReasonWithEveryPieceOfAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p modeltest.Play
		for _, piece := range strings.Split("abcdefgh", "") {
			p = append(p, modeltest.Event{
				Wait: time.Second, Data: `{"choices":[{"delta":{"content":"` + piece + `"},"finish_reason":"stop"}]}`,
			})
		}
		s := modeltest.NewServer(t, append(p, modeltest.Event{Act: modeltest.Stop}))
		start := time.Now()
		tr, err := ask(t, open(t, modeltest.Chat, s), model.Request{})
		if took := time.Since(start); err != nil || tr.Text != "abcdefgh" || took > 15*time.Second {
			t.Errorf("%q, %v after %s", tr.Text, err, took)
		}
	})
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		s := modeltest.NewServer(t)
		s.Always(w.Stream(twoCalls))
		m := open(t, w, s)
		for range 3 {
			if _, err := ask(t, m, model.Request{}); err != nil {
				t.Fatal(err)
			}
		}
		if r := s.Requests(); r[0].Connection != r[2].Connection {
			t.Error("each call has its own connection")
		}
	})
}

// What cannot be understood is told with what came, after one more try.
func TestAnAnswerThatIsNone(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		s := modeltest.NewServer(t)
		s.Always(modeltest.Play{{Raw: "data: {nope\n\n"}})
		_, err := ask(t, model.Retrying(open(t, w, s), model.RetryPolicy{}), model.Request{})
		if err == nil || !strings.Contains(err.Error(), "{nope") || len(s.Requests()) != 2 {
			t.Errorf("%v after %d requests", err, len(s.Requests()))
		}
	})
}

// A server that names a parameter which the request did not have has not refused it: nobody loses it for that.
func TestAParameterThatWasNotSentIsNotRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			w     modeltest.Wire
			words string
		}{
			{modeltest.Anthropic, "invalid request: thinking"},
			{modeltest.Chat, "invalid value: reasoning_effort"},
			{modeltest.Responses, "unsupported: max_output_tokens"},
		} {
			s := modeltest.NewServer(t, modeltest.Answer(400, tt.w.Error("invalid_request_error", tt.words)))
			s.Always(tt.w.Stream(modeltest.Turn{Text: []string{"yes"}}))
			m := open(t, tt.w, s)
			schema := json.RawMessage(`{"type":"object","properties":{"include":{}}}`)
			req := model.Request{
				Messages: []model.Message{user("hi")}, Tools: []model.Tool{{Name: "grep", Schema: schema}},
			}
			if _, err := ask(t, m, req); err == nil {
				t.Errorf("%s: it was asked again", tt.w.API)
			}
			if n := len(s.Requests()); n != 1 {
				t.Errorf("%s: %d requests", tt.w.API, n)
			}
		}
	})
}
