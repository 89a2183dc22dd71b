package transcode_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

// tokens knows two callers by heart.
type tokens struct{}

// As implements auth.Authenticator.
func (tokens) As(_ context.Context, p auth.Principal, _ string) (auth.Principal, error) {
	return p, nil
}

// Authenticate implements auth.Authenticator.
func (tokens) Authenticate(_ context.Context, secret string) (auth.Principal, error) {
	p := auth.Principal{Tenant: session.DefaultTenant, Kind: auth.Client, Role: auth.User}
	switch secret {
	case "op":
		p.Kind = auth.Operator
	case "other":
		p.Limits.Agents = []string{"other"}
	default:
		return auth.Principal{}, auth.ErrUnauthenticated
	}
	return p, nil
}

// Glance implements auth.Guard.
func (tokens) Glance(context.Context, string) error { return nil }

// fixture is /v1 of a plane.
type fixture struct {
	*planetest.Plane
	*httptest.Server
	stop context.CancelFunc // what a server that ends does first
}

func serve(t *testing.T, m model.Model) *fixture {
	t.Helper()
	p := planetest.New(t, m)
	stopping, stop := context.WithCancel(t.Context())
	log := slog.New(slog.DiscardHandler)
	s := httptest.NewServer(transcode.New(p.Serve(t, tokens{}, log), stopping, log))
	t.Cleanup(s.Close)
	t.Cleanup(stop)
	return &fixture{p, s, stop}
}

// request is one with a method, a path, headers as "Name: value" and a body, which is JSON unless a header says else.
func (f *fixture) request(t *testing.T, method, path, body string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer op")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		if name, value, ok := strings.Cut(h, ": "); ok {
			r.Header.Set(name, value)
		}
	}
	return r
}

func (f *fixture) do(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	res, err := f.Client().Do(f.request(t, method, path, body, headers...))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(out)
}

// answer is a body that is JSON.
type answer map[string]any

func decode(t *testing.T, body string) answer {
	t.Helper()
	var a answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("%v: %q", err, body)
	}
	return a
}

// at is what is at a path of keys; "" for nothing.
func (a answer) at(path ...string) string {
	var v any = map[string]any(a)
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func hello() model.Model { return modeltest.Always(modeltest.Say("Hello")) }

// dispatched is a submission that was accepted and has settled.
func (f *fixture) dispatched(t *testing.T, path string) answer {
	t.Helper()
	res, body := f.do(t, "POST", path+":dispatch", `{"message":"hi"}`)
	id := decode(t, body).at("submission", "submissionId")
	if res.StatusCode != 200 || id == "" {
		t.Fatalf("%s %s", res.Status, body)
	}
	res, body = f.do(t, "GET", "/v1/submissions/"+id+":wait?timeout=60s", "")
	if a := decode(t, body); res.StatusCode != 200 || a.at("submission", "outcome") != "OUTCOME_COMPLETED" {
		t.Fatalf("%s %s", res.Status, body)
	}
	return decode(t, body)
}

// Every RPC is to be had over HTTP, but for those that say here why not.
func TestEveryRPCHasARoute(t *testing.T) {
	without := map[string]string{
		"ExecutorService.Connect": "carries frames both ways for days",
		"FileService.ReadFile":    "a file's bytes are no JSON: see FilePaths",
		"FileService.WriteFile":   "a file's bytes are no JSON: see FilePaths",
	}
	routes := transcode.Routes()
	protoregistry.GlobalFiles.RangeFilesByPackage("pawl.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				name := fmt.Sprintf("%s.%s", service.Name(), m.Name())
				has := slices.ContainsFunc(routes, func(r transcode.Route) bool { return r.RPC == m })
				if why, no := without[name]; has == no {
					t.Errorf("%s: has a route: %v; reason for none: %q", name, has, why)
				}
			}
		}
		return true
	})
	if len(routes) < 20 {
		t.Errorf("only %d routes", len(routes))
	}
}

