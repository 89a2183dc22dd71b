package provider

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

// send makes a request. A redirect is an answer: following it would carry the key and the conversation to whomever it
// names.
func (m *languageModel) send(ctx context.Context, c *call, parts [][]byte) (*http.Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: http.MethodPost, URL: m.access.url, Host: m.access.url.Host, Header: m.access.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: &body{parts: parts},
		// A connection that was closed while it was idle is replaced, and the body is read from its beginning.
		GetBody: func() (io.ReadCloser, error) { return &body{parts: parts}, nil },
	}
	for _, p := range parts {
		r.ContentLength += int64(len(p))
	}
	if m.access.identity != nil {
		r.Header = r.Header.Clone()
		if m.access.searchBeta != "" && slices.ContainsFunc(c.Tools, func(t model.Tool) bool { return t.Hosted }) {
			r.Header.Set(betaHeader, strings.TrimPrefix(r.Header.Get(betaHeader)+","+m.access.searchBeta, ","))
		}
		if err := m.access.identity.prove(ctx, r, parts); err != nil {
			return nil, err
		}
	}
	return m.base.RoundTrip(r.WithContext(ctx))
}

// uncompressed is an answer's body. Some servers compress although they were not asked to.
func uncompressed(res *http.Response) (io.Reader, error) {
	if !strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") {
		return res.Body, nil
	}
	r, err := gzip.NewReader(res.Body)
	if err != nil {
		return nil, &wire.ForeignError{What: "the answer is said to be compressed and is not: " + err.Error()}
	}
	return r, nil
}

// body reads a request's pieces without joining them.
type body struct {
	parts [][]byte
	at    int // in the first part
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && len(b.parts) > 0 {
		k := copy(p[n:], b.parts[0][b.at:])
		n, b.at = n+k, b.at+k
		if b.at == len(b.parts[0]) {
			b.parts, b.at = b.parts[1:], 0
		}
	}
	if n == 0 && len(b.parts) == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close implements io.Closer.
func (b *body) Close() error { return nil }
