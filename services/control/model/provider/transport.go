package provider

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/pawl-dev/pawl/services/control/model"
)

// maxErrorBody is how much of an error's body is read.
const maxErrorBody = 64 << 10

// errNoStream is a success that is not the stream we asked for: an address that is not the API's.
var errNoStream = errors.New("the answer is not a stream of events")

// exchange is what the transport sees of one call.
type exchange struct {
	status    int // 0 until an answer came
	header    http.Header
	body      []byte            // of a failure
	marker    string            // that stands for a reasoning item in the request, see replay.go
	items     [][]byte          // the items that markers stand for
	reasoning map[string][]byte // items that came, by id
}

type exchangeKey struct{}

// withExchange makes the transport report on the call of this context.
func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// transport is between a client library and the network.
type transport struct {
	base      http.RoundTripper
	endpoint  model.Endpoint
	anthropic bool
}

// passing are the headers of the libraries that reach the provider.
var passing = []string{"Accept", "Content-Type", "User-Agent", "Anthropic-Version", "Anthropic-Beta"}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		x = &exchange{}
	}
	out := r.Clone(r.Context())
	out.Header = t.headers(r.Header)
	if err := x.replay(out); err != nil {
		return nil, err
	}
	res, err := t.base.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	x.status, x.header = res.StatusCode, res.Header.Clone()
	if res.StatusCode >= http.StatusBadRequest {
		x.body, _ = io.ReadAll(io.LimitReader(res.Body, maxErrorBody)) // what came is what can be told
		_ = res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(x.body))
		return res, nil
	}
	if kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || kind != "text/event-stream" {
		_ = res.Body.Close()
		return nil, errNoStream
	}
	res.Body = &tap{ReadCloser: res.Body, exchange: x}
	return res, nil
}

// headers are those that are sent: a list of the library's, what is configured, and the key.
func (t *transport) headers(from http.Header) http.Header {
	to := http.Header{}
	for _, name := range passing {
		if v := from.Values(name); len(v) > 0 {
			to[name] = v
		}
	}
	switch key := t.endpoint.Key.Reveal(); {
	case key == "":
	case t.anthropic:
		to.Set("X-Api-Key", key)
	default:
		to.Set("Authorization", "Bearer "+key)
	}
	for name, v := range t.endpoint.Headers {
		to.Set(name, v.Reveal())
	}
	return to
}
