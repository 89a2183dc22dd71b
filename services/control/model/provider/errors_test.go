package provider_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/provider"
)

func TestStatuses(t *testing.T) {
	tests := []struct {
		name      string
		status    int
		kind      string // "" for a body that is no JSON
		message   string
		header    []string
		want      model.Kind
		retryable bool
		after     time.Duration
	}{
		{"bad request", 400, "invalid_request_error", "messages: wrong", nil, model.KindInvalidRequest, false, 0},
		{
			"too long", 400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", nil,
			model.KindContextOverflow, false, 0,
		},
		{"too long by code", 400, "context_length_exceeded", "no", nil, model.KindContextOverflow, false, 0},
		{"too large", 413, "request_too_large", "no", nil, model.KindContextOverflow, false, 0},
		{"key", 401, "authentication_error", "invalid x-api-key", nil, model.KindAuth, false, 0},
		{"forbidden", 403, "permission_error", "no", nil, model.KindAuth, false, 0},
		{"model", 404, "not_found_error", "model: nope", nil, model.KindNotFound, false, 0},
		{
			"rate", 429, "rate_limit_error", "slow down, too many tokens",
			[]string{"Retry-After", "17"},
			model.KindRateLimited, true, 17 * time.Second,
		},
		{
			"rate in ms", 429, "rate_limit_exceeded", "slow down",
			[]string{"Retry-After-Ms", "1500", "Retry-After", "2"},
			model.KindRateLimited, true, 1500 * time.Millisecond,
		},
		{"rate at a date", 429, "rate_limit_exceeded", "slow down", []string{
			"Retry-After",
			"Sat, 01 Jan 2000 00:00:30 GMT",
		}, model.KindRateLimited, true, 30 * time.Second},
		{"quota", 429, "insufficient_quota", "no money", nil, model.KindQuota, false, 0},
		{"server", 500, "api_error", "oops", nil, model.KindServer, true, 0},
		{"gateway", 502, "", "<html>bad</html>", nil, model.KindServer, true, 0},
		{"unavailable", 503, "", "", nil, model.KindOverloaded, true, 0},
		{"overloaded", 529, "overloaded_error", "Overloaded", nil, model.KindOverloaded, true, 0},
		{
			"asked to", 400, "invalid_request_error", "hm",
			[]string{"X-Should-Retry", "true"},
			model.KindInvalidRequest,
			true, 0,
		},
		{
			"asked not to", 500, "api_error", "500 times no",
			[]string{"X-Should-Retry", "false"},
			model.KindServer,
			false, 0,
		},
		{
			"a number in prose", 400, "invalid_request_error", "at most 500 items, overloaded operator", nil,
			model.KindInvalidRequest, false, 0,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, w modeltest.Wire) {
				body := tt.message
				if tt.kind != "" {
					body = w.Error(tt.kind, tt.message)
				}
				s := modeltest.NewServer(t, modeltest.Answer(tt.status, body, tt.header...))
				_, err := ask(t, open(t, w, s), model.Request{})
				e, ok := model.AsError(err)
				if !ok || e.Kind != tt.want || e.Retryable != tt.retryable || e.Status != tt.status ||
					e.RetryAfter != tt.after {
					t.Fatalf("%#v, want %s, retryable %t, after %s", err, tt.want, tt.retryable, tt.after)
				}
				if tt.kind != "" && !strings.Contains(e.Text, tt.message) {
					t.Errorf("text %q does not tell %q", e.Text, tt.message)
				}
				if n := len(s.Requests()); n != 1 {
					t.Errorf("%d requests: the library retried", n)
				}
			})
		})
	}
}

func TestAnErrorInTheMiddleOfAStream(t *testing.T) {
	tests := []struct {
		kind, message string
		want          model.Kind
		retryable     bool
	}{
		{"overloaded_error", "Overloaded", model.KindOverloaded, true},
		{"server_error", "oops", model.KindServer, true},
		{"rate_limit_exceeded", "slow", model.KindRateLimited, true},
		{"invalid_request_error", "no", model.KindInvalidRequest, false},
		{"invalid_request_error", "exceeded model token limit", model.KindContextOverflow, false},
		{"context_length_exceeded", "no", model.KindContextOverflow, false},
		{"never_heard_of", "what", model.KindServer, true},
	}
	for _, tt := range tests {
		t.Run(tt.kind, func(t *testing.T) {
			each(t, func(t *testing.T, w modeltest.Wire) {
				p := w.Stream(modeltest.Turn{Text: []string{"one ", "two"}})
				p = append(p[:p.Index("one ")+1:p.Index("one ")+1], w.ErrorEvent(tt.kind, tt.message))
				tr, err := ask(t, open(t, w, modeltest.NewServer(t, p)), model.Request{})
				e, ok := model.AsError(err)
				if !ok || e.Kind != tt.want || e.Retryable != tt.retryable || !strings.Contains(e.Text, tt.message) ||
					tr.Text != "one " {
					t.Errorf("%#v after %q", err, tr.Text)
				}
			})
		})
	}
}

