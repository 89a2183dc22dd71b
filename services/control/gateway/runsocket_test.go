package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/flowtest"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

// invoke opens the socket of a workflow and starts a run of it.
func invoke(t *testing.T, s *httptest.Server, workflow, payload string) *client {
	t.Helper()
	c, refused := dial(t, s, "/workflows/"+workflow)
	if c == nil {
		t.Fatalf("refused with %d", refused)
	}
	c.SetReadLimit(8 << 20)
	c.expect(fmt.Sprintf(`{"version":1,"type":"ready","target":"workflow","name":%q}`, workflow))
	if payload != "" {
		payload = `,"payload":` + payload
	}
	c.say(`{"version":1,"type":"invoke","requestId":"q1"` + payload + `}`)
	return c
}

// rest is every frame until the end of the socket, and the end.
func (c *client) rest() string {
	c.t.Helper()
	var out strings.Builder
	for {
		_, text, err := c.Read(c.t.Context())
		if err == nil {
			out.WriteString(normal(string(text)) + "\n")
			continue
		}
		var end websocket.CloseError
		if !errors.As(err, &end) {
			c.t.Fatal(err)
		}
		return out.String() + fmt.Sprintf("close %d %q\n", end.Code, end.Reason)
	}
}

// A run on a socket: it is started, its events come, the last but one is idle, then its result or an error, then the
// socket ends.
func TestRunsOnSockets(t *testing.T) {
	f := withFlows(t, nil)
	close(f.gate)
	var out strings.Builder
	for _, x := range [][2]string{
		{"echo", `{ "a" : 1 }`},
		{"echo", ""},
		{"echo", "null"},
		{"nothing", `"text"`},
		{"fail", ""},
		{"panic", ""},
		{"agentic", ""},
		{"socket", "[]"},
	} {
		out.WriteString(x[0] + " " + x[1] + "\n" + invoke(t, f.Server, x[0], x[1]).rest() + "\n")
	}
	golden(t, "runsockets.txt", out.String())
}

// A run of a socket is like any other. The idle event that the socket has been told of is not kept.
func TestRunOfASocketIsKept(t *testing.T) {
	f := withFlows(t, nil)
	c := invoke(t, f.Server, "echo", "{}")
	var started struct{ RunID string }
	decode(t, c.hear(), &started)
	c.closed()
	if got := frames(f.events(t, started.RunID)); got != "0 run_start 1 log 2 run_end" {
		t.Error(got)
	}
	if !strings.Contains(f.get(t, "/admin/runs"), started.RunID) {
		t.Error("the run is not listed")
	}
}

// A result is sent whole, however large it is. Its event is cut.
func TestLargeResultOnASocket(t *testing.T) {
	f := withFlows(t, nil)
	got := invoke(t, f.Server, "large", "").rest()
	if !strings.Contains(got, `"truncated":["result"]`) || strings.Count(got, "x") < flowtest.Large ||
		!strings.HasSuffix(got, "close 1000 \"Workflow completed\"\n") {
		t.Errorf("%d bytes: %.2000s", len(got), got)
	}
}

// A socket takes one invocation. A second one ends it, and the first goes on.
func TestSecondInvocation(t *testing.T) {
	f := withFlows(t, nil)
	c := invoke(t, f.Server, "slow", "")
	var started struct{ RunID string }
	decode(t, c.hear(), &started)
	c.hear() // run_start
	c.hear() // log
	c.say(`{"version":1,"type":"invoke","requestId":"q2"}`)
	if got, want := c.rest(), `{"version":1,"type":"error","requestId":"q2","error":{"type":"invalid_request",`+
		`"message":"Request is malformed.","details":"Workflow WebSocket connections accept one invocation only."}}`+
		"\nclose 1008 \"Workflow accepts one invocation only\"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	close(f.gate)
	if record := f.ended(t, started.RunID); !strings.Contains(record, `"result":"waited"`) {
		t.Error(record)
	}
}

