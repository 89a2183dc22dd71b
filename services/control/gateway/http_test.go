package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// A body is read when its type is JSON's own, and no type that a page may send without a preflight request is.
func TestContentTypes(t *testing.T) {
	s := serve(t, deps(planetest.New(t, hello())))
	for kind, want := range map[string]int{
		"application/json":                        200,
		"APPLICATION/JSON ; charset=\"utf-8\"":    200,
		"application/json;v=1;odd":                200,
		"application/vnd.api+json":                415,
		"application/merge-patch+json; a=b":       415,
		"text/application/json":                   415,
		"text/plain":                              415,
		"text/plain; application/json":            415,
		"text/plain;x=application/json":           415,
		"application/json, text/plain":            415,
		"application/jsonp":                       415,
		"application/json-seq":                    415,
		"application/+json":                       415,
		"application/x-www-form-urlencoded":       415,
		"multipart/form-data; boundary=+json":     415,
		"application/json/x":                      415,
		"xapplication/json":                       415,
		"application/jsonx+json;application/json": 415,
		"": 415,
	} {
		body := `{"message":"hi"}`
		status, _, got := raw(t, s,
			fmt.Sprintf("POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer op\n"+
				"Content-Type: %s\nContent-Length: %d\n\n%s", kind, len(body), body))
		if status != want {
			t.Errorf("%q: %d, want %d: %s", kind, status, want, got)
		}
	}
}

const preflight = "OPTIONS /agents/shell/i HTTP/1.1\nHost: localhost\nOrigin: https://console.example\n" +
	"Access-Control-Request-Method: POST\nAccess-Control-Request-Headers: authorization,content-type\n\n"

// A page of an allowed origin may ask what it may send, without a token, and read every answer.
func TestAllowedOrigin(t *testing.T) {
	s := serve(t, deps(planetest.New(t, hello())))
	status, head, body := raw(t, s, preflight)
	if status != 204 || body != "" || head.Get("Access-Control-Allow-Origin") != "https://console.example" {
		t.Errorf("%d %v %q", status, head, body)
	}
	for _, name := range []string{
		"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Accept", "If-Match", "Range",
		"X-Request-Id", "X-Pawl-Tenant", "Pawl-When-Busy", "Pawl-On-Behalf-Of",
	} {
		if !slices.Contains(strings.Split(head.Get("Access-Control-Allow-Headers"), ", "), name) {
			t.Errorf("a page may not send %s: %v", name, head)
		}
	}
	for _, name := range []string{"GET", "POST", "PUT", "DELETE"} {
		if !slices.Contains(strings.Split(head.Get("Access-Control-Allow-Methods"), ", "), name) {
			t.Errorf("a page may not use %s: %v", name, head)
		}
	}
	for name, request := range map[string]string{
		"a prompt": with("POST /agents/shell/i HTTP/1.1\nOrigin: https://console.example", `{"message":"hi"}`),
		"a wrong token": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nOrigin: " +
			"https://console.example\nContent-Length: 0\n\n",
		"an API path": "GET /v1/nowhere HTTP/1.1\nOrigin: https://console.example\n" + get,
	} {
		_, head, _ := raw(t, s, request)
		exposed := strings.Split(head.Get("Access-Control-Expose-Headers"), ", ")
		if head.Get("Access-Control-Allow-Origin") != "https://console.example" || !slices.Contains(exposed,
			"Pawl-Session") ||
			!slices.Contains(exposed, "Pawl-Submission") || !slices.Contains(exposed, "Link") ||
			head.Get("Vary") != "Origin" {
			t.Errorf("%s: %v", name, head)
		}
		if head.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: a browser may add credentials of its own: %v", name, head)
		}
	}
}