func TestAnErrorEndsAStreamThatStaysOpen(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		start := time.Now()
		s := modeltest.NewServer(t, modeltest.Play{w.ErrorEvent("server_error", "oops"), {Act: modeltest.Stop}})
		_, err := ask(t, open(t, w, s), model.Request{})
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindServer || time.Since(start) > 0 {
			t.Errorf("%#v after %s", err, time.Since(start))
		}
	})
}

func TestAStreamThatBreaks(t *testing.T) {
	for _, act := range []modeltest.Act{modeltest.Cut, modeltest.Close} {
		each(t, func(t *testing.T, w modeltest.Wire) {
			p := w.Stream(twoCalls)
			for n := range len(p) {
				if n > p.Index(`"finish_reason":"`) || n > p.Index("message_delta") || n > p.Index("messageStop") {
					break // an answer is complete once it said why it ended: asking again would cost the same again
				}
				s := modeltest.NewServer(t, p.Until(n, act))
				_, err := ask(t, open(t, w, s), model.Request{})
				if e, ok := model.AsError(err); !ok || e.Kind != model.KindCut || !e.Retryable {
					t.Errorf("ended by %d after %d of %d events: %#v", act, n, len(p), err)
				}
			}
		})
	}
}

func TestAStreamThatStalls(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		p := w.Stream(modeltest.Turn{Text: []string{"one ", "two"}})
		p = p[:p.Index("one ")+1]
		for range 100 { // pings do not count
			ping := modeltest.Event{Wait: 10 * time.Second, Raw: ": ping\n\n"}
			if w.API == model.APIAnthropic {
				ping = modeltest.Event{Wait: 10 * time.Second, Name: "ping", Data: `{"type":"ping"}`}
			}
			p = append(p, ping)
		}
		start := time.Now()
		_, err := ask(t, model.Timeouts(open(t, w, modeltest.NewServer(t, p)), model.TimeoutPolicy{}), model.Request{})
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindStalled || time.Since(start) != time.Minute {
			t.Errorf("%#v after %s", err, time.Since(start))
		}
	})
}

func TestALongToolCallIsNoStall(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		args := []string{`{"content":"`}
		for range 20 {
			args = append(args, "xxxxxxxx")
		}
		p := w.Stream(modeltest.Turn{Calls: []modeltest.WireCall{{ID: "c", Tool: "write", Args: append(args, `"}`)}}})
		for i := range p {
			p[i].Wait = 15 * time.Second
		}
		tr, err := ask(t, model.Timeouts(open(t, w, modeltest.NewServer(t, p)), model.TimeoutPolicy{}), model.Request{})
		if err != nil || tr.Message.Stop != model.StopTools {
			t.Errorf("%+v, %v", tr.Message, err)
		}
	})
}

func TestARetryStartsOver(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		p := w.Stream(modeltest.Turn{Text: []string{"one ", "two"}})
		s := modeltest.NewServer(t,
			modeltest.Answer(529, w.Error("overloaded_error", "Overloaded")),
			p.Until(p.Index("one ")+1, modeltest.Cut),
			modeltest.Answer(429, w.Error("rate_limit_error", "slow"), "Retry-After", "20"),
			p)
		start := time.Now()
		tr, err := ask(t, model.Retrying(open(t, w, s), model.RetryPolicy{}), model.Request{})
		if err != nil || tr.Text != "one two" || len(tr.Restarts) != 3 || time.Since(start) < 20*time.Second {
			t.Fatalf("%+v, %v after %s", tr, err, time.Since(start))
		}
		if a, b := s.Requests()[0], s.Requests()[3]; string(a.Body) != string(b.Body) {
			t.Errorf("the request changed:\n%s\n%s", a.Body, b.Body)
		}
	})
}

func TestGarbage(t *testing.T) {
	tests := map[string]struct {
		handler   http.Handler
		retryable bool
	}{
		"a web page":          {modeltest.Answer(200, "<html>welcome</html>", "Content-Type", "text/html"), false},
		"an answer at once":   {modeltest.Answer(200, `{"id":"x"}`), false},
		"a redirect":          {modeltest.Answer(307, "", "Location", "http://evil.test/"), false},
		"a redirect to a GET": {modeltest.Answer(302, "", "Location", "http://evil.test/"), false},
		"events that are no JSON": {modeltest.Play{
			{Name: "message_start", Data: "{nope"},
			{Name: "message_start", Data: "}"},
		}, true},
		"binary": {modeltest.Play{{Raw: "\x00\xff\xfe\n\n\n"}}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, w modeltest.Wire) {
				s := modeltest.NewServer(t, tt.handler)
				_, err := ask(t, open(t, w, s), model.Request{})
				e, ok := model.AsError(err)
				if !ok || e.Kind != model.KindProtocol && e.Kind != model.KindCut || e.Retryable != tt.retryable {
					t.Errorf("%#v", err)
				}
				if len(s.Requests()) != 1 {
					t.Errorf("%d requests", len(s.Requests()))
				}
			})
		})
	}
}

