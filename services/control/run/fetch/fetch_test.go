package fetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// site is a server that all public names lead to: the test's dialer is below the check of addresses.
type site struct {
	*httptest.Server
	client *Client
	mu     sync.Mutex
	seen   []string // requests as they came
}

func newSite(t *testing.T, h http.HandlerFunc) *site {
	t.Helper()
	s := &site{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.seen = append(s.seen, fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body))
		s.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	s.client = clientOf(t, (&net.Dialer{}).DialContext, s.Listener.Addr().String())
	return s
}

// requests are those that came, and none any more.
func (s *site) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// most is MaxBody of tests.
const most = 1 << 20

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// clientOf is a client of some hosts whose connections go to one address.
func clientOf(t *testing.T, dial dialer, address string) *Client {
	t.Helper()
	hosts, err := egress.ParseHosts([]string{"a.test", "b.test", "private.test", "[2606:4700:4700::1111]"})
	if err != nil {
		t.Fatal(err)
	}
	return newClient(hosts, egress.Client{
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			if host == "private.test" {
				return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
		},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, address) },
	}, most)
}

// asks is a request; options change it.
func asks(method string, opts ...func(*Request)) Request {
	r := Request{HTTP: drive.HTTP{Step: &workflow.HTTP{Method: method}, URL: "http://a.test/path"}, Key: "the-key"}
	for _, o := range opts {
		o(&r)
	}
	return r
}

func to(u string) func(*Request)                 { return func(r *Request) { r.URL = u } }
func safe(s workflow.Safety) func(*Request)      { return func(r *Request) { r.Step.Safety = s } }
func headers(h map[string]string) func(*Request) { return func(r *Request) { r.Headers = h } }
func body(b any) func(*Request)                  { return func(r *Request) { r.Body = b } }

// brief is an outcome as a line: its state, and the status or the reason.
func brief(o drive.Outcome) string {
	if o.Failed != nil {
		return o.State.String() + " " + o.Failed.Reason
	}
	return fmt.Sprint(o.State, " ", o.Output["status_code"])
}

func TestRequests(t *testing.T) {
	var got *http.Request
	s := newSite(t, func(_ http.ResponseWriter, r *http.Request) { got = r })
	for name, c := range map[string]struct {
		ask     Request
		want    string
		headers map[string]string
	}{
		"get": {asks("", headers(map[string]string{"authorization": "Bearer s3cret"})), "GET /path ", map[string]string{
			"Authorization": "Bearer s3cret", "User-Agent": userAgent, "Idempotency-Key": "", "Content-Type": "",
		}},
		"head": {asks("HEAD"), "HEAD /path ", map[string]string{"Idempotency-Key": ""}},
		"json": {
			asks("POST", body(map[string]any{"b": []any{int64(1), "<x>"}, "a": nil})),
			`POST /path {"a":null,"b":[1,"<x>"]}`,
			map[string]string{"Content-Type": "application/json", "Idempotency-Key": "the-key"},
		},
		"text": {
			asks("PUT", body("plain\n")), "PUT /path plain\n",
			map[string]string{"Content-Type": "text/plain; charset=utf-8", "Idempotency-Key": "the-key"},
		},
		"its own": {
			asks("DELETE", headers(map[string]string{
				"idempotency-key": "own", "content-type": "text/csv", "user-agent": "me",
			}), body("x")), "DELETE /path x",
			map[string]string{"Content-Type": "text/csv", "Idempotency-Key": "own", "User-Agent": "me"},
		},
		"an empty text": {asks("POST", body("")), "POST /path ", nil},
		"an address":    {asks("", to("http://[2606:4700:4700::1111]/path")), "GET /path ", nil},
	} {
		out := s.client.Do(t.Context(), c.ask)
		if brief(out) != "completed 200" || out.Took <= 0 {
			t.Errorf("%s: %+v %+v", name, out, out.Failed)
		}
		if seen := s.requests(); !slices.Equal(seen, []string{c.want}) {
			t.Errorf("%s: %q", name, seen)
		}
		for h, want := range c.headers {
			if v := got.Header.Get(h); v != want {
				t.Errorf("%s: %s is %q, want %q", name, h, v, want)
			}
		}
	}
}

// A key is the same for all tries of a step, and for no other step.
func TestKeys(t *testing.T) {
	keys := map[string]bool{}
	for _, k := range []string{
		Key("run", 1, "a"), Key("run", 1, "a"), Key("run", 2, "a"), Key("run", 1, "a[1].b"), Key("other", 1, "a"),
		Key("run", 12, "a"),
	} {
		keys[k] = true
	}
	if len(keys) != 5 {
		t.Errorf("keys %v", keys)
	}
}