// Ids reach the RPC as they were meant, with slashes and colons.
func TestIDsInPaths(t *testing.T) {
	f := serve(t, hello())
	for escaped, plain := range map[string]string{
		"i": "i", "a%2Fb": "a/b", "a%252Fb": "a%2Fb", "a:b": "a:b", "a%3Adispatch": "a:dispatch",
		"%C3%A9": "é", "a+b": "a+b",
	} {
		f.dispatched(t, "/v1/agents/shell/instances/"+escaped)
		res, body := f.do(t, "GET", "/v1/agents/shell/instances/"+escaped+"/sessions/default", "")
		if got := decode(t, body).at("session", "key", "instance"); res.StatusCode != 200 || got != plain {
			t.Errorf("%s: %s %s", escaped, res.Status, body)
		}
	}
	for _, path := range []string{
		"/v1/agents/shell/instances//sessions/default", "/v1/agents/shell/instances/%ZZ", "/v1//agents", "/v1/agents/",
		"/v1/agents/shell/instances/a/b:dispatch", "/v1/:reload", "/v1/agents:", "/v2/agents", "/v1",
	} {
		r := f.request(t, "GET", "/", "")
		r.URL.Opaque = strings.TrimPrefix(f.URL, "http:") + path
		res, err := f.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _ = res.Body.Close(); res.StatusCode != 404 && res.StatusCode != 400 {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
}

// What is refused is refused with a reason, in one form, and nothing is done.
func TestRefusals(t *testing.T) {
	f := serve(t, hello())
	const dispatch = "/v1/agents/shell/instances/i:dispatch"
	done := f.dispatched(t, "/v1/agents/shell/instances/i")
	one, events := "/v1/sessions/"+done.at("submission", "sessionId"), "/v1/sessions/"+done.at("submission",
		"sessionId")+"/events"
	const nowhere = "/v1/sessions/0198c0de-0000-7000-8000-000000000000"
	for name, c := range map[string]struct {
		method, path, body, header string
		status                     int
		reason, says, allow        string
	}{
		"no route":             {"GET", "/v1/nowhere", "", "", 404, "ROUTE_NOT_FOUND", "/v1/nowhere", ""},
		"another method":       {"DELETE", "/v1/agents", "", "", 405, "METHOD_NOT_ALLOWED", "GET, HEAD", "GET, HEAD"},
		"another, of a verb":   {"GET", "/v1/agents:reload", "", "", 405, "METHOD_NOT_ALLOWED", "POST", "POST"},
		"another, of a stream": {"POST", events, "", "", 405, "METHOD_NOT_ALLOWED", "GET", "GET"},
		"head of a stream":     {"HEAD", events, "", "", 405, "", "", "GET"},
		"unknown session":      {"GET", nowhere, "", "", 404, "SESSION_NOT_FOUND", "no such session", ""},
		"unknown agent":        {"GET", "/v1/agents/none", "", "", 404, "AGENT_NOT_FOUND", "none", ""},
		"another's": {
			"GET", one, "", "Authorization: Bearer other", 404, "SESSION_NOT_FOUND",
			"no such session", "",
		},
		"an operator's": {
			"POST", "/v1/agents:reload", "", "Authorization: Bearer other", 403, "FORBIDDEN", "",
			"",
		},
		"no token":      {"GET", one, "", "Authorization: ", 401, "UNAUTHENTICATED", "", ""},
		"no JSON":       {"POST", dispatch, "{", "", 400, "BODY_INVALID", "", ""},
		"unknown field": {"POST", dispatch, `{"massage":"x"}`, "", 400, "BODY_INVALID", "massage", ""},
		"a field twice": {
			"POST", dispatch, `{"message":"x","message":"y"}`, "", 400, "BODY_INVALID",
			"duplicate", "",
		},
		"two bodies": {"POST", dispatch, `{} {}`, "", 400, "BODY_INVALID", "", ""},
		"an array":   {"POST", dispatch, `[]`, "", 400, "BODY_INVALID", "", ""},
		"deep":       {"POST", dispatch, strings.Repeat(`{"key":`, 1e5), "", 400, "BODY_INVALID", "", ""},
		"no UTF-8":   {"POST", dispatch, "{\"message\":\"\xff\"}", "", 400, "BODY_INVALID", "UTF-8", ""},
		"a form": {
			"POST", dispatch, "a=b", "Content-Type: text/plain", 415, "UNSUPPORTED_MEDIA_TYPE",
			"JSON", "",
		},
		"compressed": {
			"POST", dispatch, "{}", "Content-Encoding: gzip", 415, "UNSUPPORTED_MEDIA_TYPE", "",
			"",
		},
		"no message": {"POST", dispatch, `{"key":{"agent":"shell"}}`, "Idempotency-Key: " +
			strings.Repeat("k", 300), 400, "INVALID_NAME", "", ""},
		"two keys": {
			"POST", dispatch, `{"message":"x","idempotencyKey":"a"}`, "Idempotency-Key: b", 400,
			"IDEMPOTENCY_KEY", "", "",
		},
		"unknown parameter":   {"GET", "/v1/agents?pagesize=1", "", "", 400, "PARAMETER_INVALID", "pagesize", ""},
		"parameter of a body": {"POST", dispatch + "?message=x", "{}", "", 400, "PARAMETER_INVALID", "message", ""},
		"no number": {
			"GET", "/v1/agents?pageSize=x", "", "", 400, "PARAMETER_INVALID",
			`the parameter pageSize is a whole number, not "x"`, "",
		},
		"no duration": {
			"GET", "/v1/submissions/x:wait?timeout=60", "", "", 400, "PARAMETER_INVALID",
			`the parameter timeout is a duration such as 60s, not "60"`, "",
		},
		"no time": {
			"GET", "/v1/audit-events?from=yesterday", "", "", 400, "PARAMETER_INVALID",
			`the parameter from is a time such as 2026-01-31T12:00:00Z, not "yesterday"`, "",
		},
		"a parameter twice": {
			"GET", "/v1/agents?pageSize=1&page_size=2", "", "", 400, "PARAMETER_INVALID",
			"duplicate", "",
		},
		"a malformed query": {"GET", "/v1/agents?pageSize=%ZZ", "", "", 400, "PARAMETER_INVALID", "malformed", ""},
		"no cursor":         {"GET", events + "?after=x", "", "", 400, "PARAMETER_INVALID", "", ""},
		"a cursor below 0":  {"GET", events + "?after=-1", "", "", 400, "CURSOR", "", ""},
		"the header counts": {
			"GET", events + "?after=2", "", "Last-Event-ID: x", 400, "CURSOR", "Last-Event-ID",
			"",
		},
		"no such children": {
			"GET", events + "?children=some", "", "", 400, "PARAMETER_INVALID",
			`the parameter children is one of CHILD_EVENTS_NONE, CHILD_EVENTS_ENTRIES, CHILD_EVENTS_ALL, not "some"`,
			"",
		},
		"no such way with a busy session": {
			"POST", dispatch, `{"message":"x","whenBusy":"steer"}`, "", 400, "BODY_INVALID",
			`the field whenBusy is one of WHEN_BUSY_QUEUE, WHEN_BUSY_STEER, WHEN_BUSY_INTERRUPT, not "steer"`, "",
		},
		"no such verdict": {
			"POST", "/v1/approvals/x:decide", `{"verdict":"yes"}`, "", 400, "BODY_INVALID",
			`the field verdict is one of VERDICT_APPROVE, VERDICT_DENY, not "yes"`, "",
		},
		"a label written otherwise": {
			"GET", "/v1/sessions?labels.team=x", "", "", 400, "PARAMETER_INVALID", "write labels[team]=VALUE", "",
		},
		"a label without its key": {
			"GET", "/v1/sessions?labels=x", "", "", 400, "PARAMETER_INVALID", "write labels[KEY]=VALUE", "",
		},
		"another's name that is not UTF-8": {
			"POST", dispatch, `{"message":"x"}`, "Pawl-On-Behalf-Of: \xff", 400, "ON_BEHALF_OF", "is not UTF-8", "",
		},
		"a session that is not UTF-8": {
			"GET", "/v1/sessions/%ff/files/x", "", "", 400, "PATH_INVALID", "UTF-8", "",
		},
		"an executor that is not UTF-8": {
			"DELETE", "/v1/executors/%ff/files/x", "", "", 400, "PATH_INVALID", "UTF-8", "",
		},
		"no task": {"GET", events + "?tasks=x", "", "", 400, "TASKS", "task_id", ""},
		"ahead":   {"GET", events + "?after=1000000", "", "", 400, "CURSOR_AHEAD", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			res, body := f.do(t, c.method, c.path, c.body, "X-Request-Id: mine", c.header)
			if res.StatusCode != c.status || res.Header.Get("Allow") != c.allow ||
				res.Header.Get("X-Request-Id") != "mine" {
				t.Errorf("%s %v", res.Status, res.Header)
			}
			if (c.status == 401) != (res.Header.Get("WWW-Authenticate") == "Bearer") {
				t.Errorf("WWW-Authenticate of %s is %q", res.Status, res.Header.Get("WWW-Authenticate"))
			}
			if c.method == http.MethodHead {
				return
			}
			a := decode(t, body)
			if a.at("error", "reason") != c.reason || !strings.Contains(a.at("error", "message"), c.says) ||
				a.at("error", "request_id") != "mine" || res.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%v %s", res.Header, body)
			}
		})
	}
	_, body := f.do(t, "GET", one+"/submissions", "")
	if n := strings.Count(body, `"submissionId"`); n != 1 {
		t.Errorf("%d submissions after all that was refused: %s", n, body)
	}
}