// What is malformed is answered, with its request id if it has one, and the socket stays.
func TestMalformedInvocations(t *testing.T) {
	f := withFlows(t, nil)
	c, _ := dial(t, f.Server, "/workflows/echo")
	c.hear()
	const (
		jsonOnly = "WebSocket messages must be valid JSON objects."
		form     = `Workflow WebSocket messages require protocol version 1, type \"invoke\", and a string requestId.`
	)
	for _, x := range []struct{ say, id, details string }{
		{`{`, "", jsonOnly},
		{`[]`, "", jsonOnly},
		{`null`, "", jsonOnly},
		{``, "", jsonOnly},
		{strings.Repeat(`[`, 100_000), "", jsonOnly},
		{`{"version":1,"type":"ping","requestId":"p"}`, "p", form},
		{`{"version":1,"type":"ping"}`, "", form},
		{`{"version":2,"type":"invoke","requestId":"r"}`, "r", form},
		{`{"version":"1","type":"invoke","requestId":"r"}`, "r", form},
		{`{"version":1,"type":"prompt","requestId":"r","message":"hi"}`, "r", form},
		{`{"version":1,"type":"invoke"}`, "", form},
		{`{"version":1,"type":"invoke","requestId":" "}`, "", form},
		{`{"version":1,"type":"invoke","requestId":1}`, "", form},
		{`{"version":1,"type":"invoke","RequestId":"r"}`, "", form},
	} {
		id := ""
		if x.id != "" {
			id = fmt.Sprintf(`"requestId":%q,`, x.id)
		}
		c.say(x.say)
		c.expect(`{"version":1,"type":"error",` + id +
			`"error":{"type":"invalid_request","message":"Request is malformed.","details":"` + x.details + `"}}`)
	}
	c.say(`{"version":1,"type":"invoke","requestId":"r"}`)
	if got := c.rest(); !strings.Contains(got, `"type":"result","requestId":"r"`) {
		t.Error(got)
	}
}