func TestAnswers(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("X-Many", "one")
		w.Header().Add("X-Many", "two")
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, "http://b.test/there", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/path", http.StatusTemporaryRedirect)
		case "/for-ever":
			http.Redirect(w, r, "/for-ever", http.StatusFound)
		case "/private":
			http.Redirect(w, r, "http://127.0.0.1/", http.StatusFound)
		case "/failing":
			http.Error(w, "no such thing", http.StatusNotFound)
		case "/binary":
			_, _ = w.Write([]byte{0xff, 0xfe, 0})
		case "/latin":
			w.Header().Set("Content-Type", "text/plain; charset=iso-8859-1")
			_, _ = w.Write([]byte("caf\xe9"))
		case "/coded":
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "x")
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		case "/bomb", "/fits":
			n := most
			if r.URL.Path == "/bomb" {
				n = 50 * most
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.Copy(z, io.LimitReader(zeros{}, int64(n)))
			_ = z.Close()
		case "/huge":
			_, _ = io.Copy(w, io.LimitReader(zeros{}, most+1))
		case "/no-gzip":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, "plain")
		default:
			_, _ = io.WriteString(w, "hello")
		}
	})
	for _, c := range []struct {
		path string
		ok   []int
		want string
	}{
		{"/path", nil, "completed 200"},
		{"/path", []int{201}, "failed http_status"},
		{"/empty", nil, "completed 204"},
		{"/failing", nil, "failed http_status"},
		{"/failing", []int{200, 404}, "completed 404"},
		{"/here", nil, "completed 200"},
		{"/here", []int{307}, "completed 307"},
		{"/away", nil, "failed http_refused"},
		{"/away", []int{302}, "completed 302"},
		{"/private", nil, "failed http_refused"},
		{"/for-ever", nil, "failed http_refused"},
		{"/binary", nil, "failed not_text"},
		{"/latin", nil, "failed not_text"},
		{"/coded", nil, "failed not_text"},
		{"/fits", nil, "completed 200"},
		{"/bomb", nil, "failed output_too_large"},
		{"/huge", nil, "failed output_too_large"},
		{"/no-gzip", nil, "failed http_unanswered"},
	} {
		out := s.client.Do(t.Context(), asks("", to("http://a.test"+c.path), func(r *Request) { r.Step.OK = c.ok }))
		if got := brief(out); got != c.want {
			t.Errorf("%s: %s, want %s: %+v", c.path, got, c.want, out.Failed)
		}
		switch c.path {
		case "/path":
			if c.ok == nil && (out.Output["body"] != "hello" ||
				out.Output["headers"].(map[string]string)["x-many"] != "one, two") {
				t.Errorf("%s: %+v", c.path, out.Output)
			}
		case "/failing":
			if c.ok == nil && !strings.Contains(out.Failed.Message, "404 Not Found: no such thing") {
				t.Errorf("%s: %s", c.path, out.Failed.Message)
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What is not allowed never reaches the network.
func TestRefusals(t *testing.T) {
	s := newSite(t, func(http.ResponseWriter, *http.Request) {})
	many := map[string]string{}
	for i := range 70 {
		many[fmt.Sprint("x-", i)] = strings.Repeat("x", 1000)
	}
	for name, r := range map[string]Request{
		"another host":      asks("", to("http://c.test/")),
		"another port":      asks("", to("http://a.test:81/")),
		"a private address": asks("", to("http://private.test/")),
		"loopback":          asks("", to("http://127.0.0.1/")),
		"loopback of IPv6":  asks("", to("http://[::1]/")),
		"a mapped address":  asks("", to("http://[::ffff:127.0.0.1]/")),
		"a NAT64 address":   asks("", to("http://[64:ff9b::7f00:1]/")),
		"a zone":            asks("", to("http://[fe80::1%25eth0]/")),
		"a number":          asks("", to("http://2130706433/")),
		"a password":        asks("", to("http://me:secret@a.test/")),
		"a scheme":          asks("", to("file:///etc/passwd")),
		"no URL":            asks("", to("a.test/path")),
		"odd text":          asks("", to("http://a.test/\x7f")),
		"a long URL":        asks("", to("http://a.test/"+strings.Repeat("x", maxURL))),
		"a line break":      asks("", headers(map[string]string{"x": "a\r\nb: c"})),
		"an odd name":       asks("", headers(map[string]string{"x y": "a"})),
		"another Host":      asks("", headers(map[string]string{"host": "b.test"})),
		"a length":          asks("POST", headers(map[string]string{"content-length": "3"})),
		"an encoding":       asks("", headers(map[string]string{"accept-encoding": "br"})),
		"twice":             asks("", headers(map[string]string{"x-a": "1", "X-A": "2"})),
		"many headers":      asks("", headers(many)),
		"a large body":      asks("POST", body(strings.Repeat("x", MaxBody+1))),
		"a large value":     asks("POST", body([]any{strings.Repeat("x", MaxBody)})),
		"an odd value":      asks("POST", body(map[string]any{"x": func() {}})),
	} {
		out := s.client.Do(t.Context(), r)
		if brief(out) != "failed http_refused" || out.Failed.Message == "" || len(out.Failed.Message) > 1000 {
			t.Errorf("%s: %s: %+v", name, brief(out), out.Failed)
		}
	}
	if seen := s.requests(); len(seen) > 0 {
		t.Errorf("the server got %q", seen)
	}
}

// line is a server that answers what comes over a connection as it is told, and counts requests.
func line(t *testing.T, answer func(net.Conn)) (client *Client, count func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	n := 0
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				mu.Lock()
				n++
				mu.Unlock()
				answer(conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return clientOf(t, (&net.Dialer{}).DialContext, l.Addr().String()), func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// took takes a request to the end of its headers.
func took(conn net.Conn) {
	var all []byte
	b := make([]byte, 1024)
	for !bytes.Contains(all, []byte("\r\n\r\n")) {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		all = append(all, b[:n]...)
	}
}

// Whether a request that has no whole answer may be repeated is said; it is sent once.
func TestNoAnswer(t *testing.T) {
	for name, answer := range map[string]func(net.Conn){
		"closed at once":       func(net.Conn) {},
		"closed when it came":  took,
		"reset":                func(c net.Conn) { took(c); _ = c.(*net.TCPConn).SetLinger(0) },
		"garbage":              func(c net.Conn) { took(c); _, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n") },
		"half of the headers":  func(c net.Conn) { took(c); _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-") },
		"half of the body":     func(c net.Conn) { took(c); _, _ = io.WriteString(c, length+"x") },
		"half of a chunk":      func(c net.Conn) { took(c); _, _ = io.WriteString(c, chunk+"5\r\nab") },
		"headers without end":  func(c net.Conn) { took(c); _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+endless) },
		"nothing for too long": func(c net.Conn) { took(c); _, _ = io.Copy(io.Discard, c) },
		"a body for too long": func(c net.Conn) {
			took(c)
			_, _ = io.WriteString(c, chunk)
			_, _ = io.Copy(io.Discard, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, count := line(t, answer)
			late := strings.Contains(name, "too long")
			again := "failed http_unanswered"
			if late {
				again = "failed timeout"
			}
			var group sync.WaitGroup
			sent := 0
			for _, c := range []struct {
				ask  Request
				want string
			}{
				{asks("GET"), again},
				{asks("POST"), "unknown outcome_unknown"},
				{asks("POST", body("x")), "unknown outcome_unknown"},
				{asks("DELETE", safe(workflow.Idempotent)), again},
				{asks("GET", safe(workflow.AtMostOnce)), "unknown outcome_unknown"},
				{asks("POST", safe(workflow.Pure)), again},
			} {
				if late {
					c.ask.Timeout = 3 * time.Second // which is enough to send it, even on a machine that is busy
				}
				sent++
				group.Go(func() {
					out := client.Do(t.Context(), c.ask)
					if brief(out) != c.want || !strings.Contains(out.Failed.Message, "a.test") {
						t.Errorf("%s, safety %q: %s, want %s: %+v", c.ask.Step.Method, c.ask.Step.Safety, brief(out),
							c.want, out.Failed)
					}
				})
			}
			group.Wait()
			if n := count(); n != sent {
				t.Errorf("%d requests were sent %d times", sent, n)
			}
		})
	}
}

const (
	chunk  = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	length = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
)

var endless = "X-Long: " + strings.Repeat("x", 1<<20)

// A request over a connection that was used before is sent again by the library when the connection ends.
func TestEveryRequestHasItsConnection(t *testing.T) {
	n := 0
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		if n++; n%2 == 0 {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		}
	})
	for _, want := range []string{"completed 200", "unknown outcome_unknown", "completed 200"} {
		if got := brief(s.client.Do(t.Context(), asks("POST", body("x")))); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if seen := s.requests(); len(seen) != 3 {
		t.Errorf("3 requests came as %q", seen)
	}
}

// Before a connection is there nothing was sent, whatever the request is.
func TestNothingSent(t *testing.T) {
	refuses := clientOf(t, func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("connection refused")
	}, "")
	stalls := clientOf(t, func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}, "")
	soon := func(r *Request) { r.Timeout = 20 * time.Millisecond }
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx    context.Context
		client *Client
		ask    Request
		want   string
	}{
		"refused":          {t.Context(), refuses, asks("POST"), "failed http_unreachable"},
		"refused with TLS": {t.Context(), refuses, asks("POST", to("https://a.test")), "failed http_unreachable"},
		"stalled":          {t.Context(), stalls, asks("POST", soon), "failed timeout"},
		"cancelled":        {over, stalls, asks("POST"), "cancelled cancelled"},
	} {
		if out := c.client.Do(c.ctx, c.ask); brief(out) != c.want {
			t.Errorf("%s: %s, want %s: %+v", name, brief(out), c.want, out.Failed)
		}
	}
	plain := newSite(t, func(http.ResponseWriter, *http.Request) {})
	out := plain.client.Do(t.Context(), asks("POST", to("https://a.test")))
	if brief(out) != "failed http_unreachable" {
		t.Errorf("no TLS: %s: %+v", brief(out), out.Failed)
	}
}

// A request that is cancelled when it was sent has an outcome that nobody knows, unless it may be repeated.
func TestCancelled(t *testing.T) {
	for _, c := range []struct {
		ask  Request
		want string
	}{{asks("GET"), "cancelled cancelled"}, {asks("POST"), "unknown outcome_unknown"}} {
		ctx, cancel := context.WithCancel(t.Context())
		client, _ := line(t, func(conn net.Conn) { took(conn); cancel(); _, _ = io.Copy(io.Discard, conn) })
		if out := client.Do(ctx, c.ask); brief(out) != c.want {
			t.Errorf("%s: %s, want %s: %+v", c.ask.Step.Method, brief(out), c.want, out.Failed)
		}
	}
}

// After a change of owners a request that may be repeated is made again, and another one is not.
func TestAgain(t *testing.T) {
	s := newSite(t, func(http.ResponseWriter, *http.Request) {})
	again := func(r *Request) { r.Again = true }
	for _, c := range []struct {
		ask  Request
		want string
		sent int
	}{
		{asks("GET", again), "completed 200", 1},
		{asks("POST", again), "unknown outcome_unknown", 0},
		{asks("POST", again, safe(workflow.Idempotent)), "completed 200", 1},
		{asks("GET", again, safe(workflow.AtMostOnce)), "unknown outcome_unknown", 0},
	} {
		out := s.client.Do(t.Context(), c.ask)
		if seen := s.requests(); brief(out) != c.want || len(seen) != c.sent {
			t.Errorf("%s, safety %q: %s, sent %q", c.ask.Step.Method, c.ask.Step.Safety, brief(out), seen)
		}
	}
}

// No secret comes back, from wherever a server repeats it.
func TestSecretsAreRedacted(t *testing.T) {
	const secret = "s3cret/value"
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		given := r.Header.Get("X-Key")
		w.Header().Set("X-Echo", given)
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, "http://b.test/"+given, http.StatusFound)
		case "/failing":
			http.Error(w, "your key "+given, http.StatusForbidden)
		default:
			_, _ = io.WriteString(w, strings.Repeat("x", 1000)+given)
		}
	})
	for _, path := range []string{"/", "/away", "/failing", "/\x7f" + secret} {
		out := s.client.Do(t.Context(), asks("", to("http://a.test"+path), headers(map[string]string{"x-key": secret}),
			func(r *Request) { r.Secrets = []string{secret} }))
		if said := fmt.Sprintf("%+v %+v", out, out.Failed); strings.Contains(said, secret) {
			t.Errorf("%s: %s", path, said)
		}
	}
	out := s.client.Do(t.Context(), asks("", headers(map[string]string{"x-key": secret + "\n"})))
	if out.Failed == nil || strings.Contains(out.Failed.Message, secret) {
		t.Errorf("a bad header: %+v", out.Failed)
	}
}

func TestSafety(t *testing.T) {
	got := map[string]string{}
	for _, m := range []string{"", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		got[m] = string(Safety(&workflow.HTTP{Method: m}))
		if s := Safety(&workflow.HTTP{Method: m, Safety: workflow.Pure}); s != workflow.Pure {
			t.Errorf("%s that is pure is %s", m, s)
		}
	}
	want := map[string]string{
		"": "idempotent", "GET": "idempotent", "HEAD": "idempotent", "POST": "at_most_once", "PUT": "at_most_once",
		"PATCH": "at_most_once", "DELETE": "at_most_once",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if out := (&try{}).unknown("why"); out.State != step.Unknown {
		t.Errorf("got %v", out.State)
	}
}
