package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway"
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

// While the database is away /readyz says so within a second to whoever shows a token, which cannot be looked up.
func TestReadyWithoutADatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deps(planetest.New(t, hello()))
		d.Auth = hanging{}
		r := request(t.Context())
		r.Method, r.URL.Path = http.MethodGet, "/readyz"
		w := httptest.NewRecorder()
		began := time.Now()
		gateway.New(d).ServeHTTP(w, r)
		got, took := w.Body.String(), time.Since(began)
		if w.Code != http.StatusServiceUnavailable || took > time.Second ||
			got != `{"ready":false,"reasons":["the database does not answer"]}`+"\n" {
			t.Errorf("after %v: %d %s", took, w.Code, got)
		}
	})
}

// hanging asks a database that does not answer.
type hanging struct{ auth.Authenticator }

// Authenticate implements auth.Authenticator.
func (hanging) Authenticate(ctx context.Context, _ string) (auth.Principal, error) {
	<-ctx.Done()
	return auth.Principal{}, ctx.Err()
}