func TestARefusalIsAnError(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		_, err := ask(t, open(t, w, modeltest.NewServer(t, w.Stream(modeltest.Turn{
			Text:    []string{"I"},
			Refused: true,
		}))), model.Request{})
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindRefused || e.Retryable {
			t.Errorf("%#v", err)
		}
	})
}

func TestTheLimitOfTheOutputIsNoError(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		tr, err := ask(t, open(t, w, modeltest.NewServer(t, w.Stream(modeltest.Turn{
			Text: []string{"I"},
			Stop: model.StopLength,
		}))), model.Request{})
		if err != nil || tr.Message.Stop != model.StopLength {
			t.Errorf("%+v, %v", tr.Message, err)
		}
	})
}

// unreachable fails every request.
type unreachable struct{ err error }

func (u unreachable) RoundTrip(*http.Request) (*http.Response, error) { return nil, u.err }

func TestAProviderThatIsNotReached(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	tests := map[string]struct {
		err       error
		text      string
		retryable bool
	}{
		"refused": {dial(fmt.Errorf("connect: %w", syscall.ECONNREFUSED)), "connection refused", true},
		"no host": {
			dial(&net.DNSError{Err: "no such host", Name: "secret.internal", IsNotFound: true}),
			"address is not known", true,
		},
		"reset": {dial(syscall.ECONNRESET), "connection reset", true},
		"certificate": {
			&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
			"certificate is not valid", false,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := provider.APIs(&http.Client{Transport: unreachable{tt.err}})[model.APIAnthropic](
				model.Endpoint{
					Name: "a", BaseURL: "https://secret.internal", Settings: model.Settings{API: model.APIAnthropic},
				}, "x")
			if err != nil {
				t.Fatal(err)
			}
			_, err = ask(t, m, model.Request{})
			e, ok := model.AsError(err)
			if !ok || e.Kind != model.KindNetwork || e.Retryable != tt.retryable || !strings.Contains(e.Text, tt.text) {
				t.Fatalf("%#v", err)
			}
			if strings.Contains(e.Text, "secret.internal") {
				t.Errorf("the text tells the address: %s", e.Text)
			}
		})
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		echo := fmt.Sprintf("Incorrect API key provided: %s with %s", key, "header-secret-1")
		s := modeltest.NewServer(t, modeltest.Answer(401, w.Error("invalid_api_key", echo)),
			modeltest.Play{w.ErrorEvent("api_error", echo)})
		m := open(t, w, s, func(e *model.Endpoint) { e.Headers = map[string]model.Secret{"X-Proxy": "Bearer header-secret-1"} })
		for range 2 {
			_, err := ask(t, m, model.Request{})
			for e := err; e != nil; e = errors.Unwrap(e) {
				if text := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(text, key) ||
					strings.Contains(text, "header-secret") {
					t.Errorf("an error tells a secret: %s", text)
				}
			}
			if err == nil || !strings.Contains(err.Error(), "[redacted]") {
				t.Errorf("%v", err)
			}
		}
	})
}

func TestTheContextEndsACallThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Anthropic
		p := w.Stream(modeltest.Turn{Text: []string{"x"}})
		m := model.Timeouts(open(t, w, modeltest.NewServer(t, p.Until(0, modeltest.Stop))),
			model.TimeoutPolicy{Call: 5 * time.Second})
		start := time.Now()
		_, err := ask(t, m, model.Request{})
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindDeadline || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

func TestLeavingEndsTheRequest(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		ended := false
		p := w.Stream(modeltest.Turn{Text: []string{"one ", "two"}})
		s := modeltest.NewServer(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			p.Until(p.Index("one ")+1, modeltest.Stop).ServeHTTP(rw, r)
			ended = true
		}))
		for part := range open(t, w, s).Stream(t.Context(), model.Request{Messages: []model.Message{user("hi")}}) {
			if part.Type == model.PartText {
				break
			}
		}
		if synctest.Wait(); !ended {
			t.Error("the request goes on")
		}
	})
}

// What a server sent instead of an answer is cut to be quoted, and the cut may go through a key.
func TestACutThroughAKeyShowsNothingOfIt(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		for n := 250; n <= 310; n++ {
			for name, body := range map[string]string{
				"a page": strings.Repeat("x", n) + key + "\n", "an event": "data: {" + strings.Repeat("x", n) + key +
					"\n\n",
				"JSON": `{"a":"` + strings.Repeat("x", n) + key + `"}`,
			} {
				s := modeltest.NewServer(t, modeltest.Answer(200, body))
				_, err := ask(t, open(t, w, s), model.Request{})
				if err == nil || strings.Contains(err.Error(), key[:8]) {
					t.Fatalf("%s, %d: %v", name, n, err)
				}
			}
		}
	})
}
