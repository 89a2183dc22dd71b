package provider_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// What Google says about an error stands in its details.
func TestGooglesErrors(t *testing.T) {
	const info = `"@type":"type.googleapis.com/google.rpc.`
	for _, tt := range []struct {
		name, body string
		status     int
		want       model.Kind
		after      time.Duration
	}{
		{
			"a key that is none", `{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT",` +
				`"details":[{` + info + `ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}`,
			400, model.KindAuth, 0,
		},
		{
			"a limit, without a header", `{"error":{"code":429,"message":"You exceeded your current quota.","status":` +
				`"RESOURCE_EXHAUSTED","details":[{` + info + `QuotaFailure","violations":[{"quotaId":"x"}]},{` + info +
				`RetryInfo","retryDelay":"34.5s"}]}}`, 429, model.KindRateLimited, 34500 * time.Millisecond,
		},
		{
			"a limit among details of other shapes", `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[` +
				`"x",{"reason":7},{"retryDelay":true},{` + info + `RetryInfo","retryDelay":{"seconds":"2","nanos":5` +
				`00000000}}]}}`, 429, model.KindRateLimited, 2500 * time.Millisecond,
		},
		{
			"too long", `{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum numb` +
				`er of ` +
				`tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}`, 400, model.KindContextOverflow, 0,
		},
		{"overloaded", `[{"error":{"code":503,"status":"UNAVAILABLE"}}]`, 503, model.KindOverloaded, 0},
		{
			"overloaded in the stream", `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{` + info +
				`RetryInfo","retryDelay":"3s"}]}}`, 200, model.KindRateLimited, 3 * time.Second,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := modeltest.NewServer(t, modeltest.Answer(tt.status, tt.body))
				_, err := ask(t, open(t, modeltest.Gemini, s), model.Request{})
				if e, ok := model.AsError(err); !ok || e.Kind != tt.want || e.RetryAfter != tt.after {
					t.Errorf("%#v, want %s after %s", err, tt.want, tt.after)
				}
			})
		})
	}
}

// A model that cannot be told how much to think is asked without, also the next time.
func TestGeminiWithoutAWordAboutThinking(t *testing.T) {
	for _, words := range []string{
		"Thinking level is not supported for this model.", "Budget 0 is invalid. This model only works in " +
			"thinking mode.",
		`Invalid JSON payload received. Unknown name "thinkingLevel" at 'generation_config.thinking_config'`,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := modeltest.Gemini
			answer := w.Stream(modeltest.Turn{Text: []string{"x"}})
			s := modeltest.NewServer(t, modeltest.Answer(400, w.Error("invalid_request_error", words)), answer, answer)
			m := open(t, w, s)
			for range 2 {
				if _, err := ask(t, m, model.Request{Thinking: model.ThinkingHigh, MaxOutput: 99}); err != nil {
					t.Fatal(err)
				}
			}
			for i, r := range s.Requests() {
				if strings.Contains(string(r.Body), "thinkingConfig") != (i == 0) ||
					!strings.Contains(string(r.Body), `"maxOutputTokens":99`) {
					t.Errorf("%q: request %d: %s", words, i, r.Body)
				}
			}
		})
	}
}

// A prompt that is blocked is an error that says so, and is not asked again.
func TestABlockedPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := modeltest.NewServer(t)
		s.Always(modeltest.Answer(200, `{"promptFeedback":{"blockReason":"SAFETY"}}`))
		m := model.Retrying(open(t, modeltest.Gemini, s), model.RetryPolicy{})
		_, err := ask(t, m, model.Request{})
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindRefused || !strings.Contains(e.Text, "SAFETY") ||
			len(s.Requests()) != 1 {
			t.Errorf("%v after %d requests", err, len(s.Requests()))
		}
	})
}
