package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/flowtest"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var update = flag.Bool("update", false, "write the golden files")

// tokens knows a few secrets by heart.
type tokens map[string]auth.Principal

// Authenticate implements auth.Authenticator.
func (t tokens) Authenticate(_ context.Context, secret string) (auth.Principal, error) {
	if secret == "broken" {
		return auth.Principal{}, errors.New("the database is on fire")
	}
	p, ok := t[secret]
	if !ok {
		return auth.Principal{}, auth.ErrUnauthenticated
	}
	if p.Tenant == "" {
		p.Tenant = session.DefaultTenant
	}
	return p, nil
}

// As implements auth.Authenticator.
func (tokens) As(_ context.Context, p auth.Principal, name string) (auth.Principal, error) {
	if name != "" && name != p.Tenant && p.Kind != auth.Operator {
		return auth.Principal{}, auth.ErrForbidden
	}
	return p, nil
}

// Glance implements auth.Guard.
func (tokens) Glance(context.Context, string) error { return nil }

var known = tokens{
	"op":     {Kind: auth.Operator},
	"shell":  {Kind: auth.Client, Role: auth.User, Limits: auth.Limits{Agents: []string{"shell"}}},
	"other":  {Kind: auth.Client, Role: auth.User, Limits: auth.Limits{Agents: []string{"other"}}},
	"all":    {Kind: auth.Client, Role: auth.User},
	"viewer": {Kind: auth.Client, Role: auth.Viewer},
	"admin":  {Kind: auth.Client, Role: auth.Admin},
	"runner": {Kind: auth.Client, Role: auth.Admin, Limits: auth.Limits{
		Agents: []string{"shell"}, Workflows: []string{"fail"},
	}},
	"elsewhere": {Kind: auth.Client, Role: auth.User, Tenant: "elsewhere"},
	"executor":  {Kind: auth.Executor, Executor: "e"},
}

// hidden is an agent that HTTP does not offer.
func hidden() agent.Definition {
	d := agent.Shell()
	d.Name, d.Expose = "hidden", []agent.Surface{agent.WebSocket}
	return d
}

func deps(p *planetest.Plane) gateway.Deps {
	return gateway.Deps{
		Agents: p.Agents, Service: p.Submissions, Auth: known, Hosts: []string{"pawl.example:443"}, Origins: []string{"https://console.example"},
		Models: offlineModels{}, Log: slog.New(slog.DiscardHandler),
	}
}

// apiOf is /v1 of a plane.
func apiOf(t *testing.T, p *planetest.Plane, d gateway.Deps) gateway.API {
	t.Helper()
	stopping := d.Stopping
	if stopping == nil {
		stopping = t.Context()
	}
	return transcode.New(p.Serve(t, known, d.Log), stopping, d.Log)
}

// offlineModels resolves offline models.
type offlineModels struct{}

func (offlineModels) Model(ref model.Ref) (model.Model, error) {
	return offline.Open(model.Endpoint{}, ref.ID)
}

// hello answers everything.
func hello() model.Model { return modeltest.Always(modeltest.Say("Hello")) }

// failing is a model that fails at once.
func failing(text string) model.Model {
	return modeltest.Always(modeltest.Fail(&model.Error{Kind: model.KindFailed, Text: text}))
}

func serve(t *testing.T, d gateway.Deps) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(gateway.New(d))
	t.Cleanup(s.Close)
	return s
}

// raw sends a request as it is written and returns the response.
func raw(t *testing.T, s *httptest.Server, request string) (status int, head http.Header, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // read to its end
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(b)
}

// with is a request with a JSON body.
func with(headers, body string) string {
	return fmt.Sprintf("%s\nHost: localhost\nAuthorization: Bearer op\nContent-Type: "+
		"application/json\nContent-Length: %d\n\n%s", headers, len(body), body)
}

const get = "Host: localhost\nAuthorization: Bearer op\n\n"