// Nobody else may: neither a page of the server's own origin nor of another one is told that it is allowed, and what is
// no preflight request is a request like any other.
func TestOriginThatIsNotAllowed(t *testing.T) {
	s := serve(t, deps(planetest.New(t, nil)))
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"another origin": {strings.Replace(preflight, "console", "evil", 1), 403},
		"the server's":   {strings.Replace(preflight, "https://console.example", "http://localhost", 1), 401},
		"no preflight":   {strings.Replace(preflight, "Access-Control-Request-Method: POST\n", "", 1), 401},
		"two origins":    {strings.Replace(preflight, "Origin:", "Origin: https://evil.example\nOrigin:", 1), 403},
	} {
		status, head, _ := raw(t, s, c.request)
		if status != c.status || head.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("%s: %d %v", name, status, head)
		}
	}
	d := deps(planetest.New(t, nil))
	d.Origins = nil
	if status, head, _ := raw(t, serve(t, d), preflight); status != 403 ||
		head.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without --origin: %d %v", status, head)
	}
}

// An answer names its session and submission, whatever comes of it, and where their events can be read: all of them.
func TestAnswersNameTheirSubmission(t *testing.T) {
	p := planetest.New(t, hello())
	d := deps(p)
	d.API = apiOf(t, p, d)
	s := serve(t, d)
	if status, body := prompt(t, s, "first"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	broken := serve(t, deps(planetest.New(t, failing("no"))))
	for name, c := range map[string]struct {
		server *httptest.Server
		accept string
		status int
	}{
		"an answer": {s, "*/*", 200}, "a stream": {s, "text/event-stream", 200}, "a failure": {broken, "*/*", 500},
	} {
		status, head, _ := raw(t, c.server, with("POST /agents/shell/i HTTP/1.1\nAccept: "+c.accept,
			`{"message":"hi"}`))
		uuid := regexp.MustCompile(`^[0-9a-f-]{36}$`)
		if status != c.status || !uuid.MatchString(head.Get("Pawl-Session")) ||
			!uuid.MatchString(head.Get("Pawl-Submission")) {
			t.Fatalf("%s: %d %v", name, status, head)
		}
		link := regexp.MustCompile(`^<(/v1/sessions/(.*)/events\?after=\d+)>; rel="monitor"; type="text/event-stream"$`)
		at := link.FindStringSubmatch(head.Get("Link"))
		if at == nil || at[2] != head.Get("Pawl-Session") {
			t.Fatalf("%s: the link is %q", name, head.Get("Link"))
		}
		if c.server == broken {
			continue
		}
		first := firstEvent(t, s, at[1])
		if !strings.Contains(first, head.Get("Pawl-Submission")) || !strings.HasPrefix(first, "event: started\n") {
			t.Errorf("%s: the link's first event is %q", name, first)
		}
	}
}

// firstEvent reads the first event of a stream, and checks how streams of the API are sent.
func firstEvent(t *testing.T, s *httptest.Server, path string) string {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer op")
	r.Header.Set("Accept", "text/event-stream")
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // it is left in the middle
	if h := res.Header; h.Get("X-Accel-Buffering") != "no" || h.Get("Cache-Control") != "no-cache, no-transform" {
		t.Errorf("%v", h)
	}
	var block strings.Builder
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && lines.Text() != "" {
		block.WriteString(lines.Text() + "\n")
	}
	return block.String()
}

// unread fails the test when it is read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("a body was read")
	return 0, io.EOF
}

// What nobody has authenticated, or may not prompt, has its body left where it is.
func TestBodyIsReadAfterAuthentication(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"no token":      func(r *http.Request) { r.Header.Del("Authorization") },
		"a wrong token": func(r *http.Request) { r.Header.Set("Authorization", "Bearer nobody") },
		"another's":     func(r *http.Request) { r.Header.Set("Authorization", "Bearer other") },
		"a wrong host":  func(r *http.Request) { r.Host = "evil.example" },
		"a wrong page":  func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"a wrong type":  func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
	} {
		r := request(t.Context())
		r.Body = io.NopCloser(unread{t})
		change(r)
		w := httptest.NewRecorder()
		gateway.New(deps(planetest.New(t, nil))).ServeHTTP(w, r)
		if w.Code < 400 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
}

