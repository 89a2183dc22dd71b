package provider

import (
	"net/http"
	"testing"
)

func TestOverflowPhrases(t *testing.T) {
	for _, yes := range []string{
		"prompt is too long: 1 tokens > 0 maximum", "Your input exceeds the context window of this model",
		"This model's maximum context length is 8192 tokens. However", "Please reduce the length of the messages",
		"input token count (9) exceeds the maximum number of tokens", "the request exceeds the available context size",
		"input (9 tokens) is longer than the model's context length (8 tokens)", "error code context_length_exceeded", "Prompt too long",
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