// requests are told apart by the first rule that they break; rules are in the order in which they are checked.
var requests = map[string]string{
	"prompt": with("POST /agents/shell/i HTTP/1.1", `{"message":"hi"}`),
	"prompt_extra_keys": with("POST /agents/shell/i HTTP/1.1",
		`{"Message":1,"message":"","session":" pad ","x":null}`),
	"prompt_query_is_ignored": with("POST /agents/shell/i?wait=foo HTTP/1.1", `{"message":"hi"}`),
	"prompt_encoded_slash":    with("POST /agents/shell/a%2Fb HTTP/1.1", `{"message":"hi"}`),
	"prompt_bom":              with("POST /agents/shell/i HTTP/1.1", "\uFEFF"+`{"message":"hi"}`),
	"host_foreign":            "POST /agents/shell/i HTTP/1.1\nHost: evil.example\nAuthorization: Bearer op\n\n",
	"host_foreign_healthz":    "GET /healthz HTTP/1.1\nHost: evil.example\n\n",
	"host_allowed":            "GET /healthz HTTP/1.1\nHost: PAWL.example.:8080\n\n",
	"host_is_an_address":      "GET /healthz HTTP/1.1\nHost: 10.1.2.3:3000\n\n",
	"origin_foreign": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nOrigin: " +
		"https://evil.example\nAuthorization: Bearer op\n\n",
	"origin_null": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nOrigin: null\nAuthorization: " +
		"Bearer op\n\n",
	"origin_second_is_foreign": "GET /healthz HTTP/1.1\nHost: localhost\nOrigin: https://console.example\nOrigin: " +
		"https://evil.example\n\n",
	"origin_allowed":          "GET /healthz HTTP/1.1\nHost: localhost\nOrigin: https://console.example\n\n",
	"origin_same":             "GET /healthz HTTP/1.1\nHost: localhost:3000\nOrigin: http://localhost:3000\n\n",
	"origin_other_port":       "GET /healthz HTTP/1.1\nHost: localhost:3000\nOrigin: http://localhost:3001\n\n",
	"healthz":                 "GET /healthz HTTP/1.1\nHost: localhost\n\n",
	"healthz_post":            "POST /healthz HTTP/1.1\nHost: localhost\n\n",
	"token_none":              "POST /agents/shell/i HTTP/1.1\nHost: localhost\n\n",
	"token_none_get":          "GET /agents/shell/i HTTP/1.1\nHost: localhost\n\n",
	"token_none_elsewhere":    "GET /nowhere HTTP/1.1\nHost: localhost\n\n",
	"token_wrong":             "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer nobody\n\n",
	"token_basic":             "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Basic op\n\n",
	"token_cannot_be_checked": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer broken\n\n",
	"token_of_another_agent":  "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer other\n\n",
	"token_of_an_executor":    "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer executor\n\n",
	"method_get":              "GET /agents/nope/i HTTP/1.1\n" + get,
	"method_options":          "OPTIONS /agents/shell/i HTTP/1.1\n" + get,
	"method_head":             "HEAD /agents/shell/i HTTP/1.1\n" + get,
	"path_blank_agent":        with("POST /agents/%20/i HTTP/1.1", `{`),
	"path_blank_instance":     with("POST /agents/nope/%09 HTTP/1.1", `{`),
	"path_no_instance":        with("POST /agents/shell HTTP/1.1", `{"message":"hi"}`),
	"path_trailing_slash":     with("POST /agents/shell/i/ HTTP/1.1", `{"message":"hi"}`),
	"path_empty_segment":      with("POST /agents//i HTTP/1.1", `{"message":"hi"}`),
	"path_doubled_slash":      with("POST //agents/shell/i HTTP/1.1", `{"message":"hi"}`),
	"path_dots":               with("POST /agents/shell/../i HTTP/1.1", `{"message":"hi"}`),
	"path_root":               "GET / HTTP/1.1\n" + get,
	"agent_unknown":           with("POST /agents/no%3Cpe%3E/i HTTP/1.1", `{`),
	"agent_hidden":            with("POST /agents/hidden/i HTTP/1.1", `{`),
	"body_none":               "POST /agents/shell/i HTTP/1.1\n" + get,
	"body_empty": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer " +
		"op\nContent-Type: text/plain\nContent-Length: 0\n\n",
	"body_typed_but_not_there": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer " +
		"op\nContent-Type: text/plain\n\n",
	"body_chunked_without_type": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer " +
		"op\nTransfer-Encoding: chunked\n\n2\n{}\n0\n\n",
	"body_form": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer " +
		"op\nContent-Type: text/plain\nContent-Length: 2\n\n{}",
	"body_vendor_json": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer " +
		"op\nContent-Type: application/vnd.api+json\nContent-Length: 2\n\n{}",
	"body_without_type": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer " +
		"op\nContent-Length: 2\n\n{}",
	"body_type_in_capitals": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer " +
		"op\nContent-Type: Application/JSON; charset=utf-8\nContent-Length: 16\n\n{\"message\":\"hi\"}",
	"body_blank":           with("POST /agents/shell/i HTTP/1.1", " \t "),
	"body_cut":             with("POST /agents/shell/i HTTP/1.1", `{"message":`),
	"body_two_values":      with("POST /agents/shell/i HTTP/1.1", `{} {}`),
	"body_null":            with("POST /agents/shell/i HTTP/1.1", `null`),
	"body_array":           with("POST /agents/shell/i HTTP/1.1", `[]`),
	"body_message_missing": with("POST /agents/shell/i HTTP/1.1", `{"MESSAGE":"hi"}`),
	"body_message_null":    with("POST /agents/shell/i HTTP/1.1", `{"message":null}`),
	"body_message_number":  with("POST /agents/shell/i HTTP/1.1", `{"message":"a","message":1}`),
	"session_null":         with("POST /agents/shell/i HTTP/1.1", `{"message":"hi","session":null}`),
	"session_blank":        with("POST /agents/shell/i HTTP/1.1", `{"message":"hi","session":" "}`),
	"session_number":       with("POST /agents/shell/i HTTP/1.1", `{"message":"hi","session":1}`),
	"session_task":         with("POST /agents/shell/i HTTP/1.1", `{"message":"hi","session":"task:1"}`),
	"session_too_long": with("POST /agents/shell/i HTTP/1.1",
		`{"message":"hi","session":"`+strings.Repeat("x", 257)+`"}`),
	"instance_with_a_line_break": with("POST /agents/shell/a%0Ab HTTP/1.1", `{"message":"hi"}`),
	"body_gzip":                  with("POST /agents/shell/i HTTP/1.1\nContent-Encoding: gzip", "\x1f\x8b"),
	"body_identity": with("POST /agents/shell/i HTTP/1.1\nContent-Encoding: identity",
		`{"message":"hi"}`),
	"body_chunked": "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer " +
		"op\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n5\n{\"mes\nb\nsage\":\"hi\"}\n0\n\n",
	"body_two_types":              with("POST /agents/shell/i HTTP/1.1\nContent-Type: text/plain", `{"message":"hi"}`),
	"http_1_0":                    with("POST /agents/shell/i HTTP/1.0", `{"message":"hi"}`),
	"http_1_0_without_a_host":     "GET /healthz HTTP/1.0\n\n",
	"root_without_a_token":        "GET / HTTP/1.1\nHost: localhost\n\n",
	"root_head":                   "HEAD / HTTP/1.1\nHost: localhost\n\n",
	"root_post":                   "POST / HTTP/1.1\nHost: localhost\n\n",
	"healthz_head":                "HEAD /healthz HTTP/1.1\nHost: localhost\n\n",
	"healthz_trailing_slash":      "GET /healthz/ HTTP/1.1\n" + get,
	"api_unknown":                 "GET /v1/nowhere HTTP/1.1\n" + get,
	"api_unknown_without_a_token": "GET /v1/nowhere HTTP/1.1\nHost: localhost\n\n",
	"api_http_1_0_without_a_host": "GET /v1/agents HTTP/1.0\n" + strings.Replace(get, "Host: localhost\n", "", 1),
	"api_of_another_host":         "GET /v1/agents HTTP/1.1\n" + strings.Replace(get, "localhost", "evil.example", 1),
	"watch_is_a_socket":           "GET /v1/watch HTTP/1.1\n" + get,
	"watch_head":                  "HEAD /v1/watch HTTP/1.1\n" + get,
	"watch_post":                  with("POST /v1/watch HTTP/1.1", `{}`),
	"webhook":                     with("POST /agents/shell/i HTTP/1.1\nX-Webhook: true", `{}`),
	"webhook_after_the_body":      with("POST /agents/shell/i HTTP/1.1\nX-Webhook: true", `{`),
	"stream_with_a_malformed_one": with("POST /agents/shell/i HTTP/1.1\nAccept: text/event-stream", `{`),
}