// Sessions are found by their labels, which are parameters of a map.
func TestSessionsAreListedByLabels(t *testing.T) {
	f := serve(t, hello())
	for name, labels := range map[string]string{"a": `{"team":"core","x.y/z":"1"}`, "b": `{"team":"core"}`} {
		body := `{"key":{"agent":"shell","instance":"` + name + `"},"labels":` + labels + `}`
		if res, body := f.do(t, "POST", "/v1/sessions", body); res.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", res.Status, body)
		}
	}
	for query, want := range map[string]int{
		"labels[team]=core":                     2,
		"labels%5Bteam%5D=core":                 2,
		"labels[team]=core&labels[x.y/z]=1":     1,
		"labels[team]=other":                    0,
		"labels[team]=core&agent=shell":         2,
		"labels[team]=core&labels[nothing]=one": 0,
	} {
		res, body := f.do(t, "GET", "/v1/sessions?"+query, "")
		if n := strings.Count(body, `"sessionId"`); res.StatusCode != http.StatusOK || n != want {
			t.Errorf("%s: %s, %d sessions, want %d: %s", query, res.Status, n, want, body)
		}
	}
}

// A request that was too long is refused without being read, or when it turns out to be.
func TestTooLarge(t *testing.T) {
	f := serve(t, nil)
	r := f.request(t, "POST", "/v1/agents/shell/instances/i:dispatch", "")
	r.Header.Set("Content-Type", "application/json")
	for _, length := range []int64{33<<20 + 1, -1} {
		r.Body, r.ContentLength = io.NopCloser(io.LimitReader(endless{}, 33<<20+1)), length
		res, err := f.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _ = res.Body.Close(); res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("with a length of %d: %s", length, res.Status)
		}
	}
}

