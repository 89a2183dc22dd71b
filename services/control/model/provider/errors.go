package provider

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"charm.land/fantasy"

	"github.com/pawl-dev/pawl/services/control/model"
)

// failed is an error of this model.
func (m *languageModel) failed(kind model.Kind, retryable bool, format string, args ...any) *model.Error {
	text := m.redactor.Clean(fmt.Sprintf(format, args...))
	return &model.Error{Kind: kind, Retryable: retryable, Text: m.ref.String() + ": " + text}
}

// failure classifies what ended a call: what the provider said, else the end of the context, else what Go says.
func (m *languageModel) failure(ctx context.Context, x *exchange, err error) error {
	var ours *model.Error
	if errors.As(err, &ours) {
		return ours
	}
	if x.status >= http.StatusBadRequest {
		return m.refused(x, saidIn(x.body))
	}
	if s, ok := saidBy(err); ok {
		return m.reported(s)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", m.ref, ctx.Err())
	}
	return m.broken(x, err)
}

// said is what a provider tells about an error.
type said struct {
	kinds   []string // its type and code, the more general first
	status  int      // some put it into the code
	message string
}

// saidIn reads an error's JSON, which comes with and without an envelope.
func saidIn(raw []byte) said {
	var e struct {
		Error   json.RawMessage
		Type    string
		Code    any
		Message string
	}
	if json.Unmarshal(raw, &e) != nil {
		return said{}
	}
	if len(e.Error) > 0 && string(e.Error) != "null" {
		if message := ""; json.Unmarshal(e.Error, &message) == nil {
			return said{message: message}
		}
		return saidIn(e.Error)
	}
	s := said{kinds: []string{e.Type}, message: e.Message}
	switch code := e.Code.(type) {
	case string:
		s.kinds = append(s.kinds, code)
	case float64:
		s.status = int(code)
	}
	return s
}

// saidBy finds what a provider told in the middle of a stream.
func saidBy(err error) (said, bool) {
	var p *fantasy.ProviderError
	if errors.As(err, &p) {
		var body interface{ RawJSON() string }
		if errors.As(err, &body) {
			return saidIn([]byte(body.RawJSON())), true
		}
		if len(p.ResponseBody) > 0 {
			return saidIn(p.ResponseBody), true
		}
	}
	var f *fantasy.Error
	if errors.As(err, &f) && strings.HasPrefix(f.Title, "response ") { // fantasy's own form of an error of the Responses API
		s := said{message: f.Message}
		if rest, ok := strings.CutSuffix(f.Message, ")"); ok {
			if i := strings.LastIndex(rest, " (code: "); i >= 0 {
				s = said{message: rest[:i], kinds: []string{rest[i+len(" (code: "):]}}
			}
		}
		return s, true
	}
	return said{}, false
}

// kindsOf are the types and codes that providers give their errors.
var kindsOf = map[string]model.Kind{
	"overloaded_error": model.KindOverloaded, "overloaded": model.KindOverloaded, "server_is_overloaded": model.KindOverloaded,
	"slow_down": model.KindOverloaded, "rate_limit_error": model.KindRateLimited, "rate_limit_exceeded": model.KindRateLimited,
	"insufficient_quota": model.KindQuota, "billing_error": model.KindQuota, "billing_hard_limit_reached": model.KindQuota,
	"authentication_error": model.KindAuth, "permission_error": model.KindAuth, "invalid_api_key": model.KindAuth,
	"not_found_error": model.KindNotFound, "model_not_found": model.KindNotFound,
	"invalid_request_error": model.KindInvalidRequest, "invalid_prompt": model.KindInvalidRequest,
	"request_too_large": model.KindContextOverflow, "context_length_exceeded": model.KindContextOverflow,
	"content_policy_violation": model.KindRefused, "content_filter": model.KindRefused,
	"api_error": model.KindServer, "server_error": model.KindServer, "internal_error": model.KindServer,
	"internal_server_error": model.KindServer, "timeout_error": model.KindServer,
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

// refused is a request that was answered with an error's status.
func (m *languageModel) refused(x *exchange, s said) error {
	kind := statusKind(x.status)
	if k, ok := s.kindOf(); ok && (k == model.KindQuota || k == model.KindContextOverflow || k == model.KindOverloaded) {
		kind = k // finer than the status
	}
	if kind == model.KindInvalidRequest && isOverflow(s.message) {
		kind = model.KindContextOverflow
	}
	again := retryable(kind)
	switch x.status {
	case http.StatusRequestTimeout, http.StatusConflict:
		again = true
	}
	if should, err := strconv.ParseBool(x.header.Get("X-Should-Retry")); err == nil && kind != model.KindQuota {
		again = should
	}
	e := m.failed(kind, again, "%s (%d)", strings.ToLower(statusText(x.status)), x.status)
	if words := model.Words(x.body); words != "" {
		e = m.failed(kind, again, "%s (%d): %s", strings.ToLower(statusText(x.status)), x.status, words)
	}
	e.Status = x.status
	if again {
		e.RetryAfter = model.RetryAfter(x.header)
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

// reported is an error in the middle of a stream. One that we do not know is taken for the server's.
func (m *languageModel) reported(s said) error {
	kind, ok := s.kindOf()
	if !ok && s.status >= http.StatusBadRequest {
		kind, ok = statusKind(s.status), true
	}
	if !ok {
		kind = model.KindServer
	}
	if !ok && isOverflow(s.message) || kind == model.KindInvalidRequest && isOverflow(s.message) {
		kind = model.KindContextOverflow
	}
	if s.message == "" {
		s.message = "no reason given"
	}
	return m.failed(kind, retryable(kind), "the provider ended the stream: %s", s.message)
}

// broken is a call that ended without a word of the provider. Addresses stay out of the text.
func (m *languageModel) broken(x *exchange, err error) error {
	var certificate *tls.CertificateVerificationError
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var network net.Error
	var errno syscall.Errno
	var dns *net.DNSError
	answered := x.status != 0
	switch {
	case errors.Is(err, errNoStream):
		return m.failed(model.KindProtocol, false, "%v (status %d); check base_url and api of the provider", errNoStream, x.status)
	case errors.As(err, &certificate):
		return m.failed(model.KindNetwork, false, "the provider's certificate is not valid: %v", certificate.Err)
	case errors.As(err, &syntax), errors.As(err, &kind), errors.Is(err, bufio.ErrTooLong):
		return m.failed(model.KindProtocol, true, "the provider's stream is not what its API promises")
	case answered && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, &network) ||
		errors.Is(err, io.ErrClosedPipe) || fantasy.IsTransportError(err)):
		return m.failed(model.KindCut, true, "the stream ended before its end")
	case errors.As(err, &dns):
		return m.failed(model.KindNetwork, true, "the provider's address is not known")
	case errors.As(err, &errno):
		return m.failed(model.KindNetwork, true, "the provider is not reached: %v", errno)
	case errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || fantasy.IsTransportError(err):
		return m.failed(model.KindNetwork, true, "the provider is not reached")
	default:
		return m.failed(model.KindProtocol, false, "the call failed: %v", err)
	}
}