var requestIDs = regexp.MustCompile(`"request_id":"[0-9a-f-]{36}"`)

func TestAnswers(t *testing.T) {
	p := planetest.New(t, modeltest.Always(modeltest.Say("Hello <world>")), hidden())
	d := deps(p)
	d.API = apiOf(t, p, d)
	s := serve(t, d)
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		status, head, body := raw(t, s, requests[name])
		fmt.Fprintf(&out, "%s: %d %s", name, status, head.Get("Content-Type"))
		for _, h := range []string{"Allow", "Www-Authenticate", "Accept-Encoding", "Upgrade"} {
			if v := head.Get(h); v != "" {
				fmt.Fprintf(&out, ", %s: %s", h, v)
			}
		}
		if body != "" && !strings.HasSuffix(body, "\n") {
			t.Errorf("%s: the body does not end its last line: %q", name, body)
		}
		body = requestIDs.ReplaceAllString(body, `"request_id":"…"`)
		fmt.Fprintf(&out, "\n  %s\n", strings.TrimSuffix(body, "\n"))
	}
	golden(t, "answers.txt", out.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTooLarge(t *testing.T) {
	d := deps(planetest.New(t, nil))
	s := serve(t, d)
	status, _, body := raw(t, s, "POST /agents/shell/i HTTP/1.1\nHost: localhost\nAuthorization: Bearer "+
		"op\nContent-Type: application/json\nContent-Length: 33554433\n\n")
	if status != http.StatusRequestEntityTooLarge || !strings.Contains(body, `"payload_too_large"`) {
		t.Errorf("body: %d %s", status, body)
	}
	d.Service = refusing{err: fmt.Errorf("admitting: %w", submission.ErrMessageTooLarge)}
	status, body = prompt(t, serve(t, d), "hi")
	if status != http.StatusRequestEntityTooLarge || !strings.Contains(body, "16 MiB") {
		t.Errorf("message: %d %s", status, body)
	}
	d.Service = refusing{err: errors.New("password=hunter2")}
	status, body = prompt(t, serve(t, d), "hi")
	if status != http.StatusInternalServerError || strings.Contains(body, "hunter2") {
		t.Errorf("internal: %d %s", status, body)
	}
}

// refusing admits nothing.
type refusing struct {
	gateway.Prompter
	err error
}

// Prompt implements gateway.Prompter.
func (r refusing) Prompt(context.Context, submission.Input) (*submission.Following, error) {
	return nil, r.err
}

// prompt sends a prompt and returns the response's status and body.
func prompt(t *testing.T, s *httptest.Server, message string, headers ...string) (int, string) {
	t.Helper()
	status, _, body := raw(t, s, with(strings.Join(append([]string{"POST /agents/shell/i HTTP/1.1"}, headers...),
		"\n"), fmt.Sprintf(`{"message":%q}`, message)))
	return status, body
}

// without is a catalogue after its agents were removed.
type without struct{}

func (without) Get(_, name string) (agent.Definition, error) {
	return agent.Definition{}, agent.Missing(name)
}
func (without) Names(string) []string { return nil }

// What an agent had accepted before it was removed is answered to who repeats the request with its key.
func TestIdempotencyKeyOutlivesItsAgent(t *testing.T) {
	d := deps(planetest.New(t, modeltest.New(modeltest.Say("answer 1"))))
	_, first := prompt(t, serve(t, d), "hi", "Idempotency-Key: k")
	d.Agents = without{}
	s := serve(t, d)
	if status, again := prompt(t, s, "hi", "Idempotency-Key: k"); status != 200 || again != first {
		t.Errorf("first %s, again %d %s", first, status, again)
	}
	d.Service = refusing{err: fmt.Errorf("pinning: %w", agent.Missing("shell"))}
	for _, headers := range [][]string{nil, {"Idempotency-Key: other"}} {
		status, body := prompt(t, serve(t, d), "hi", headers...)
		if status != 404 || !strings.Contains(body, "agent_not_found") || !strings.Contains(body, "agents: none") {
			t.Errorf("%v: %d %s", headers, status, body)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	s := serve(t, deps(planetest.New(t, modeltest.New(modeltest.Say("answer 1"), modeltest.Say("answer 2")))))
	_, first := prompt(t, s, "hi", "Idempotency-Key: k")
	status, again := prompt(t, s, "hi", "Idempotency-Key: k")
	if status != 200 || again != first || !strings.Contains(first, "answer 1") {
		t.Errorf("first %s, again %d %s", first, status, again)
	}
	_, streamed := prompt(t, s, "hi", "Idempotency-Key: k", "Accept: text/event-stream")
	if !strings.Contains(streamed, `"result":{"text":"answer 1"`) {
		t.Errorf("streamed %s", streamed)
	}
	status, conflict := prompt(t, s, "ho", "Idempotency-Key: k")
	if status != 409 || !strings.Contains(conflict, `"type":"idempotency_conflict"`) {
		t.Errorf("conflict %d %s", status, conflict)
	}
	status, long := prompt(t, s, "hi", "Idempotency-Key: "+strings.Repeat("x", 256))
	if status != 400 || !strings.Contains(long, `"type":"invalid_request"`) {
		t.Errorf("too long %d %s", status, long)
	}
}

// What is no text is refused, and nobody is asked something else in its place.
func TestBodyIsUTF8(t *testing.T) {
	s := serve(t, deps(planetest.New(t, modeltest.Always(modeltest.Say("x")))))
	status, _, body := raw(t, s, with("POST /agents/shell/i HTTP/1.1", "{\"message\":\"a\xffb\"}"))
	if status != 400 || !strings.Contains(body, `"type":"invalid_json"`) ||
		!strings.Contains(body, "the body is not UTF-8") {
		t.Errorf("%d %s", status, body)
	}
}

func TestFailureTellsWhyInMeta(t *testing.T) {
	s := serve(t, deps(planetest.New(t, failing("the key is wrong"))))
	status, body := prompt(t, s, "hi")
	want := `{"error":{"type":"internal_error","message":"An internal error occurred.","details":"The server encountered an unexpected error while handling this request.","meta":{"message":"the key is wrong","outcome":"failed","reason":"MODEL_FAILED","submissionId":`
	if status != 500 || !strings.HasPrefix(body, want) {
		t.Errorf("%d %s", status, body)
	}
	status, streamed := prompt(t, s, "hi", "Accept: text/event-stream")
	if status != 200 ||
		!regexp.MustCompile(`(?s)\nevent: idle\n.*\n\nevent: error\nid: 0\ndata: \{"type":"error","instanceId":"i","error":\{"type":"internal_error".*"reason":"MODEL_FAILED".*\}\}\n\n$`).
			MatchString(streamed) {
		t.Errorf("%d %s", status, streamed)
	}
}

func TestStream(t *testing.T) {
	s := serve(t, deps(planetest.New(t, hello())))
	status, head, body := raw(
		t,
		s,
		with(
			"POST /agents/shell/a%2Fb HTTP/1.1\nAccept: application/json, text/event-stream;q=1",
			`{"message":"hi","session":"s"}`,
		),
	)
	if status != 200 || head.Get("Content-Type") != "text/event-stream" || head.Get("Cache-Control") != "no-cache" ||
		head.Get("X-Accel-Buffering") != "no" {
		t.Errorf("%d %v", status, head)
	}
	var types []string
	for block := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		types = append(types, strings.TrimPrefix(strings.SplitN(block, "\n", 2)[0], "event: "))
		if !strings.Contains(block, `"instanceId":"a/b"`) || !strings.Contains(block, `"session":"s"`) {
			t.Errorf("block %s", block)
		}
	}
	want := "operation_start agent_start turn_start turn_request message_start text_delta message_end turn_end turn " +
		"agent_end operation idle"
	if got := strings.Join(types, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// sessionKey is that of the session that request prompts.
var sessionKey = session.Key{Tenant: "default", Agent: "shell", Instance: "i", Name: "default"}

// only is the one submission of that session.
func only(t *testing.T, p *planetest.Plane) submission.Submission {
	t.Helper()
	one, err := p.Store.FindSession(t.Context(), sessionKey)
	if err != nil {
		t.Fatal(err)
	}
	subs, err := p.Store.ListSubmissions(t.Context(), one.ID, 0, 10)
	if err != nil || len(subs) != 1 {
		t.Fatalf("%+v, %v", subs, err)
	}
	return subs[0]
}

// recorder is a response that a test reads while it is written.
type recorder struct {
	header  http.Header
	written chan string
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(int)     {}
func (r *recorder) Flush()              {}
func (r *recorder) Write(b []byte) (int, error) {
	r.written <- string(b)
	return len(b), nil
}

// asServer is a handler that may cut its answer off.
func asServer(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				panic(v)
			}
		}()
		h.ServeHTTP(w, r)
	})
}

// request is a streaming prompt.
func request(ctx context.Context) *http.Request {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/agents/shell/i",
		strings.NewReader(`{"message":"hi"}`))
	r.Header.Set("Authorization", "Bearer op")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Length", "16")
	r.Header.Set("Accept", "text/event-stream")
	return r
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := planetest.New(t, nil) // nothing ever happens
		ctx, leave := context.WithCancel(t.Context())
		w := &recorder{header: http.Header{}, written: make(chan string, 100)}
		done := make(chan struct{})
		go func() { defer close(done); asServer(gateway.New(deps(p))).ServeHTTP(w, request(ctx)) }()
		synctest.Wait()
		if got := <-w.written; got != "" {
			t.Errorf("headers come with %q", got)
		}
		time.Sleep(14 * time.Second)
		synctest.Wait()
		if len(w.written) != 0 {
			t.Errorf("%q after 14 s", <-w.written)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if len(w.written) != 3 {
			t.Errorf("%d heartbeats in 45 s", len(w.written))
		}
		for range len(w.written) {
			if got := <-w.written; got != ": heartbeat\n\n" {
				t.Errorf("%q", got)
			}
		}
		leave()
		<-done
	})
}