// endless is spaces.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// The header Idempotency-Key is the field of that name.
// Whoever does not send the body that it has announced is answered, and not as if all was well.
func TestBodiesThatDoNotCome(t *testing.T) {
	f := serve(t, nil)
	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		f.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(late.Close)
	for name, c := range map[string]struct {
		at     *httptest.Server
		half   bool // closed
		status string
		reason string
	}{
		"half closed": {f.Server, true, "HTTP/1.1 400 ", "BODY_INVALID"},
		"late":        {late, false, "HTTP/1.1 408 ", "BODY_LATE"},
	} {
		conn, err := net.Dial("tcp", c.at.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(conn, "POST /v1/agents/shell/instances/i:dispatch HTTP/1.1\r\nHost: localhost\r\n"+
			"Authorization: Bearer op\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		if tcp, ok := conn.(*net.TCPConn); err == nil && c.half && ok {
			err = tcp.CloseWrite()
		}
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(conn)
		_ = conn.Close()
		if err != nil || !strings.HasPrefix(string(said), c.status) || !strings.Contains(string(said), c.reason) {
			t.Errorf("%s: %s, %v", name, said, err)
		}
	}
}

// A stream whose reader has closed its half of the connection does not end as if it was whole.
func TestHalfClosedReader(t *testing.T) {
	f := serve(t, nil)
	_, body := f.do(t, "POST", "/v1/agents/shell/instances/i:dispatch", `{"message":"hi"}`)
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /v1/sessions/"+decode(t, body).at("submission", "sessionId")+
		"/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer op\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // of a connection that is closed
	if tcp, ok := conn.(*net.TCPConn); !ok || tcp.CloseWrite() != nil {
		t.Fatal("not closed")
	}
	if said, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", said, err)
	}
}

