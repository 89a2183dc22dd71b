package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/net/http/httpguts"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rawjson"
)

const userAgent = "Pawl (workflow)"

// errRequest refuses a request before anything is sent.
var errRequest = errs.New(errs.InvalidArgument, "HTTP_REQUEST", "the request cannot be made")

// own are the headers that belong to the connection, or say where a request goes.
var own = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// request is the step's request. The error is errRequest.
func (t *try) request(ctx context.Context) (*http.Request, error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Host == "" || len(t.URL) > maxURL {
		return nil, errRequest.With("the URL is not an absolute http or https URL of at most %d bytes", maxURL)
	}
	body, media, err := encode(t.Body)
	if err != nil {
		return nil, err
	}
	method := t.Step.Method
	if method == "" {
		method = http.MethodGet
	}
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), in)
	if err != nil {
		return nil, errRequest.With("%v", inner(err))
	}
	req.Header.Set("User-Agent", userAgent)
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	if method != http.MethodGet && method != http.MethodHead && t.Key != "" {
		req.Header.Set("Idempotency-Key", t.Key)
	}
	return req, t.head(req.Header)
}

// encode is a body and its type: a text as it is, anything else as JSON. nil is none.
func encode(v any) (body []byte, media string, err error) {
	switch v := v.(type) {
	case nil:
		return nil, "", nil
	case string:
		body, media = []byte(v), "text/plain; charset=utf-8"
	default:
		media = "application/json"
		if body, err = rawjson.Encode(v); err != nil {
			return nil, "", errRequest.With("the body cannot be written as JSON: %v", err)
		}
	}
	if len(body) > MaxBody {
		return nil, "", errRequest.With("the body has %d bytes, at most %d are possible", len(body), MaxBody)
	}
	return body, media, nil
}

// head adds the step's own headers.
func (t *try) head(h http.Header) error {
	given, size := map[string]bool{}, 0
	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		value, canonical := t.Headers[name], http.CanonicalHeaderKey(name)
		switch size += len(name) + len(value); {
		case !httpguts.ValidHeaderFieldName(name):
			return errRequest.With("%q cannot be the name of a header", name)
		case !httpguts.ValidHeaderFieldValue(value):
			return errRequest.With("the value of the header %s has characters that a header cannot have", name)
		case slices.Contains(own, canonical):
			return errRequest.With("the header %s cannot be set: it belongs to the connection", name)
		case given[canonical]:
			return errRequest.With("the header %s is there twice", canonical)
		case size > maxHeaders:
			return errRequest.With("the headers have more than %d bytes", maxHeaders)
		}
		given[canonical] = true
		h.Set(name, value)
	}
	return nil
}

// inner is an error without the URL that it may begin with.
func inner(err error) error {
	var failure *url.Error
	if errors.As(err, &failure) {
		return failure.Err
	}
	return err
}

// stepKey is under which the context of a request has its step.
type stepKey struct{}

// follow follows a redirect as the way out allows, unless the step takes its status for an answer.
func follow(next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if ok, _ := req.Context().Value(stepKey{}).([]int); slices.Contains(ok, req.Response.StatusCode) {
			return http.ErrUseLastResponse
		}
		if err := next(req, via); err != nil {
			return fmt.Errorf("the answer is %d: %w", req.Response.StatusCode, err)
		}
		return nil
	}
}