// A client that leaves ends its stream, not the work.
func TestClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reply := modeltest.Say("Hello")
		reply[0].Wait = time.Minute
		p := planetest.New(t, modeltest.New(reply))
		ctx, leave := context.WithCancel(t.Context())
		w := &recorder{header: http.Header{}, written: make(chan string, 100)}
		done := make(chan struct{})
		go func() { defer close(done); asServer(gateway.New(deps(p))).ServeHTTP(w, request(ctx)) }()
		synctest.Wait()
		leave()
		<-done
		time.Sleep(time.Minute)
		synctest.Wait()
		if sub := only(t, p); sub.Outcome != lane.Completed {
			t.Errorf("%+v", sub)
		}
	})
}

// A reader that takes nothing slows nobody: the submission settles while the first frame still waits.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deltas := slices.Repeat([]string{"x"}, 10_000)
		p := planetest.New(t, modeltest.New(modeltest.Say(append(deltas, "!")...)))
		w := &recorder{header: http.Header{}, written: make(chan string)}
		done := make(chan struct{})
		go func() { defer close(done); asServer(gateway.New(deps(p))).ServeHTTP(w, request(t.Context())) }()
		synctest.Wait()
		if sub := only(t, p); sub.Outcome != lane.Completed {
			t.Fatalf("the reader holds up the submission: %+v", sub)
		}
		texts := 0
		for open := true; open; {
			select {
			case frames := <-w.written:
				for _, m := range regexp.MustCompile(`"type":"text_delta".*"text":"(.*)"}`).FindAllStringSubmatch(frames, -1) {
					texts += len(m[1])
				}
			case <-done:
				open = false
			}
		}
		if texts != 10_000+1 {
			t.Errorf("%d bytes of text", texts)
		}
	})
}

func TestServerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := planetest.New(t, nil)
		d := deps(p)
		stopping, stop := context.WithCancel(t.Context())
		d.Stopping = stopping
		w := &recorder{header: http.Header{}, written: make(chan string, 100)}
		sync := httptest.NewRecorder()
		done := make(chan struct{}, 2)
		go func() { asServer(gateway.New(d)).ServeHTTP(w, request(t.Context())); done <- struct{}{} }()
		go func() {
			r := request(t.Context())
			r.Header.Del("Accept")
			gateway.New(d).ServeHTTP(sync, r)
			done <- struct{}{}
		}()
		synctest.Wait()
		stop()
		<-done
		<-done
		<-w.written
		if got := <-w.written; !strings.HasPrefix(got, "event: error\nid: 0\n") ||
			!strings.Contains(got, `"server_stopping"`) {
			t.Errorf("stream: %q", got)
		}
		if sync.Code != 503 || !strings.Contains(sync.Body.String(), `"server_stopping"`) {
			t.Errorf("%d %s", sync.Code, sync.Body)
		}
	})
}

type authenticator func(secret string) (auth.Principal, error)

// Authenticate implements auth.Authenticator.
func (a authenticator) Authenticate(_ context.Context, secret string) (auth.Principal, error) {
	return a(secret)
}