func TestIdempotencyKey(t *testing.T) {
	f := serve(t, hello())
	const path = "/v1/agents/shell/instances/i:dispatch"
	_, first := f.do(t, "POST", path, `{"message":"hi"}`, "Idempotency-Key: k")
	_, again := f.do(t, "POST", path, `{"message":"hi","idempotencyKey":"k"}`)
	a, b := decode(t, first), decode(t, again)
	if id := a.at("submission", "submissionId"); id == "" || b.at("submission", "submissionId") != id ||
		a.at("replayed") != "" || b.at("replayed") != "true" {
		t.Errorf("%s\n%s", first, again)
	}
	res, other := f.do(t, "POST", path, `{"message":"other"}`, "Idempotency-Key: k")
	if res.StatusCode != 409 || decode(t, other).at("error", "reason") != "IDEMPOTENCY_CONFLICT" {
		t.Errorf("%s %s", res.Status, other)
	}
}

// frame is a server-sent event.
type frame struct{ event, id, data string }

// frames reads server-sent events until they end or take has enough.
func frames(body io.Reader, take func(frame) bool) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	var one frame
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			one.event = value
		case "id":
			one.id = value
		case "data":
			one.data = value
		case "":
			if one != (frame{}) && !take(one) {
				return nil
			}
			one = frame{}
		}
	}
	return errors.Join(lines.Err(), io.EOF)
}

// watch reads events of a session until enough.
func (f *fixture) watch(t *testing.T, path string, enough func(frame) bool, headers ...string) []frame {
	t.Helper()
	r := f.request(t, "GET", path, "", append(headers, "Accept: text/event-stream")...)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	res, err := f.Client().Do(r.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // left early
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", res.Status, res.Header)
	}
	var all []frame
	err = frames(res.Body, func(one frame) bool {
		all = append(all, one)
		return !enough(one)
	})
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return all
}

// A reader that leaves and comes back with the id of its last event misses nothing and gets nothing twice. Every event
// names its kind, and its id is its seq.
func TestEventsResume(t *testing.T) {
	f := serve(t, modeltest.Always(modeltest.Say("Hel", "lo")))
	path := "/v1/sessions/" + f.dispatched(t, "/v1/agents/shell/instances/i").at("submission", "sessionId") + "/events"
	settled := func(one frame) bool { return one.event == "settled" }
	whole := f.watch(t, path, settled)
	var parts []frame
	for len(parts) == 0 || !settled(parts[len(parts)-1]) {
		var last []string
		if len(parts) > 0 {
			last = append(last, "Last-Event-ID: "+parts[len(parts)-1].id)
		}
		parts = append(parts, f.watch(t, path+"?after=0", func(frame) bool { return true }, last...)...)
	}
	if !slices.Equal(whole, parts) {
		t.Errorf("at once\n%v\nin parts\n%v", whole, parts)
	}
	for i, one := range whole {
		if one.id != strconv.Itoa(i+1) {
			t.Errorf("event %d has the id %q", i+1, one.id)
		}
	}
	if whole[0].event != "started" || !strings.Contains(whole[0].data, `"text":"hi"`) {
		t.Errorf("%v", whole)
	}
}

