package provider

import (
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
)

func TestOverflowPhrases(t *testing.T) {
	for _, yes := range []string{
		"prompt is too long: 1 tokens > 0 maximum", "Your input exceeds the context window of this model",
		"This model's maximum context length is 8192 tokens. However", "Please reduce the length of the messages",
		"input token count (9) exceeds the maximum number of tokens", "the request exceeds the available context size",
		"input (9 tokens) is longer than the model's context length (8 tokens)", "error code context_length_exceeded", "Prompt too long",
		"input length and `max_tokens` exceed context limit: 190000 + 64000 > 200000, decrease input length",
		"Too many input tokens. Max input tokens: 300000, request input token count: 310000",
		"Request payload size exceeds the limit: 20971520 bytes.",
	} {
		if !isOverflow(yes) {
			t.Errorf("%q is not taken for an overflow", yes)
		}
	}
	for _, no := range []string{
		"", "messages: at least one is required", "Throttling error: too many tokens, please wait", "rate limit: too " +
			"many tokens per minute",
		"max_tokens is too large",
	} {
		if isOverflow(no) {
			t.Errorf("%q is taken for an overflow", no)
		}
	}
}

func FuzzErrorBody(f *testing.F) {
	f.Add([]byte(`{"type":"error","error":{"type":"x","message":"m"}}`))
	f.Add([]byte(`{"error":"m","code":502}`))
	f.Add([]byte(`[{"error":{"error":{"error":null}},"code":[1]}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m := &languageModel{}
		for _, status := range []int{302, 400, 429, 500} {
			if err := m.refusal(&http.Response{StatusCode: status}, body); err.Error() == "" {
				t.Error("an error without a text")
			}
		}
		if err := m.reported(body); err.Error() == "" {
			t.Error("an error without a text")
		}
	})
}

// Nobody asks more for what is read from a cache than for input. A Gemini's cache costs a tenth of that.
func TestPricesOfTheCatalogue(t *testing.T) {
	for name, e := range catalogue() {
		for id, i := range e.models {
			if i.Price.CacheRead > i.Price.Input {
				t.Errorf("%s/%s: reading the cache costs %v, input %v", name, id, i.Price.CacheRead, i.Price.Input)
			}
			google := name == "gemini" || name == "vertexai" && strings.HasPrefix(id, "gemini-")
			if google && math.Abs(i.Price.CacheRead*10-i.Price.Input) > 1e-9 {
				t.Errorf("%s/%s: reading the cache costs %v, input %v", name, id, i.Price.CacheRead, i.Price.Input)
			}
			if google && i.Price.CacheWrite != 0 {
				t.Errorf("%s/%s: writing the cache costs %v", name, id, i.Price.CacheWrite)
			}
		}
	}
	for ref, want := range map[model.Ref]model.Price{
		{Provider: "gemini", ID: "gemini-3.7-flash"}:      {Input: 0.75, Output: 3.75, CacheRead: 0.075, Search: 14},
		{Provider: "gemini", ID: "gemini-3.1-flash-lite"}: {Input: 0.25, Output: 1.5, CacheRead: 0.025, Search: 14},
		{Provider: "anthropic", ID: "claude-sonnet-4-6"}: {
			Input: 3, Output: 15, CacheRead: 0.3, CacheWrite: 3.75, Search: 10,
		},
		{Provider: "opencode-zen", ID: "claude-haiku-4-5"}: {
			Input: 1, Output: 5, CacheRead: 0.1, CacheWrite: 1.25, Search: 10,
		},
	} {
		if got := Info(model.Endpoint{Name: ref.Provider}, ref.ID).Price; got == nil || *got != want {
			t.Errorf("%s costs %+v, want %+v", ref, got, want)
		}
	}
}
