package hub

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/mcp"
)

// endless answers every request with short lines for ever.
type endless struct {
	status int
	kind   string
}

func (e endless) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: e.status, Header: http.Header{"Content-Type": {e.kind}}, Body: e}, nil
}

func (endless) Close() error { return nil }

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "x\n"[i%2]
	}
	return len(p), nil
}

// A server that asks a lot, and takes no answers, costs few connections, for a short time.
func TestAServerThatTakesNoAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &silent{}
		c := newCarrier(server, mcp.HTTP{}, nil)
		begun, ended := time.Now(), make(chan error, 1000)
		for range cap(ended) {
			go func() {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://a.test/", http.NoBody)
				if err == nil {
					_, err = c.RoundTrip(req)
				}
				ended <- err
			}()
		}
		synctest.Wait()
		refused := len(ended)
		for range cap(ended) {
			if err := <-ended; err == nil {
				t.Error("a message was taken")
			}
		}
		took := time.Since(begun)
		if server.asked.Load() != maxBeside || refused != cap(ended)-maxBeside || took != headTimeout {
			t.Errorf("%d are under way, %d refused, the last has ended after %s", server.asked.Load(), refused, took)
		}
	})
}

// What a server answers without end is cut, or, where it may be long, read slowly.
func TestAnswersWithoutEnd(t *testing.T) {
	body := func(e endless) io.ReadCloser {
		c := newCarrier(e, mcp.HTTP{}, nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://a.test/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return res.Body
	}
	for e, most := range map[endless]int64{
		{http.StatusOK, "application/json"}:            maxBody,
		{http.StatusOK, ""}:                            maxBody,
		{http.StatusBadRequest, "application/json"}:    maxErrorBody,
		{http.StatusBadGateway, "text/event-stream"}:   maxErrorBody,
		{http.StatusUnauthorized, "application/json"}:  maxErrorBody,
		{http.StatusOK, "text/event-stream-and-more"}:  maxBody,
		{http.StatusTooManyRequests, "text/html; a=b"}: maxErrorBody,
	} {
		n, err := io.Copy(io.Discard, io.LimitReader(body(e), most+1))
		if n != most || !errors.Is(err, egress.ErrTooLarge) {
			t.Errorf("%+v: %d bytes, %v", e, n, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		began, lines, stream := time.Now(), 0, body(endless{http.StatusOK, "text/event-stream; charset=utf-8"})
		for p := make([]byte, 32<<10); lines < 100_000; {
			n, err := stream.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			lines += strings.Count(string(p[:n]), "\n")
		}
		if took := time.Since(began); took < 30*time.Second {
			t.Errorf("%d lines took %s", lines, took)
		}
	})
}