// A browser cannot see why a stream was refused, and asks again with the same cursor: it gets an event that says so,
// whose id is where to go on.
func TestCursorThatIsNotThere(t *testing.T) {
	f := serve(t, hello())
	path := "/v1/sessions/" + f.dispatched(t, "/v1/agents/shell/instances/i").at("submission", "sessionId") + "/events"
	all := f.watch(t, path, func(one frame) bool { return one.event == "settled" })
	head := all[len(all)-1].id
	got := f.watch(t, path, func(frame) bool { return true }, "Last-Event-ID: 1000000")
	if len(got) != 1 || got[0].event != "cursor_ahead" || got[0].id != head ||
		decode(t, got[0].data).at("error", "details", "head") != head {
		t.Errorf("%v, the head is %s", got, head)
	}
}

// Without server-sent events a stream is a line of JSON for each message.
func TestLines(t *testing.T) {
	f := serve(t, hello())
	res, body := f.do(t, "POST", "/v1/agents/shell/instances/i/sessions/s:prompt", `{"message":"hi"}`)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%s %v", res.Status, res.Header)
	}
	lines := strings.Split(strings.TrimSuffix(body, "\n"), "\n")
	first := decode(t, lines[0])
	if first.at("submission", "key", "session") != "s" || first.at("submission", "submissionId") == "" {
		t.Errorf("the first line is %s", lines[0])
	}
	last := decode(t, lines[len(lines)-1])
	events, _ := last["events"].([]any)
	if len(events) == 0 || !strings.Contains(fmt.Sprint(events[len(events)-1]), "OUTCOME_COMPLETED") {
		t.Errorf("the last line is %s", lines[len(lines)-1])
	}
	got := f.prompted(t)
	if got[0].event != "submission" || got[0].id != "" || got[len(got)-1].event != "settled" {
		t.Errorf("%v", got)
	}
}

// prompted is the answer to a prompt as events.
func (f *fixture) prompted(t *testing.T) (all []frame) {
	t.Helper()
	res, body := f.do(t, "POST", "/v1/agents/shell/instances/i:prompt", `{"message":"hi"}`, "Accept: text/event-stream")
	if res.StatusCode != 200 {
		t.Fatalf("%s %s", res.Status, body)
	}
	err := frames(strings.NewReader(body), func(one frame) bool { all = append(all, one); return true })
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return all
}

// When the server stops, what is open says so: in a last event, in a last line, or as the answer.
func TestStopping(t *testing.T) {
	f := serve(t, nil) // nothing runs
	res, body := f.do(t, "POST", "/v1/agents/shell/instances/i:dispatch", `{"message":"hi"}`)
	if res.StatusCode != 200 {
		t.Fatalf("%s %s", res.Status, body)
	}
	a := decode(t, body)
	open := func(path, accept string) *http.Response {
		res, err := f.Client().Do(f.request(t, "GET", path, "", "Accept: "+accept))
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	events := "/v1/sessions/" + a.at("submission", "sessionId") + "/events"
	all := []*http.Response{open(events, "text/event-stream"), open(events, "*/*")} // both have begun
	waited := make(chan *http.Response, 1)
	go func() { waited <- open("/v1/submissions/"+a.at("submission", "submissionId")+":wait", "*/*") }()
	f.stop()
	all = append(all, <-waited)
	for i, res := range all {
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Error(err)
		}
		_ = res.Body.Close()
		if !strings.Contains(string(body), `"reason":"SERVER_STOPPING"`) {
			t.Errorf("%d: %s %s", i, res.Status, body)
		}
	}
	if res := all[2]; res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("%s %v", res.Status, res.Header)
	}
}
