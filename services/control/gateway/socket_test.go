package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

// client is one end of a socket.
type client struct {
	t *testing.T
	*websocket.Conn
}

// dial opens a socket to a path; refused is the status of an upgrade that was refused.
func dial(t *testing.T, s *httptest.Server, path string, headers ...string) (c *client, refused int) {
	t.Helper()
	head := http.Header{"Authorization": {"Bearer op"}}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		head.Set(name, value)
	}
	conn, res, err := websocket.Dial(t.Context(), s.URL+path, &websocket.DialOptions{HTTPHeader: head})
	if err != nil {
		if res == nil {
			t.Fatal(err)
		}
		return nil, res.StatusCode
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &client{t, conn}, 0
}

func (c *client) say(text string) {
	c.t.Helper()
	if err := c.Write(c.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// hear reads the next frame.
func (c *client) hear() string {
	c.t.Helper()
	_, text, err := c.Read(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// expect reads the next frame and compares it.
func (c *client) expect(want string) {
	c.t.Helper()
	if got := c.hear(); got != want {
		c.t.Errorf("heard %s, want %s", got, want)
	}
}

// closed is how the server has ended the socket.
func (c *client) closed() (code websocket.StatusCode, reason string) {
	c.t.Helper()
	var end websocket.CloseError
	for {
		if _, _, err := c.Read(c.t.Context()); errors.As(err, &end) {
			return end.Code, end.Reason
		} else if err != nil {
			c.t.Fatal(err)
		}
	}
}

// frameOf is what tests look at in a frame.
type frameOf struct {
	Type, RequestID string
	Event           struct {
		Type, InstanceID, RunID, Session string
		EventIndex                       *int
	}
	Result struct{ Text string }
	Error  struct{ Type, Details string }
}

func (c *client) frame() (f frameOf) {
	c.t.Helper()
	text := c.hear()
	if err := json.Unmarshal([]byte(text), &f); err != nil || !strings.Contains(text, `"version":1`) {
		c.t.Fatalf("%v: %s", err, text)
	}
	return f
}

// decode reads JSON.
func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

const socketPath = "/agents/shell/ws%2F1"

func open(t *testing.T, s *httptest.Server) *client {
	t.Helper()
	c, refused := dial(t, s, socketPath)
	if c == nil {
		t.Fatalf("refused with %d", refused)
	}
	c.expect(`{"version":1,"type":"ready","target":"agent","name":"shell","instanceId":"ws/1"}`)
	return c
}

// A prompt is started, its events come in order, and its result is last. The socket then takes the next one.
func TestPromptOnASocket(t *testing.T) {
	s := serve(t, deps(planetest.New(t, hello())))
	c := open(t, s)
	for _, id := range []string{"r1", "r2"} {
		c.say(fmt.Sprintf(`{"version":1,"type":"prompt","requestId":%q,"message":"hi","extra":1}`, id))
		c.expect(fmt.Sprintf(`{"version":1,"type":"started","requestId":%q}`, id))
		for next := 0; ; next++ {
			f := c.frame()
			if f.RequestID != id {
				t.Fatalf("%+v", f)
			}
			if f.Type == "result" {
				if f.Result.Text != "Hello" || next < 5 {
					t.Errorf("after %d events: %+v", next, f)
				}
				break
			}
			e := f.Event
			if f.Type != "event" || e.EventIndex == nil || *e.EventIndex != next || e.InstanceID != "ws/1" ||
				e.RunID != "" {
				t.Fatalf("event %d: %+v", next, f)
			}
			if next == 0 && e.Type != "operation_start" {
				t.Errorf("the first event is %s", e.Type)
			}
		}
	}
	c.say(`{"version":1,"type":"ping"}`)
	c.expect(`{"version":1,"type":"pong"}`)
	c.say(`{"version":1,"type":"ping","requestId":"p"}`)
	c.expect(`{"version":1,"type":"pong","requestId":"p"}`)
}

// A prompt that fails has its events, then an error, and the socket stays. One that is refused has the error alone.
func TestFailingPromptOnASocket(t *testing.T) {
	s := serve(t, deps(planetest.New(t, failing("no"))))
	c := open(t, s)
	c.say(`{"version":1,"type":"prompt","requestId":"r1","message":"hi"}`)
	c.expect(`{"version":1,"type":"started","requestId":"r1"}`)
	f := c.frame()
	for f.Type == "event" {
		f = c.frame()
	}
	if f.Type != "error" || f.RequestID != "r1" || f.Error.Type != "internal_error" {
		t.Errorf("%+v", f)
	}
	c.say(`{"version":1,"type":"prompt","requestId":"r2","message":"hi","session":"` + strings.Repeat("x", 300) + `"}`)
	if f := c.frame(); f.Type != "error" || f.RequestID != "r2" || f.Error.Type != "invalid_request" {
		t.Errorf("%+v", f)
	}
}

// What is malformed is answered, with its request id if it has one, and the socket stays.
func TestMalformedMessages(t *testing.T) {
	s := serve(t, deps(planetest.New(t, nil)))
	c := open(t, s)
	const (
		jsonOnly = "WebSocket messages must be valid JSON objects."
		kinds    = `Agent WebSocket messages must use protocol version 1 and type \"prompt\" or \"ping\".`
		values   = "Agent WebSocket prompt messages require string requestId and message values."
		name     = "Agent WebSocket prompt session must be a non-empty string when provided."
		task     = `Agent WebSocket prompt session names beginning with \"task:\" are reserved for delegated tasks.`
		ping     = "Agent WebSocket ping requestId must be a string when provided."
	)
	for _, x := range []struct{ say, id, details string }{
		{`{`, "", jsonOnly},
		{`[]`, "", jsonOnly},
		{`1`, "", jsonOnly},
		{`null`, "", jsonOnly},
		{``, "", jsonOnly},
		{`{"version":2,"type":"prompt","requestId":"r","message":""}`, "r", kinds},
		{`{"version":1,"type":"invoke","requestId":"r"}`, "r", kinds},
		{`{"type":"ping"}`, "", kinds},
		{`{"version":1,"type":"prompt","message":"hi"}`, "", values},
		{`{"version":1,"type":"prompt","requestId":" ","message":"hi"}`, "", values},
		{`{"version":1,"type":"prompt","requestId":"r"}`, "r", values},
		{`{"version":1,"type":"prompt","requestId":"r","message":1}`, "r", values},
		{`{"version":1,"type":"prompt","requestId":"r","message":"hi","session":null}`, "r", name},
		{`{"version":1,"type":"prompt","requestId":"r","message":"hi","session":" "}`, "r", name},
		{`{"version":1,"type":"prompt","requestId":"r","message":"hi","session":"task:x"}`, "r", task},
		{`{"version":1,"type":"ping","requestId":""}`, "", ping},
		{`{"version":1,"type":"ping","requestId":1}`, "", ping},
		{strings.Repeat(`{"a":`, 50_000), "", jsonOnly},
	} {
		id := ""
		if x.id != "" {
			id = fmt.Sprintf(`"requestId":%q,`, x.id)
		}
		c.say(x.say)
		c.expect(`{"version":1,"type":"error",` + id +
			`"error":{"type":"invalid_request","message":"Request is malformed.",` +
			`"details":"` + x.details + `"}}`)
	}
	c.say(`{"version":1,"type":"ping"}`)
	c.expect(`{"version":1,"type":"pong"}`)
}

// Binary messages and such as are too large end the socket, each with its code.
func TestMessagesThatEndASocket(t *testing.T) {
	s := serve(t, deps(planetest.New(t, nil)))
	c := open(t, s)
	if err := c.Write(t.Context(), websocket.MessageBinary, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	c.expect(`{"version":1,"type":"error","error":{"type":"invalid_request","message":"Request is malformed.",` +
		`"details":"Binary WebSocket messages are not supported."}}`)
	if code, reason := c.closed(); code != 1003 || reason != "Binary messages are not supported" {
		t.Errorf("%d %q", code, reason)
	}
	c = open(t, s)
	c.say(`{"version":1,"type":"ping","x":"` + strings.Repeat("x", 1<<20-38) + `"}`) // as large as it may be
	c.expect(`{"version":1,"type":"pong"}`)
	c.say(strings.Repeat(" ", 1<<20+1))
	if code, reason := c.closed(); code != 1009 || reason != "" {
		t.Errorf("%d %q", code, reason)
	}
}

// Upgrades are checked as requests are: host, origin, token, and whether the agent is there for the caller.
func TestRefusedSockets(t *testing.T) {
	httpOnly := hidden()
	httpOnly.Name, httpOnly.Expose = "httponly", nil
	s := serve(t, deps(planetest.New(t, nil, hidden(), httpOnly)))
	for name, c := range map[string]struct {
		path, header string
		status       int
	}{
		"no token":       {socketPath, "Authorization: ", 401},
		"a wrong one":    {socketPath, "Authorization: Bearer x", 401},
		"another's":      {socketPath, "Authorization: Bearer other", 404},
		"an executor's":  {socketPath, "Authorization: Bearer executor", 403},
		"no such agent":  {"/agents/none/i", "A: b", 404},
		"not exposed":    {"/agents/httponly/i", "A: b", 404},
		"a blank id":     {"/agents/shell/%20", "A: b", 404},
		"another origin": {socketPath, "Origin: https://evil.example", 403},
		"another path":   {"/elsewhere", "A: b", 404},
	} {
		if _, status := dial(t, s, c.path, c.header); status != c.status {
			t.Errorf("%s: %d", name, status)
		}
	}
	for _, header := range []string{"Origin: https://console.example", "A: b"} {
		if _, status := dial(t, s, "/agents/hidden/i", header); status != 0 {
			t.Errorf("%s: %d", header, status)
		}
	}
}

// slow answers when it is told to.
type slow struct {
	*modeltest.Scripted
	begun  chan struct{}
	answer chan struct{}
}

func newSlow() *slow {
	return &slow{modeltest.Always(modeltest.Say("Hello")), make(chan struct{}, 1), make(chan struct{})}
}

// Stream implements model.Model.
func (s *slow) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	s.begun <- struct{}{}
	select {
	case <-s.answer:
	case <-ctx.Done():
	}
	return s.Scripted.Stream(ctx, req)
}

// A client that leaves stops nothing: the prompt runs to its end.
func TestLeavingASocketStopsNothing(t *testing.T) {
	m := newSlow()
	p := planetest.New(t, m)
	d := deps(p)
	d.API = apiOf(t, p, d)
	s := serve(t, d)
	c := open(t, s)
	c.say(`{"version":1,"type":"prompt","requestId":"r1","message":"hi"}`)
	<-m.begun
	if err := c.CloseNow(); err != nil {
		t.Fatal(err)
	}
	close(m.answer)
	if body := wait(t, s, p); !strings.Contains(body, "OUTCOME_COMPLETED") {
		t.Error(body)
	}
}

// wait is what the only submission of the only session came to.
func wait(t *testing.T, s *httptest.Server, p *planetest.Plane) string {
	t.Helper()
	key := sessionKey
	key.Instance = "ws/1"
	one, err := p.Store.FindSession(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	all, err := p.Store.ListSubmissions(t.Context(), one.ID, 0, 1)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	_, _, body := raw(t, s, "GET /v1/submissions/"+all[0].ID+":wait?timeout=60s HTTP/1.1\nConnection: close\n"+get)
	return body
}

// When the server stops, prompts under way get an error each, then the socket ends with 1001, and Wait returns.
func TestSocketsEndWithTheServer(t *testing.T) {
	m := newSlow()
	d := deps(planetest.New(t, m))
	stopping, stop := context.WithCancel(t.Context())
	d.Stopping = stopping
	h := gateway.New(d)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	busy, idle := open(t, s), open(t, s)
	busy.say(`{"version":1,"type":"prompt","requestId":"r1","message":"hi"}`)
	<-m.begun
	stop()
	f := busy.frame()
	for f.Type == "started" || f.Type == "event" {
		f = busy.frame()
	}
	if f.Type != "error" || f.RequestID != "r1" || f.Error.Type != "server_stopping" {
		t.Errorf("%+v", f)
	}
	for _, c := range []*client{busy, idle} {
		if code, reason := c.closed(); code != 1001 || reason != "Server shutting down" {
			t.Errorf("%d %q", code, reason)
		}
	}
	limit, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if h.Wait(limit); limit.Err() != nil {
		t.Error("a socket is still open")
	}
}