// As implements auth.Authenticator.
func (authenticator) As(_ context.Context, p auth.Principal, _ string) (auth.Principal, error) {
	return p, nil
}

// Whoever waits for an answer stops waiting soon after its token.
func TestTokenOfOneWhoWaitsIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(flowtest.Gate)
		set := flowtest.New(flowtest.Standard(gate)...)
		defer set.Close()
		d := deps(planetest.New(t, nil))
		d.Workflows = set
		var revoked atomic.Bool
		d.Auth = authenticator(func(secret string) (auth.Principal, error) {
			if revoked.Load() {
				return auth.Principal{}, auth.ErrUnauthenticated
			}
			return known.Authenticate(t.Context(), secret)
		})
		h := gateway.New(d)
		prompt, run := request(t.Context()), request(t.Context())
		prompt.Header.Del("Accept")
		run.URL.Path, run.URL.RawQuery = "/workflows/slow", "wait=result"
		answers := []*httptest.ResponseRecorder{httptest.NewRecorder(), httptest.NewRecorder()}
		var all sync.WaitGroup
		for i, r := range []*http.Request{prompt, run} {
			all.Go(func() { h.ServeHTTP(answers[i], r) })
		}
		synctest.Wait()
		revoked.Store(true)
		begun := time.Now()
		all.Wait()
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("after %v", took)
		}
		for _, w := range answers {
			if w.Code != http.StatusUnauthorized {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		close(gate)
	})
}

