package control_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/project"
)

// serveProject serves a project on a database in memory, with everyone an operator, and returns its URL.
func serveProject(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	p, err := project.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	db, err := control.OpenStore(t.Context(), control.Database{Name: "memory"}, log)
	if err != nil {
		t.Fatal(err)
	}
	models, err := control.NewModels("", os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- control.Run(ctx, control.Config{
			Store: db, GRPC: listeners[0], HTTP: listeners[1], Agents: p.Agents, Workflows: p.Workflows, Models: models,
			Lookup: os.LookupEnv, Open: true, Ready: func() { close(ready) }, Log: log,
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, db.Close()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("control did not start: %v", err)
	}
	return "http://" + listeners[1].Addr().String()
}

// httpCall is a request of a client that does not know more than HTTP.
func httpCall(t *testing.T, method, url, body string, headers ...string) (status int, head http.Header, answer string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	got, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	all, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode, got.Header, string(all)
}

var (
	timesOf = regexp.MustCompile(`"(startedAt|endedAt|timestamp)":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`)
	tookOf  = regexp.MustCompile(`"durationMs":\d+`)
	idOf    = regexp.MustCompile(`workflow:([a-z]+):[0-9A-Z]{26}`)
)

// bare is a text without what is another each time.
func bare(text string) string {
	text = timesOf.ReplaceAllString(text, `"$1":"…"`)
	return idOf.ReplaceAllString(tookOf.ReplaceAllString(text, `"durationMs":1`), "workflow:$1:ID")
}

func wants(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant\n%s", what, got, want)
	}
}

var flows = map[string]string{
	"workflows/greet.yaml": `
expose: [http, websocket]
input: {type: object, properties: {who: {type: string, default: world}}}
steps: [{log: "hello ${{ input.who }}", level: warn, data: {n: 1}}]
output: {said: "hello ${{ input.who }}"}
`,
	"workflows/fail.yaml":   "expose: [http, websocket]\nsteps: [{fail: it cannot be, reason: nope}]\n",
	"workflows/late.yaml":   "expose: [http]\ntimeout: 1s\nsteps: [{signal: never}]\n",
	"workflows/waits.yaml":  "expose: [http]\nsteps: [{log: before}, {signal: go}, {log: after}]\n",
	"workflows/hidden.yaml": "steps: [{log: hi}]\n",
	"workflows/asks.yaml": `
expose: [http]
agent: talker
steps: [{id: a, prompt: "say: well"}]
output: "${{ steps.a.text }}"
`,
	"agents/talker.md": "---\nmodel: offline/shell\nsandbox: none\n---\nTalk.\n",
}

const greetEnd = `{"type":"run_end","runId":"workflow:greet:ID","result":{"said":"hello you"},"isError":false,` +
	`"durationMs":1,"eventIndex":2,"timestamp":"…"}`

func TestRunsOverHTTP(t *testing.T) {
	url := serveProject(t, flows)
	status, head, body := httpCall(t, "POST", url+"/workflows/greet?wait=result", `{"who":"you"}`)
	id := head.Get("X-Flue-Run-Id")
	wants(t, "the result", bare(body), `{"result":{"said":"hello you"},"_meta":{"runId":"workflow:greet:ID"}}`+"\n")
	if status != 200 || !strings.Contains(body, id) {
		t.Errorf("%d %v", status, head)
	}
	owner := `"owner":{"kind":"workflow","workflowName":"greet","instanceId":"workflow:greet:ID"}`
	_, _, body = httpCall(t, "GET", url+"/runs/"+id, "")
	wants(t, "the record", bare(body), `{"runId":"workflow:greet:ID",`+owner+`,"status":"completed","startedAt":"…",`+
		`"payload":{"who":"you"},"endedAt":"…","isError":false,"durationMs":1,"result":{"said":"hello you"}}`+"\n")
	start := `{"type":"run_start","runId":"workflow:greet:ID",` + owner + `,"instanceId":"workflow:greet:ID",` +
		`"workflowName":"greet","startedAt":"…","payload":{"who":"you"},"eventIndex":0,"timestamp":"…"}`
	line := `{"type":"log","level":"warn","message":"hello you","attributes":{"n":1},"runId":"workflow:greet:ID",` +
		`"eventIndex":1,"timestamp":"…"}`
	_, _, body = httpCall(t, "GET", url+"/runs/"+id+"/events", "")
	wants(t, "the events", bare(body), `{"events":[`+start+`,`+line+`,`+greetEnd+"]}\n")
	_, _, body = httpCall(t, "GET", url+"/runs/"+id+"/events?after=0&types=log,run_end&limit=1", "")
	wants(t, "a page", bare(body), `{"events":[`+line+"]}\n")
	_, head, body = httpCall(t, "GET", url+"/runs/"+strings.ReplaceAll(id, ":", "%3A")+"/stream", "",
		"Last-Event-ID", "0")
	rest := "event: log\nid: 1\ndata: " + line + "\n\nevent: run_end\nid: 2\ndata: " + greetEnd + "\n\n"
	wants(t, "the stream", bare(body), rest)
	if head.Get("Content-Type") != "text/event-stream" || head.Get("Content-Length") == "" {
		t.Error(head)
	}
	_, _, body = httpCall(t, "POST", url+"/workflows/greet", `{"who":"you"}`, "Accept", "text/event-stream")
	wants(t, "the stream of a start", bare(body), "event: run_start\nid: 0\ndata: "+start+"\n\n"+rest)
}

func TestRunsThatDoNotComplete(t *testing.T) {
	url := serveProject(t, flows)
	for name, want := range map[string]string{
		"fail": `{"name":"Failed","message":"fail-1: it cannot be"}`,
		"late": `{"name":"Expired","message":"`,
	} {
		status, head, body := httpCall(t, "POST", url+"/workflows/"+name+"?wait=result", "{}")
		id := head.Get("X-Flue-Run-Id")
		if status != 500 || !strings.Contains(body, `"internal_error"`) || id == "" {
			t.Errorf("%s: %d %v %s", name, status, head, body)
		}
		_, _, body = httpCall(t, "GET", url+"/runs/"+id, "")
		if !strings.Contains(body, `"status":"errored"`) || !strings.Contains(body, `"error":`+want) {
			t.Errorf("%s: %s", name, body)
		}
		_, _, body = httpCall(t, "GET", url+"/runs/"+id+"/events?types=run_end", "")
		if !strings.Contains(body, `"result":null,"isError":true,"error":`+want) {
			t.Errorf("%s: %s", name, body)
		}
	}
	for path, want := range map[string]string{
		"/workflows/none": "workflow_not_found", "/workflows/hidden": "workflow_not_http",
	} {
		status, _, body := httpCall(t, "POST", url+path, "{}")
		if status != 404 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _, body := httpCall(t, "POST", url+"/workflows/greet", `{"who":7}`); status != 400 {
		t.Errorf("what is no input: %d %s", status, body)
	}
}

// A run that goes on is followed by several, is active until it is cancelled, and then errored.
func TestRunThatGoesOn(t *testing.T) {
	url := serveProject(t, flows)
	status, head, body := httpCall(t, "POST", url+"/workflows/waits", "{}", "Idempotency-Key", "k")
	id := head.Get("X-Flue-Run-Id")
	if status != 202 || body != `{"status":"accepted","runId":"`+id+`"}`+"\n" {
		t.Fatalf("%d %s", status, body)
	}
	_, head, _ = httpCall(t, "POST", url+"/workflows/waits", "{}", "Idempotency-Key", "k")
	if head.Get("X-Flue-Run-Id") != id {
		t.Errorf("the run of a repetition is %v", head)
	}
	if status, _, _ := httpCall(t, "POST", url+"/workflows/waits", "[1]", "Idempotency-Key", "k"); status != 409 {
		t.Errorf("another request with the key: %d", status)
	}
	q, err := http.NewRequestWithContext(t.Context(), "GET", url+"/runs/"+id+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Body.Close()
	var types []string
	lines := bufio.NewScanner(tail.Body)
	for lines.Scan() {
		if kind, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			if types = append(types, kind); kind == "log" {
				cancelOnly(t, url, id)
			}
		}
	}
	wants(t, "the stream", strings.Join(types, " "), "run_start log run_end")
	_, _, body = httpCall(t, "GET", url+"/runs/"+id, "")
	if !strings.Contains(body, `"status":"errored"`) || !strings.Contains(body, `"error":{"name":"Cancelled",`) {
		t.Errorf("then: %s", body)
	}
}

// cancelOnly cancels the only run of waits, which goes on.
func cancelOnly(t *testing.T, url, id string) {
	t.Helper()
	_, _, body := httpCall(t, "GET", url+"/runs/"+id, "")
	if !strings.Contains(body, `"status":"active"`) || strings.Contains(body, "endedAt") {
		t.Errorf("while it goes on: %s", body)
	}
	_, _, body = httpCall(t, "GET", url+"/v1/runs?workflows=waits", "")
	var page struct{ Runs []struct{ RunID string } }
	if err := json.Unmarshal([]byte(body), &page); err != nil || len(page.Runs) != 1 {
		t.Fatalf("%v: %s", err, body)
	}
	status, _, body := httpCall(t, "POST", url+"/v1/runs/"+page.Runs[0].RunID+":cancel", "{}")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
}

// What an agent does for a step is an operation, with the events of one.
func TestRunOfAnAgentOverHTTP(t *testing.T) {
	url := serveProject(t, flows)
	_, head, body := httpCall(t, "POST", url+"/workflows/asks?wait=result", "{}")
	if !strings.Contains(body, `{"result":"well"`) {
		t.Fatal(body)
	}
	_, _, body = httpCall(t, "GET", url+"/runs/"+head.Get("X-Flue-Run-Id")+"/events", "")
	var journal struct {
		Events []struct {
			Type, Session, Harness, OperationID, RunID string
			InstanceID                                 *string
			EventIndex                                 int
		}
	}
	if err := json.Unmarshal([]byte(body), &journal); err != nil {
		t.Fatal(err)
	}
	var types []string
	last := -1
	for _, e := range journal.Events {
		types = append(types, e.Type)
		ofRun := strings.HasPrefix(e.Type, "run_")
		if e.EventIndex <= last || e.RunID == "" || !ofRun && (e.Session != "default" || e.Harness != "default" ||
			e.OperationID == "" || e.InstanceID != nil) {
			t.Errorf("%+v", e)
		}
		last = e.EventIndex
	}
	wants(t, "the events", strings.Join(types, " "), "run_start operation_start agent_start turn_start message_start "+
		"message_end turn_request message_start message_end turn_end turn agent_end operation idle run_end")
}

func TestRunsOnSocketsOfAPlane(t *testing.T) {
	url := serveProject(t, flows)
	for name, want := range map[string]string{
		"greet": `result NormalClosure "Workflow completed"`, "fail": `error InternalError "Workflow failed"`,
	} {
		c, _, err := websocket.Dial(t.Context(), url+"/workflows/"+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		invoke := `{"version":1,"type":"invoke","requestId":"q","payload":{}}`
		if err := c.Write(t.Context(), websocket.MessageText, []byte(invoke)); err != nil {
			t.Fatal(err)
		}
		var told []string
		for {
			_, text, err := c.Read(t.Context())
			var closed websocket.CloseError
			if errors.As(err, &closed) {
				wants(t, name, told[len(told)-1]+" "+code(closed), want)
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var frame struct {
				Type  string
				Event struct{ Type string }
			}
			if err := json.NewDecoder(bytes.NewReader(text)).Decode(&frame); err != nil {
				t.Fatal(err)
			}
			told = append(told, strings.TrimSpace(frame.Type+" "+frame.Event.Type))
		}
		got := strings.Join(told[:len(told)-1], ", ")
		if !strings.HasPrefix(got, "ready, started, event run_start") ||
			!strings.HasSuffix(got, "event idle, event run_end") {
			t.Errorf("%s: %s", name, got)
		}
	}
	if _, got, err := websocket.Dial(t.Context(), url+"/workflows/waits", nil); err == nil || got.StatusCode != 404 {
		t.Errorf("a workflow that is offered over HTTP alone has a socket: %v", err)
	}
}

func code(e websocket.CloseError) string {
	b, _ := json.Marshal(e.Reason)
	return strings.TrimPrefix(e.Code.String(), "Status") + " " + string(b)
}

// The list of runs has pages, and conditions.
func TestRunsAreListedOverHTTP(t *testing.T) {
	url := serveProject(t, flows)
	var ids []string
	for _, name := range []string{"greet", "fail", "greet", "greet"} {
		_, head, _ := httpCall(t, "POST", url+"/workflows/"+name+"?wait=result", "{}")
		ids = append([]string{head.Get("X-Flue-Run-Id")}, ids...)
	}
	list := func(query string) (all []string, next string) {
		t.Helper()
		_, _, body := httpCall(t, "GET", url+"/admin/runs"+query, "")
		var page struct {
			Items      []struct{ RunID string }
			NextCursor string
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatal(err)
		}
		for _, one := range page.Items {
			all = append(all, one.RunID)
		}
		return all, page.NextCursor
	}
	is := func(query string, want ...string) (next string) {
		t.Helper()
		got, next := list(query)
		wants(t, query, strings.Join(got, " "), strings.Join(want, " "))
		return next
	}
	if next := is("?limit=4", ids...); next != "" {
		t.Errorf("after the last one: %s", next)
	}
	next := is("?limit=3", ids[:3]...)
	is("?limit=3&cursor="+next, ids[3])
	is("?status=errored", ids[2])
	is("?status=active")
	is("?workflowName=greet&status=completed&limit=2", ids[0], ids[1])
	is("?workflowName=none")
	if status, _, _ := httpCall(t, "GET", url+"/admin/runs/"+ids[2], ""); status != 200 {
		t.Error(status)
	}
}
