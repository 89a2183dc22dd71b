package provider

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

// failed is an error of this model.
func (m *languageModel) failed(kind model.Kind, retryable bool, format string, args ...any) *model.Error {
	text := m.secrets().Clean(fmt.Sprintf(format, args...))
	return &model.Error{Kind: kind, Retryable: retryable, Text: m.Ref().String() + ": " + text}
}

// secrets hides what requests carry now.
func (m *languageModel) secrets() model.Redactor {
	if m.access.identity == nil {
		return m.redactor
	}
	return m.redactor.With(m.access.identity.secrets()...)
}

// failure classifies what ended a call: what the provider said, else the end of the context, else what Go says.
// answered tells whether the provider had begun to answer.
func (m *languageModel) failure(ctx context.Context, answered bool, err error) error {
	var reported *wire.ReportedError
	if errors.As(err, &reported) {
		return m.reported(reported.Body)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", m.Ref(), ctx.Err())
	}
	if answered {
		return m.broken(err)
	}
	return m.unreached(err)
}

// said is how a provider classifies an error.
type said struct {
	kinds  []string      // its type and code, the more general first
	status int           // some put it into the code
	wait   time.Duration // until the request may be made again; 0 when it does not say
}

// saidIn reads an error's JSON, which comes with and without an envelope, or in a list.
func saidIn(raw []byte) said {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && len(list) > 0 {
		raw = list[0]
	}
	var o map[string]json.RawMessage
	if json.Unmarshal(raw, &o) != nil {
		return said{}
	}
	for _, envelope := range []string{"error", "response"} {
		var inner map[string]json.RawMessage
		if json.Unmarshal(o[envelope], &inner) == nil && len(inner) > 0 {
			return saidIn(o[envelope])
		}
	}
	var s said
	for _, name := range []string{"status", "type", "code", "__type"} {
		var text string
		var number float64
		switch {
		case json.Unmarshal(o[name], &text) == nil && text != "":
			s.kinds = append(s.kinds, strings.ToLower(text[strings.LastIndexByte(text, '#')+1:])) // AWS names a space
			if n, err := strconv.Atoi(text); err == nil {
				s.status = n
			}
		case json.Unmarshal(o[name], &number) == nil && number >= http.StatusBadRequest && number < 600:
			s.status = int(number)
		}
	}
	s.details(o["details"])
	return s
}

// details reads what Google adds to an error: a reason, and how long to wait.
func (s *said) details(raw json.RawMessage) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return
	}
	for _, one := range list {
		var d struct {
			Reason     string
			RetryDelay json.RawMessage
		}
		if json.Unmarshal(one, &d) != nil {
			continue
		}
		if d.Reason != "" {
			s.kinds = append(s.kinds, strings.ToLower(d.Reason))
		}
		if wait := retryDelay(d.RetryDelay); wait > 0 {
			s.wait = wait
		}
	}
}

// retryDelay reads a duration of Google's: a text such as "34.07s", or its fields.
func retryDelay(raw json.RawMessage) time.Duration {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		wait, err := time.ParseDuration(text)
		if err != nil {
			return 0
		}
		return wait
	}
	var fields struct {
		Seconds json.Number
		Nanos   int64
	}
	if json.Unmarshal(raw, &fields) != nil {
		return 0
	}
	seconds, err := fields.Seconds.Int64()
	if err != nil || seconds < 0 || seconds > int64(longestDelay/time.Second) {
		seconds = 0
	}
	return time.Duration(seconds)*time.Second + time.Duration(fields.Nanos)
}

// longestDelay is the longest that is read as one.
const longestDelay = 365 * 24 * time.Hour

