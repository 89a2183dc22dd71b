package egress

import (
	"io"
	"net/http"
)

// bounded bounds the bodies of responses.
type bounded struct {
	most int64
	next *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(req)
	if err != nil || b.most == 0 {
		return res, err
	}
	res.Body = Limit(res.Body, b.most)
	return res, nil
}

// Limit is a body of which so many bytes can be read. ErrTooLarge follows if there are more.
func Limit(r io.ReadCloser, most int64) io.ReadCloser {
	return &body{ReadCloser: r, left: most, most: most}
}

// CloseIdleConnections makes http.Client.CloseIdleConnections work.
func (b *bounded) CloseIdleConnections() { b.next.CloseIdleConnections() }

// body fails once it has given as much as it may. What is counted is decompressed already, so that a small response
// cannot become a large one.
type body struct {
	io.ReadCloser
	left, most int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		var one [1]byte
		switch n, err := b.ReadCloser.Read(one[:]); {
		case n > 0:
			return 0, ErrTooLarge.With("the response has more than %d bytes", b.most)
		case err == nil:
			return 0, nil
		default:
			return 0, err
		}
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