// Who waits to be told that its body is wanted is told so with a token, and gets the answer at once without.
func TestExpectContinue(t *testing.T) {
	s := serve(t, deps(planetest.New(t, hello())))
	for token, want := range map[string]string{"op": "HTTP/1.1 100 Continue", "nobody": "HTTP/1.1 401 Unauthorized"} {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(conn,
			"POST /agents/shell/i HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+token+
				"\r\nContent-Type: application/json\r\nContent-Length: 16\r\nExpect: 100-continue\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		got, err := textproto.NewReader(bufio.NewReader(conn)).ReadLine()
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", token, got, err, want)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Whoever is refused before its body has come is answered at once, and its connection ends.
func TestRefusalsWaitForNoBody(t *testing.T) {
	s := serve(t, deps(planetest.New(t, nil)))
	for name, headers := range map[string]string{
		"no token":   "Host: localhost",
		"host":       "Host: evil.example\nAuthorization: Bearer op",
		"page":       "Host: localhost\nOrigin: https://evil.example\nAuthorization: Bearer op",
		"probe":      "Host: localhost",
		"big":        "Host: localhost\nAuthorization: Bearer nobody",
		"no content": "Host: localhost\nAuthorization: Bearer nobody\nExpect: 100-continue",
	} {
		path := "/agents/shell/i"
		if name == "probe" {
			path = "/healthz"
		}
		begun := time.Now()
		status, _, body := raw(t, s,
			"POST "+path+" HTTP/1.1\n"+headers+"\nContent-Type: application/json\nContent-Length: 100\n\n")
		if took := time.Since(begun); status < 400 || took > 2*time.Second {
			t.Errorf("%s: %d after %s: %s", name, status, took, body)
		}
	}
}

// Whoever closes its half of the connection, and waits, gets no answer that says that all is well.
func TestHalfClosedClients(t *testing.T) {
	f := withFlows(t, nil)
	idle := serve(t, deps(planetest.New(t, nil))) // nothing settles
	for name, c := range map[string]struct {
		at      *httptest.Server
		request string
	}{
		"a prompt": {idle, with("POST /agents/shell/i HTTP/1.1", `{"message":"hi"}`)},
		"a stream": {idle, with("POST /agents/shell/i HTTP/1.1\nAccept: text/event-stream", `{"message":"hi"}`)},
		"a run":    {f.Server, with("POST /workflows/slow?wait=result HTTP/1.1", `{}`)},
	} {
		conn, err := net.Dial("tcp", c.at.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(conn, strings.ReplaceAll(c.request, "\n", "\r\n"))
		if tcp, ok := conn.(*net.TCPConn); err != nil || !ok || tcp.CloseWrite() != nil {
			t.Fatal("not closed", err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		var body []byte
		if err == nil {
			body, err = io.ReadAll(res.Body)
			_ = res.Body.Close()
		}
		_ = conn.Close()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v %s, %v", name, res, body, err)
		}
	}
}

// panicking is a Prompter that panics.
type panicking struct{ gateway.Prompter }

// Prompt implements gateway.Prompter.
func (panicking) Prompt(context.Context, submission.Input) (*submission.Following, error) {
	panic("password=hunter2")
}

// panickingAPI panics after it has begun to answer.
type panickingAPI struct{ gateway.API }

// ServeHTTP implements gateway.API.
func (panickingAPI) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "begun")
	_ = http.NewResponseController(w).Flush()
	panic("password=hunter2")
}

// A panic in a request is an error of that request, and is logged once with its stack. A stream that has begun is cut
// off, so that nobody takes it for whole.
func TestPanics(t *testing.T) {
	var log bytes.Buffer
	d := deps(planetest.New(t, nil))
	d.Service, d.API, d.Log = panicking{}, panickingAPI{}, slog.New(slog.NewTextHandler(&log, nil))
	s := serve(t, d)
	status, body := prompt(t, s, "hi")
	if status != 500 || !strings.Contains(body, `"internal_error"`) || strings.Contains(body, "hunter2") {
		t.Errorf("%d %s", status, body)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/sessions/x/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer op")
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); res.StatusCode != 200 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d %q, %v", res.StatusCode, b, err)
	}
	_ = res.Body.Close()
	s.Close() // no request is under way any more
	if out := log.String(); strings.Count(out, "level=ERROR") != 2 || strings.Count(out, "gateway_test.panicking") < 2 {
		t.Errorf("log %s", out)
	}
}