// kindsOf are the types and codes that providers give their errors.
var kindsOf = map[string]model.Kind{
	"overloaded_error": model.KindOverloaded, "overloaded": model.KindOverloaded, "server_is_overloaded": model.KindOverloaded,
	"slow_down": model.KindOverloaded, "unavailable": model.KindOverloaded,
	"rate_limit_error": model.KindRateLimited, "rate_limit_exceeded": model.KindRateLimited,
	"resource_exhausted": model.KindRateLimited,
	"insufficient_quota": model.KindQuota, "billing_error": model.KindQuota, "billing_hard_limit_reached": model.KindQuota,
	"authentication_error": model.KindAuth, "permission_error": model.KindAuth, "invalid_api_key": model.KindAuth,
	"permission_denied": model.KindAuth, "unauthenticated": model.KindAuth,
	"not_found_error": model.KindNotFound, "model_not_found": model.KindNotFound, "not_found": model.KindNotFound,
	"invalid_request_error": model.KindInvalidRequest, "invalid_prompt": model.KindInvalidRequest,
	"invalid_argument": model.KindInvalidRequest, "api_key_invalid": model.KindAuth,
	"request_too_large": model.KindContextOverflow, "context_length_exceeded": model.KindContextOverflow,
	"content_policy_violation": model.KindRefused, "content_filter": model.KindRefused,
	"api_error": model.KindServer, "server_error": model.KindServer, "internal_error": model.KindServer,
	"internal_server_error": model.KindServer, "timeout_error": model.KindServer,
	"throttlingexception": model.KindRateLimited, "servicequotaexceededexception": model.KindQuota,
	"modelnotreadyexception": model.KindOverloaded, "serviceunavailableexception": model.KindOverloaded,
	"internalserverexception": model.KindServer, "modelstreamerrorexception": model.KindServer,
	"modeltimeoutexception": model.KindServer, "modelerrorexception": model.KindServer,
	"validationexception": model.KindInvalidRequest, "accessdeniedexception": model.KindAuth,
	"unrecognizedclientexception": model.KindAuth, "expiredtokenexception": model.KindAuth,
	"invalidsignatureexception": model.KindAuth, "resourcenotfoundexception": model.KindNotFound,
}

// kindOf is the kind that s names; a code says more than a type.
func (s said) kindOf() (model.Kind, bool) {
	for i := len(s.kinds) - 1; i >= 0; i-- {
		if k, ok := kindsOf[s.kinds[i]]; ok {
			return k, true
		}
	}
	return "", false
}

func retryable(k model.Kind) bool {
	return k == model.KindOverloaded || k == model.KindRateLimited || k == model.KindServer
}

// saidBy is how an answer that is no success classifies itself.
func saidBy(res *http.Response, body []byte) said {
	said := saidIn(body)
	if kind, _, _ := strings.Cut(res.Header.Get("X-Amzn-Errortype"), ":"); kind != "" {
		said.kinds = append(said.kinds, strings.ToLower(kind))
	}
	return said
}

// isStale reports whether a server refused a proof of identity that was valid once.
func isStale(res *http.Response, body []byte) bool {
	return res.StatusCode == http.StatusUnauthorized ||
		slices.ContainsFunc(saidBy(res, body).kinds, func(kind string) bool {
			return kind == "expiredtokenexception" || kind == "unrecognizedclientexception"
		})
}

// refusal is a request that was answered with a status that is no success.
func (m *languageModel) refusal(res *http.Response, body []byte) error {
	words := model.Words(body)
	if res.StatusCode < http.StatusBadRequest {
		return m.failed(model.KindProtocol, false, "%s (%d) instead of a stream of events; check base_url and api of "+
			"the provider",
			strings.ToLower(statusText(res.StatusCode)), res.StatusCode)
	}
	kind, said := statusKind(res.StatusCode), saidBy(res, body)
	if k, ok := said.kindOf(); ok {
		switch {
		case k == model.KindQuota, k == model.KindContextOverflow, k == model.KindOverloaded,
			(k == model.KindAuth || k == model.KindRefused) && kind == model.KindInvalidRequest,
			k == model.KindServer && res.StatusCode == http.StatusFailedDependency:
			kind = k // finer than the status
		}
	}
	if kind == model.KindInvalidRequest && isOverflow(words) {
		kind = model.KindContextOverflow
	}
	again := retryable(kind)
	switch res.StatusCode {
	case http.StatusRequestTimeout, http.StatusConflict:
		again = true
	}
	if should, err := strconv.ParseBool(res.Header.Get("X-Should-Retry")); err == nil && kind != model.KindQuota {
		again = should
	}
	text := fmt.Sprintf("%s (%d)", strings.ToLower(statusText(res.StatusCode)), res.StatusCode)
	if words != "" {
		text += ": " + words
	}
	e := m.failed(kind, again, "%s", text)
	e.Status = res.StatusCode
	if again {
		e.RetryAfter = cmp.Or(model.RetryAfter(res.Header), said.wait)
	}
	return e
}