// A stream ends soon after its token.
func TestTokenIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := planetest.New(t, nil)
		d := deps(p)
		var revoked atomic.Bool
		d.Auth = authenticator(func(secret string) (auth.Principal, error) {
			if revoked.Load() {
				return auth.Principal{}, auth.ErrUnauthenticated
			}
			return known.Authenticate(t.Context(), secret)
		})
		w := &recorder{header: http.Header{}, written: make(chan string, 100)}
		done := make(chan struct{})
		go func() { defer close(done); asServer(gateway.New(d)).ServeHTTP(w, request(t.Context())) }()
		synctest.Wait()
		revoked.Store(true)
		<-done
		<-w.written
		if got := <-w.written; !strings.Contains(got, `"unauthenticated"`) {
			t.Errorf("%q", got)
		}
	})
}

// Aborted before it ran, a submission leaves no event: the error frame is the only one.
func TestAbortedInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := planetest.New(t, nil)
		w := &recorder{header: http.Header{}, written: make(chan string, 100)}
		done := make(chan struct{})
		go func() { defer close(done); asServer(gateway.New(deps(p))).ServeHTTP(w, request(t.Context())) }()
		synctest.Wait()
		if _, err := p.Submissions.Abort(t.Context(), "default", only(t, p).ID); err != nil {
			t.Fatal(err)
		}
		<-done
		<-w.written
		if got := <-w.written; !strings.HasPrefix(got, "event: error\n") ||
			!strings.Contains(got, `"outcome":"aborted"`) {
			t.Errorf("%q", got)
		}
	})
}