// Binary messages and such as are too large end the socket, each with its code.
func TestMessagesThatEndAWorkflowsSocket(t *testing.T) {
	f := withFlows(t, nil)
	c, _ := dial(t, f.Server, "/workflows/echo")
	c.hear()
	if err := c.Write(t.Context(), websocket.MessageBinary, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if got := c.rest(); got != `{"version":1,"type":"error","error":{"type":"invalid_request",`+
		`"message":"Request is malformed.","details":"Binary WebSocket messages are not supported."}}`+
		"\nclose 1003 \"Binary messages are not supported\"\n" {
		t.Error(got)
	}
	c, _ = dial(t, f.Server, "/workflows/nothing")
	c.hear()
	head := `{"version":1,"type":"invoke","requestId":"r","payload":"`
	c.say(head + strings.Repeat("x", 1<<20-len(head)-2) + `"}`) // as large as it may be
	if got := c.rest(); !strings.Contains(got, `"type":"result"`) {
		t.Errorf("%.300s", got)
	}
	c, _ = dial(t, f.Server, "/workflows/echo")
	c.hear()
	c.say(strings.Repeat(" ", 1<<20+1))
	if code, reason := c.closed(); code != 1009 || reason != "" {
		t.Errorf("%d %q", code, reason)
	}
}

// A run that cannot be kept never began: there is an error for it alone, and the socket ends.
func TestRunThatIsNotAdmitted(t *testing.T) {
	f := withFlows(t, nil)
	c, _ := dial(t, f.Server, "/workflows/echo")
	c.hear()
	f.set.Break(errors.New("password=hunter2"))
	c.say(`{"version":1,"type":"invoke","requestId":"q1"}`)
	if got, want := c.rest(), `{"version":1,"type":"error","requestId":"q1","runId":"workflow:echo:01M8…",`+
		`"error":{"type":"internal_error","message":"An internal error occurred.",`+
		`"details":"The server encountered an unexpected error while handling this request."}}`+
		"\nclose 1011 \"Workflow failed\"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Upgrades are checked as requests are: host, origin, token, and whether the workflow is there for the caller.
func TestRefusedWorkflowSockets(t *testing.T) {
	f := withFlows(t, nil)
	for name, c := range map[string]struct {
		path, header string
		status       int
	}{
		"no token":       {"/workflows/echo", "Authorization: ", 401},
		"a limited one":  {"/workflows/echo", "Authorization: Bearer shell", 404},
		"an executor's":  {"/workflows/echo", "Authorization: Bearer executor", 403},
		"a viewer's":     {"/workflows/echo", "Authorization: Bearer viewer", 403},
		"unknown":        {"/workflows/none", "A: b", 404},
		"unknown, query": {"/workflows/none?wait=foo", "A: b", 404},
		"over HTTP only": {"/workflows/plain", "A: b", 404},
		"hidden":         {"/workflows/hidden", "A: b", 404},
		"blank":          {"/workflows/%20", "A: b", 404},
		"another origin": {"/workflows/echo", "Origin: https://evil.example", 403},
		"a run":          {"/runs/" + noRun, "A: b", 404},
		"an agent":       {"/agents/none/x", "A: b", 404},
	} {
		if _, status := dial(t, f.Server, c.path, c.header); status != c.status {
			t.Errorf("%s: %d", name, status)
		}
	}
	if _, status := dial(t, f.Server, "/workflows/socket?wait=foo"); status != 0 {
		t.Errorf("over WebSocket only: %d", status)
	}
}

// When the server stops, a run under way gets an error, then its socket ends with 1001, as one does that is idle.
func TestWorkflowSocketsEndWithTheServer(t *testing.T) {
	stopping, stop := context.WithCancel(t.Context())
	var h *gateway.Handler
	withFlows(t, func(d *gateway.Deps) { d.Stopping = stopping; h = gateway.New(*d) })
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	idle, _ := dial(t, s, "/workflows/echo")
	busy := invoke(t, s, "slow", "")
	busy.hear() // started
	busy.hear() // run_start
	busy.hear() // log
	stop()
	if got := busy.rest(); !strings.HasPrefix(got,
		`{"version":1,"type":"error","requestId":"q1","runId":"workflow:slow:01M8…",`+
			`"error":{"type":"server_stopping"`) ||
		!strings.HasSuffix(got, "close 1001 \"Server shutting down\"\n") {
		t.Error(got)
	}
	if code, reason := idle.closed(); code != 1001 || reason != "Server shutting down" {
		t.Errorf("%d %q", code, reason)
	}
	limit, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if h.Wait(limit); limit.Err() != nil {
		t.Error("a socket is still open")
	}
}

// transcriptModel says what the model of the transcripts says.
func transcriptModel() model.Model {
	return modeltest.New(
		modeltest.Say("Hello world"),
		modeltest.Say("Hello world"),
		modeltest.Fail(&model.Error{Kind: model.KindFailed, Text: "FAIL400"}),
		modeltest.Say("Hello world"),
	)
}

// The transcripts of the original, replayed. What differs each time, and what no reader depends on, is left out.
func TestTranscripts(t *testing.T) {
	f := withFlows(t, func(d *gateway.Deps) {
		p := planetest.New(t, transcriptModel())
		d.Agents, d.Service = p.Agents, p.Submissions
	})
	var out strings.Builder
	say := func(title string, text ...string) {
		out.WriteString("== " + title + "\n" + normal(strings.Join(text, "\n")) + "\n")
	}
	_, _, body := raw(t, f.Server, with("POST /agents/shell/i1 HTTP/1.1", `{"message":"hi"}`))
	say("sync prompt", body)
	_, _, body = raw(t, f.Server,
		with("POST /agents/shell/sse1 HTTP/1.1\nAccept: text/event-stream", `{"message":"hi"}`))
	say("agent stream", body)
	_, head, body := raw(t, f.Server, with("POST /workflows/fail HTTP/1.1\nAccept: text/event-stream", `{}`))
	say("workflow stream", "x-flue-run-id: "+head.Get("X-Flue-Run-Id"), body)
	say("records", f.get(t, "/runs/"+f.start(t, "slow", `{}`)), f.ended(t, f.start(t, "nothing", `{}`)),
		f.get(t, "/runs/"+head.Get("X-Flue-Run-Id")))
	c := open(t, f.Server)
	c.say(`{"version":1,"type":"ping"}`)
	said := []string{c.hear()}
	for _, id := range []string{"r1", "r2"} {
		c.say(`{"version":1,"type":"prompt","requestId":"` + id + `","message":"hi"}`)
		for end := false; !end; {
			frame := c.hear()
			said = append(said, frame)
			end = strings.Contains(frame, `"type":"result"`) || strings.Contains(frame, `"type":"error","requestId"`)
		}
	}
	say("agent socket", said...)
	say("workflow socket", invoke(t, f.Server, "echo", `{"a":1}`).rest())
	say("admin page", f.get(t, "/admin/runs?limit=1&workflowName=fail"), f.get(t, "/admin/runs?limit=1"))
	golden(t, "transcripts.txt", out.String())
}
