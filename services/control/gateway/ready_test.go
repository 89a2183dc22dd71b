package gateway_test

import (
	"context"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

// From when the server begins to stop, /readyz says no and why, new requests are refused, and /healthz still answers.
func TestDraining(t *testing.T) {
	d := deps(planetest.New(t, hello()))
	draining, drain := context.WithCancel(t.Context())
	d.Draining = draining
	d.Unready = func() []string {
		if draining.Err() != nil {
			return []string{"draining"}
		}
		return nil
	}
	s := serve(t, d)
	check := func(when, request string, status int, says string) {
		t.Helper()
		got, _, body := raw(t, s, request)
		if got != status || !strings.Contains(body, says) {
			t.Errorf("%s: %s: %d %s", when, strings.SplitN(request, "\n", 2)[0], got, body)
		}
	}
	const (
		health   = "GET /healthz HTTP/1.1\nHost: localhost\n\n"
		anybody  = "GET /readyz HTTP/1.1\nHost: localhost\n\n"
		operator = "GET /readyz HTTP/1.1\n" + get
		client   = "GET /readyz HTTP/1.1\nHost: localhost\nAuthorization: Bearer shell\n\n"
		post     = "POST /readyz HTTP/1.1\nHost: localhost\n\n"
	)
	prompted := with("POST /agents/shell/i HTTP/1.1", `{"message":"hi"}`)
	check("before", health, 200, "ok")
	check("before", anybody, 200, "ok")
	check("before", operator, 200, `{"ready":true,"reasons":[]}`)
	check("before", post, 405, "")
	check("before", prompted, 200, "Hello")
	drain()
	check("after", health, 200, "ok")
	check("after", anybody, 503, "not ready\n")
	check("after", client, 503, "not ready\n")
	check("after", operator, 503, `{"ready":false,"reasons":["draining"]}`)
	check("after", prompted, 503, "server_stopping")
	if _, status := dial(t, s, socketPath); status != 503 {
		t.Errorf("after: a socket: %d", status)
	}
}