// statusOverloaded is Anthropic's.
const statusOverloaded = 529

func statusText(status int) string {
	if text := http.StatusText(status); text != "" {
		return text
	}
	if status == statusOverloaded {
		return "overloaded"
	}
	return "error"
}

func statusKind(status int) model.Kind {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return model.KindAuth
	case http.StatusPaymentRequired:
		return model.KindQuota
	case http.StatusNotFound:
		return model.KindNotFound
	case http.StatusRequestEntityTooLarge:
		return model.KindContextOverflow
	case http.StatusTooManyRequests:
		return model.KindRateLimited
	case http.StatusServiceUnavailable, statusOverloaded:
		return model.KindOverloaded
	case http.StatusRequestTimeout:
		return model.KindServer
	}
	if status >= http.StatusInternalServerError {
		return model.KindServer
	}
	return model.KindInvalidRequest
}

// reported is an error that came with a success, or in the middle of a stream. One that we do not know is taken for the
// server's.
func (m *languageModel) reported(body []byte) error {
	s, words := saidIn(body), model.Words(body)
	kind, ok := s.kindOf()
	if !ok && s.status != 0 {
		kind, ok = statusKind(s.status), true
	}
	if !ok {
		kind = model.KindServer
	}
	if (!ok || kind == model.KindInvalidRequest) && isOverflow(words) {
		kind = model.KindContextOverflow
	}
	if words == "" {
		words = "no reason given"
	}
	e := m.failed(kind, retryable(kind), "the provider ended the stream: %s", words)
	if e.Retryable {
		e.RetryAfter = s.wait
	}
	return e
}

// broken is an answer that ended, or cannot be read, without a word of the provider.
func (m *languageModel) broken(err error) error {
	var foreign *wire.ForeignError
	switch {
	case errors.Is(err, wire.ErrRefused):
		return m.failed(model.KindRefused, false, "%v", err)
	case errors.As(err, &foreign):
		quoted := *foreign
		quoted.Came = m.secrets().Excerpt(foreign.Came, maxCame)
		return m.failed(model.KindProtocol, !foreign.Final, "%v", &quoted) // which is retried once
	default:
		e := m.failed(model.KindCut, true, "%v", wire.ErrCut)
		e.Once = errors.Is(err, wire.ErrCut) // the connection did not break: this is how the server ends its streams
		return e
	}
}

// unreached is a request without an answer. Addresses stay out of the text.
func (m *languageModel) unreached(err error) error {
	var ours *model.Error
	var unproven *identityError
	var certificate *tls.CertificateVerificationError
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &unproven) && unproven.retryable:
		return m.failed(model.KindNetwork, true, "%s", unproven.text)
	case errors.As(err, &unproven):
		return m.failed(model.KindAuth, false, "%s", unproven.text)
	case errors.As(err, &certificate):
		return m.failed(model.KindNetwork, false, "the provider's certificate is not valid: %v", certificate.Err)
	case errors.As(err, &dns):
		return m.failed(model.KindNetwork, true, "the provider's address is not known")
	case errors.As(err, &errno):
		return m.failed(model.KindNetwork, true, "the provider is not reached: %v", errno)
	case isNetwork(err):
		return m.failed(model.KindNetwork, true, "the provider is not reached")
	default:
		return m.failed(model.KindProtocol, false, "the call failed: %v", err)
	}
}

// isNetwork reports whether an error is about the way to a server.
func isNetwork(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		severed().MatchString(err.Error())
}

// severed are errors of net/http that have no type of their own: the other side has ended a stream or a connection.
var severed = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\b(http2: |stream error: |connection error: |server closed |connection broken)`)
})
