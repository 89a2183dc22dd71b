package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/flowtest"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

// flows is a gateway with the standard workflows.
type flows struct {
	*httptest.Server
	set  *flowtest.Set
	gate flowtest.Gate
}

// withFlows serves them. change changes what the gateway works with.
func withFlows(t *testing.T, change func(*gateway.Deps)) flows {
	t.Helper()
	gate := make(flowtest.Gate)
	set := flowtest.New(flowtest.Standard(gate)...)
	t.Cleanup(set.Close)
	d := deps(planetest.New(t, hello(), hidden()))
	d.Workflows = set
	if change != nil {
		change(&d)
	}
	return flows{serve(t, d), set, gate}
}

// start starts a run and returns how clients name it.
func (f flows) start(t *testing.T, workflow, payload string, headers ...string) (id string) {
	t.Helper()
	status, head, body := raw(t, f.Server, with(
		strings.Join(append([]string{"POST /workflows/" + workflow + " HTTP/1.1"}, headers...), "\n"), payload))
	id = head.Get("X-Flue-Run-Id")
	if status != 202 || body != `{"status":"accepted","runId":"`+id+`"}`+"\n" {
		t.Fatalf("%d %v %s", status, head, body)
	}
	return id
}

// ended is the record of a run that has ended.
func (f flows) ended(t *testing.T, id string) string {
	t.Helper()
	f.events(t, id) // until its last one
	return f.get(t, "/runs/"+id)
}

// get is the body of a page that is there.
func (f flows) get(t *testing.T, path string) string {
	t.Helper()
	status, _, body := raw(t, f.Server, "GET "+path+" HTTP/1.1\nConnection: close\n"+get)
	if status != 200 {
		t.Errorf("%s: %d %s", path, status, body)
	}
	return body
}

// events is the stream of a run, to its end.
func (f flows) events(t *testing.T, id string, headers ...string) string {
	t.Helper()
	status, head, body := raw(t, f.Server, strings.Join(append(append([]string{
		"GET /runs/" + id + "/stream HTTP/1.1",
	}, headers...), get), "\n"))
	if status != 200 || head.Get("Content-Type") != "text/event-stream" || head.Get("Cache-Control") != "no-cache" ||
		head.Get("Connection") != "keep-alive" {
		t.Errorf("%d %v", status, head)
	}
	return body
}

var volatile = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`(:|op_|turn_)[0-7][0-9A-HJKMNP-TV-Z]{25}\b`), "${1}01M8…"},
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "01a2…"},
	{regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`), `"…"`},
	{regexp.MustCompile(`"timestamp":\d+`), `"timestamp":0`},
	{regexp.MustCompile(`"durationMs":\d+`), `"durationMs":1`},
	{regexp.MustCompile(`"nextCursor":"[\w-]+"`), `"nextCursor":"eyJzIjoi…"`},
}

// normal is a text without what differs each time.
func normal(text string) string {
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.by)
	}
	return text
}

const (
	noRun = "workflow:echo:01KBADC0DE0000000000000000"
	auth1 = "Host: localhost\nAuthorization: Bearer op\n"
)

// runRequests are told apart by the first rule that they break; rules are in the order in which they are checked.
var runRequests = map[string]string{
	"accepted":               with("POST /workflows/echo HTTP/1.1", `{"a":1}`),
	"accepted_encoded":       with("POST /workflows/%65cho?x=1 HTTP/1.1", `{"a":1}`),
	"accepted_without_body":  "POST /workflows/echo HTTP/1.1\n" + get,
	"accepted_fails":         with("POST /workflows/fail HTTP/1.1", `{}`),
	"wait":                   with("POST /workflows/echo?wait=result HTTP/1.1", "{ \"a\" :\r [1, \"<&>\"] }"),
	"wait_null":              with("POST /workflows/echo?wait=result HTTP/1.1", `null`),
	"wait_text":              with("POST /workflows/echo?wait=result HTTP/1.1", `"str"`),
	"wait_nothing":           with("POST /workflows/nothing?wait=result HTTP/1.1", ``),
	"wait_beats_accept":      with("POST /workflows/echo?wait=result HTTP/1.1\nAccept: text/event-stream", `1`),
	"wait_fails":             with("POST /workflows/fail?wait=result HTTP/1.1", `{}`),
	"wait_panics":            with("POST /workflows/panic?wait=result HTTP/1.1", `{}`),
	"stream":                 with("POST /workflows/echo HTTP/1.1\nAccept: text/event-stream", "{\"a\":\r1}"),
	"stream_fails":           with("POST /workflows/fail HTTP/1.1\nAccept: x, text/event-stream;q=1", `{}`),
	"stream_panics":          with("POST /workflows/panic HTTP/1.1\nAccept: text/event-stream", `{}`),
	"query_before_existence": "POST /workflows/nope?wait=foo HTTP/1.1\n" + get,
	"query_empty":            "POST /workflows/nope?wait= HTTP/1.1\n" + get,
	"query_twice":            "POST /workflows/nope?wait=result&wait=result HTTP/1.1\n" + get,
	"query_of_other_methods": "PUT /workflows/nope?wait=foo HTTP/1.1\n" + get,
	"name_blank":             with("POST /workflows/%20 HTTP/1.1", `{`),
	"workflow_unknown":       with("POST /workflows/no%3Cpe%3E HTTP/1.1", `{`),
	"workflow_not_http":      with("POST /workflows/socket HTTP/1.1", `{`),
	"workflow_hidden":        with("POST /workflows/hidden HTTP/1.1", `{`),
	"workflow_of_nobody":     "POST /workflows/echo HTTP/1.1\nHost: localhost\n\n",
	"workflow_of_a_limited":  "POST /workflows/echo HTTP/1.1\nHost: localhost\nAuthorization: Bearer shell\n\n",
	"workflow_of_executors":  "POST /workflows/echo HTTP/1.1\nHost: localhost\nAuthorization: Bearer executor\n\n",
	"body_cut":               with("POST /workflows/echo HTTP/1.1", `{"a":`),
	"body_typeless": "POST /workflows/echo HTTP/1.1\n" + auth1 +
		"Content-Length: 2\n\n{}",
	"body_text": "POST /workflows/echo HTTP/1.1\n" + auth1 +
		"Content-Type: text/plain\nContent-Length: 2\n\n{}",
	"body_vendor": "POST /workflows/echo HTTP/1.1\n" + auth1 +
		"Content-Type: application/vnd.api+json\nContent-Length: 2\n\n{}",
	"body_too_large": "POST /workflows/echo HTTP/1.1\n" + auth1 +
		"Content-Type: application/json\nContent-Length: 33554433\n\n",
	"method_get":              "GET /workflows/nope HTTP/1.1\n" + get,
	"method_head":             "HEAD /workflows/echo HTTP/1.1\n" + get,
	"method_options":          "OPTIONS /workflows/echo HTTP/1.1\n" + get,
	"path_encoded":            with("POST /no%3Cwhere/%20 HTTP/1.1", `{}`),
	"path_slash":              with("POST /workflows/echo/ HTTP/1.1", `{}`),
	"path_deeper":             with("POST /workflows/echo/x HTTP/1.1", `{}`),
	"path_empty":              with("POST /workflows/ HTTP/1.1", `{}`),
	"path_bare":               with("POST /workflows HTTP/1.1", `{}`),
	"path_doubled":            with("POST //workflows/echo HTTP/1.1", `{}`),
	"path_dots":               with("POST /workflows/x/../echo HTTP/1.1", `{}`),
	"run_unknown":             "GET /runs/" + noRun + " HTTP/1.1\n" + get,
	"run_unknown_encoded":     "GET /runs/workflow%3Aecho%3A01KBADC0DE0000000000000000 HTTP/1.1\n" + get,
	"run_malformed":           "GET /runs/no%2Frun%3C HTTP/1.1\n" + get,
	"run_blank":               "GET /runs/%20 HTTP/1.1\n" + get,
	"run_events_unknown":      "GET /runs/" + noRun + "/events HTTP/1.1\n" + get,
	"run_stream_unknown":      "GET /runs/" + noRun + "/stream HTTP/1.1\n" + get,
	"run_post":                with("POST /runs/"+noRun+" HTTP/1.1", `{}`),
	"run_head":                "HEAD /runs/" + noRun + " HTTP/1.1\n" + get,
	"run_events_delete":       "DELETE /runs/" + noRun + "/events?limit=0 HTTP/1.1\n" + get,
	"run_stream_options":      "OPTIONS /runs/" + noRun + "/stream HTTP/1.1\n" + get,
	"run_part_unknown":        "GET /runs/" + noRun + "/result HTTP/1.1\n" + get,
	"run_slash":               "GET /runs/" + noRun + "/ HTTP/1.1\n" + get,
	"runs_are_not_listed":     "GET /runs HTTP/1.1\n" + get,
	"run_of_executors":        "GET /runs/" + noRun + " HTTP/1.1\nHost: localhost\nAuthorization: Bearer executor\n\n",
	"events_after":            "GET /runs/x/events?after=-1 HTTP/1.1\n" + get,
	"events_after_twice":      "GET /runs/x/events?after=1&after=2 HTTP/1.1\n" + get,
	"events_types":            "GET /runs/x/events?types=run_start,%20log HTTP/1.1\n" + get,
	"events_types_empty":      "GET /runs/x/events?types= HTTP/1.1\n" + get,
	"events_limit_text":       "GET /runs/x/events?limit=%zz HTTP/1.1\n" + get,
	"events_limit_0_and_more": "GET /runs/x/events?limit=0&after=x HTTP/1.1\n" + get,
	"events_limit_1001":       "GET /runs/x/events?limit=1001 HTTP/1.1\n" + get,
	"events_limit_huge":       "GET /runs/x/events?limit=" + strings.Repeat("9", 400) + " HTTP/1.1\n" + get,
	"openapi":                 "HEAD /openapi.json HTTP/1.1\nHost: localhost\n\n",
	"openapi_post":            with("POST /openapi.json HTTP/1.1", `{}`),
	"openapi_post_of_nobody":  "POST /openapi.json HTTP/1.1\nHost: localhost\n\n",
	"admin_openapi":           "HEAD /admin/openapi.json HTTP/1.1\n" + get,
	"admin_agents":            "GET /admin/agents?x HTTP/1.1\n" + get,
	"admin_agents_head":       "HEAD /admin/agents HTTP/1.1\n" + get,
	"admin_agents_post":       with("POST /admin/agents HTTP/1.1", `{}`),
	"admin_agents_of_client":  "GET /admin/agents HTTP/1.1\nHost: localhost\nAuthorization: Bearer all\n\n",
	"admin_runs_of_client":    "GET /admin/runs?limit=0 HTTP/1.1\nHost: localhost\nAuthorization: Bearer all\n\n",
	"admin_run_of_client":     "GET /admin/runs/x HTTP/1.1\nHost: localhost\nAuthorization: Bearer all\n\n",
	"admin_document_client":   "GET /admin/openapi.json HTTP/1.1\nHost: localhost\nAuthorization: Bearer all\n\n",
	"admin_of_nobody":         "GET /admin/agents HTTP/1.1\nHost: localhost\n\n",
	"admin_runs_limit":        "GET /admin/runs?limit=0 HTTP/1.1\n" + get,
	"admin_runs_status":       "GET /admin/runs?status=bogus HTTP/1.1\n" + get,
	"admin_runs_status_empty": "GET /admin/runs?status= HTTP/1.1\n" + get,
	"admin_runs_two_cursors":  "GET /admin/runs?cursor=a&cursor=b HTTP/1.1\n" + get,
	"admin_runs_none":         "GET /admin/runs?workflowName=none&cursor=nonsense HTTP/1.1\n" + get,
	"admin_run_unknown":       "GET /admin/runs/" + noRun + " HTTP/1.1\n" + get,
	"admin_run_put":           "PUT /admin/runs/" + noRun + " HTTP/1.1\n" + get,
	"admin_run_events":        "GET /admin/runs/" + noRun + "/events HTTP/1.1\n" + get,
	"admin_slash":             "GET /admin/runs/ HTTP/1.1\n" + get,
	"admin_bare":              "GET /admin HTTP/1.1\n" + get,
}

func TestRunAnswers(t *testing.T) {
	f := withFlows(t, nil)
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(runRequests)) {
		status, head, body := raw(t, f.Server, runRequests[name])
		fmt.Fprintf(&out, "%s: %d %s", name, status, head.Get("Content-Type"))
		for _, h := range []string{"Allow", "Location", "X-Flue-Run-Id"} {
			if v := head.Get(h); v != "" {
				fmt.Fprintf(&out, ", %s: %s", h, v)
			}
		}
		fmt.Fprintf(&out, "\n  %s\n", strings.ReplaceAll(strings.TrimRight(body, "\n"), "\n", "\n  "))
	}
	golden(t, "runs.txt", strings.ReplaceAll(normal(out.String()), strings.Repeat("9", 400), "9…"))
}

// Without workflows every one is not registered, and no run is there.
func TestNoWorkflows(t *testing.T) {
	s := serve(t, deps(planetest.New(t, nil)))
	for request, want := range map[string]string{
		with("POST /workflows/echo HTTP/1.1", `{}`):       "workflow_not_found",
		"GET /runs/" + noRun + " HTTP/1.1\n" + get:        "run_not_found",
		"GET /runs/" + noRun + "/stream HTTP/1.1\n" + get: "run_not_found",
		"GET /admin/runs HTTP/1.1\n" + get:                `{"items":[]}`,
	} {
		if _, _, body := raw(t, s, request); !strings.Contains(body, want) {
			t.Errorf("%s: %s", strings.SplitN(request, "\n", 2)[0], body)
		}
	}
	if _, status := dial(t, s, "/workflows/echo"); status != 404 {
		t.Errorf("socket: %d", status)
	}
}

// A run has a record, which says how far it is, what it was asked with and what it came to.
func TestRunRecords(t *testing.T) {
	f := withFlows(t, nil)
	slow, echo := f.start(t, "slow", `{}`), f.start(t, "nothing", `{"a":"<b>"}`)
	records := []string{f.get(t, "/runs/"+slow), f.ended(t, echo), f.ended(t, f.start(t, "fail", `{}`))}
	golden(t, "records.txt", normal(strings.Join(records, "")))
	encoded := strings.ReplaceAll(echo, ":", "%3A")
	if f.get(t, "/admin/runs/"+encoded) != f.get(t, "/runs/"+echo) {
		t.Error("the two records differ")
	}
	// Another workflow's name does not name the run.
	other := strings.Replace(echo, "nothing", "echo", 1)
	if status, _, body := raw(t, f.Server, "GET /runs/"+other+" HTTP/1.1\n"+get); status != 404 {
		t.Errorf("%d %s", status, body)
	}
}

// A request that is repeated under its key is answered with its run.
func TestRunIdempotencyKey(t *testing.T) {
	f := withFlows(t, nil)
	first := f.start(t, "echo", `{"a":1}`, "Idempotency-Key: k")
	if again := f.start(t, "echo", `{"a":1}`, "Idempotency-Key: k"); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	if other := f.start(t, "echo", `{"a":1}`, "Idempotency-Key: other"); other == first {
		t.Errorf("%s twice", other)
	}
	status, _, body := raw(t, f.Server, with("POST /workflows/echo HTTP/1.1\nIdempotency-Key: k", `{"a":2}`))
	if status != 409 || !strings.Contains(body, `"idempotency_conflict"`) {
		t.Errorf("%d %s", status, body)
	}
}

// Whoever asks for a run is known to it.
func TestRunKnowsWhoAsked(t *testing.T) {
	f := withFlows(t, nil)
	_, id, ok := flue.ParseRunID(f.start(t, "echo", `{"a":1}`))
	if !ok {
		t.Fatal(id)
	}
	in := f.set.Started(id)
	if in.By.Kind != auth.Operator || in.Tenant != "default" || in.Idle || in.ID != id ||
		string(in.Payload) != `{"a":1}` {
		t.Errorf("%+v", in)
	}
}

// Failures of what runs are kept in are errors of the request, and name the run that it would have started.
func TestRunsThatCannotBeKept(t *testing.T) {
	f := withFlows(t, nil)
	f.set.Break(errors.New("password=hunter2"))
	for request, named := range map[string]bool{
		with("POST /workflows/echo HTTP/1.1", `{}`):       true,
		"GET /runs/" + noRun + " HTTP/1.1\n" + get:        false,
		"GET /runs/" + noRun + "/stream HTTP/1.1\n" + get: false,
		"GET /admin/runs HTTP/1.1\n" + get:                false,
	} {
		status, head, body := raw(t, f.Server, request)
		if status != 500 || head.Get("Content-Type") != "application/json" || strings.Contains(body, "hunter2") ||
			(head.Get("X-Flue-Run-Id") != "") != named {
			t.Errorf("%s: %d %v %s", strings.SplitN(request, "\n", 2)[0], status, head, body)
		}
	}
}

// The journal has no events that are for those only who were there. A page is what comes after an index, of some types,
// and at most so many.
func TestEventsOfARun(t *testing.T) {
	f := withFlows(t, nil)
	close(f.gate)
	id := f.start(t, "agentic", `{}`)
	f.events(t, id)
	for query, want := range map[string]string{
		"":                             "0 run_start 2 message_end 4 idle 5 run_end",
		"?after=0":                     "2 message_end 4 idle 5 run_end",
		"?after=2&limit=1":             "4 idle",
		"?types=run_end,idle":          "4 idle 5 run_end",
		"?types=idle&limit=1":          "4 idle",
		"?types=text_delta":            "",
		"?limit=2&x=y":                 "0 run_start 2 message_end",
		"?after=99999999999999999999":  "",
		"?after=0&types=run_start,log": "",
	} {
		var page struct {
			Events []struct {
				Type       string
				EventIndex *int
				RunID      string
			}
		}
		body := f.get(t, "/runs/"+id+"/events"+query)
		if err := json.Unmarshal([]byte(body), &page); err != nil || page.Events == nil {
			t.Fatalf("%v: %s", err, body)
		}
		var got []string
		for _, e := range page.Events {
			got = append(got, fmt.Sprint(*e.EventIndex, " ", e.Type))
			if e.RunID != id {
				t.Errorf("%+v", e)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

// frames are the ids and types of a stream's events.
func frames(body string) string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^event: (.*)\nid: (\d+)\ndata: `).FindAllStringSubmatch(body, -1) {
		out = append(out, m[2]+" "+m[1])
	}
	return strings.Join(out, " ")
}

// The stream of a run that has ended is what is left of it, and resumes after the event that a reader has seen.
func TestStreamOfAnEndedRun(t *testing.T) {
	f := withFlows(t, nil)
	id := f.start(t, "echo", `{}`)
	f.events(t, id)
	for header, want := range map[string]string{
		"A: b":                            "0 run_start 1 log 2 run_end",
		"Last-Event-ID: 0":                "1 log 2 run_end",
		"Last-Event-ID: 1":                "2 run_end",
		"Last-Event-ID: 2":                "",
		"Last-Event-ID: 9007199254740991": "",
		"Last-Event-ID: 9007199254740992": "0 run_start 1 log 2 run_end",
		"Last-Event-ID: -1":               "0 run_start 1 log 2 run_end",
		"Last-Event-ID: 1x":               "0 run_start 1 log 2 run_end",
	} {
		if got := frames(f.events(t, id, header)); got != want {
			t.Errorf("%s: %s", header, got)
		}
	}
	id = f.start(t, "echo", `"`+strings.Repeat("x", 10<<10)+`"`) // the server counts what is shorter by itself
	f.events(t, id)
	_, head, body := raw(t, f.Server, "GET /runs/"+id+"/stream?lastEventId=1 HTTP/1.1\n"+get)
	if head.Get("Content-Length") != fmt.Sprint(len(body)) || frames(body) != "0 run_start 1 log 2 run_end" {
		t.Errorf("%v %s", head, body)
	}
}

// stream opens the stream of a run that goes on.
func (f flows) stream(t *testing.T, path string) io.Reader {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer op")
	res, err := f.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res.Body
}

// read reads until a text has come.
func read(t *testing.T, from io.Reader, until string) string {
	t.Helper()
	var got strings.Builder
	for b := make([]byte, 1); !strings.Contains(got.String(), until); {
		if _, err := from.Read(b); err != nil {
			t.Fatalf("%v after %s", err, &got)
		}
		got.Write(b)
	}
	return got.String()
}

// Who follows a run gets what there is, then everything as it happens, once, and the end. What is for those only who
// were there is not kept.
func TestFollowingARun(t *testing.T) {
	f := withFlows(t, nil)
	id := f.start(t, "agentic", `{}`)
	readers := []io.Reader{f.stream(t, "/runs/"+id+"/stream"), f.stream(t, "/runs/"+id+"/stream")}
	got := []string{read(t, readers[0], "message_end\n"), read(t, readers[1], "message_end\n")}
	close(f.gate)
	for i, r := range readers {
		rest, err := io.ReadAll(r)
		all := got[i] + string(rest)
		if err != nil || frames(all) != "0 run_start 1 text_delta 2 message_end 3 text_delta 4 idle 5 run_end" {
			t.Errorf("%v: %s", err, all)
		}
	}
	if kept := frames(f.events(t, id)); kept != "0 run_start 2 message_end 4 idle 5 run_end" {
		t.Error(kept)
	}
}

// What is too large for an event is cut, and the event says so. The record has the whole result.
func TestLargeEvents(t *testing.T) {
	f := withFlows(t, nil)
	for workflow, want := range map[string][]string{
		"large": {`{"type":"run_end",`, `"result":null,`, `,"truncated":["result"],`},
		"loud":  {`"level":"info","message":"üü`, `,"truncated":["message"],`, `"message":"heard"`},
	} {
		id := f.start(t, workflow, `{}`)
		body := f.events(t, id)
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s: %s is missing", workflow, w)
			}
		}
		if len(body) > 256<<10 {
			t.Errorf("%s: %d bytes", workflow, len(body))
		}
		record := f.get(t, "/runs/"+id)
		if !strings.Contains(record, `"status":"completed"`) || workflow == "large" && len(record) < flowtest.Large {
			t.Errorf("%s: a record of %d bytes", workflow, len(record))
		}
	}
	_, _, body := raw(t, f.Server, with("POST /workflows/large?wait=result HTTP/1.1", `{}`))
	if len(body) < flowtest.Large || !strings.HasPrefix(body, `{"result":"xxx`) {
		t.Errorf("%d bytes: %.100s", len(body), body)
	}
	payload := `{"a":"` + strings.Repeat("x", 2<<20) + `"}`
	_, _, body = raw(t, f.Server, with("POST /workflows/nothing HTTP/1.1\nAccept: text/event-stream", payload))
	if !strings.Contains(body, `"payload":null,`) || !strings.Contains(body, `"truncated":["payload"]`) ||
		!strings.Contains(body, `"isError":false`) || len(body) > 4096 {
		t.Errorf("%d bytes: %.1000s", len(body), body)
	}
}

// A page that is larger than what is kept of an answer comes in parts, and is whole.
func TestLargePages(t *testing.T) {
	f := withFlows(t, nil)
	id := f.start(t, "chatty", `{}`)
	f.events(t, id)
	var page struct{ Events []struct{ EventIndex int } }
	_, head, body := raw(t, f.Server, "GET /runs/"+id+"/events HTTP/1.1\n"+get)
	err := json.Unmarshal([]byte(body), &page)
	if err != nil || len(page.Events) != 42 || head.Get("Content-Length") != "" || len(body) < 2<<20 {
		t.Errorf("%v: %d events in %d bytes, %v", err, len(page.Events), len(body), head)
	}
	if got := strings.Count(f.events(t, id), "\nid: "); got != 42 {
		t.Errorf("%d frames", got)
	}
}

// The admin routes list runs, the last ones first, page by page.
func TestListOfRuns(t *testing.T) {
	f := withFlows(t, nil)
	var want []string
	for range 3 {
		for _, workflow := range []string{"echo", "fail"} {
			id := f.start(t, workflow, `{}`)
			f.events(t, id)
			want = append([]string{id}, want...)
		}
	}
	list := func(query string) (ids []string, next string) {
		t.Helper()
		var page struct {
			Items      []struct{ RunID, Status string }
			NextCursor string
		}
		body := f.get(t, "/admin/runs"+query)
		if err := json.Unmarshal([]byte(body), &page); err != nil || page.Items == nil {
			t.Fatalf("%v: %s", err, body)
		}
		for _, one := range page.Items {
			ids = append(ids, one.RunID)
		}
		return ids, page.NextCursor
	}
	var got []string
	cursor := ""
	for range 2 {
		page, next := list("?limit=4&cursor=" + cursor)
		got, cursor = append(got, page...), next
	}
	if !slices.Equal(got, want) || cursor != "" {
		t.Errorf("%s, then %q, want %s", got, cursor, want)
	}
	if _, next := list("?limit=6"); next != "" {
		t.Errorf("there is nothing after the last page: %q", next)
	}
	if ids, _ := list("?status=errored&workflowName=fail&limit=2"); !slices.Equal(ids, []string{want[0], want[2]}) {
		t.Errorf("%s", ids)
	}
	if ids, _ := list("?workflowName=&status=completed"); len(ids) != 3 {
		t.Errorf("%s", ids)
	}
	golden(t, "runlist.txt", normal(f.get(t, "/admin/runs?limit=1")+f.get(t, "/admin/runs?limit=1&status=active")))
}

// A stream of a run has heartbeats. When the server stops it ends with an error, whose id is the last event's: the
// reader goes on elsewhere. Whoever waits for a result is told so.
func TestRunsAndTheServersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := flowtest.New(flowtest.Standard(nil)...)
		defer set.Close()
		d := deps(planetest.New(t, nil))
		stopping, stop := context.WithCancel(t.Context())
		d.Workflows, d.Stopping = set, stopping
		h := gateway.New(d)
		stream := &recorder{header: http.Header{}, written: make(chan string, 100)}
		waiting := httptest.NewRecorder()
		done := make(chan struct{}, 2)
		ask := func(w http.ResponseWriter, query, accept string) {
			url := "http://localhost/workflows/slow" + query
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
			r.Header.Set("Authorization", "Bearer op")
			r.Header.Set("Accept", accept)
			h.ServeHTTP(w, r)
			done <- struct{}{}
		}
		go ask(stream, "", "text/event-stream")
		go ask(waiting, "?wait=result", "")
		synctest.Wait()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		stop()
		<-done
		<-done
		var got strings.Builder
		for range len(stream.written) {
			got.WriteString(<-stream.written)
		}
		if text := got.String(); frames(text) != "0 run_start 1 log 1 error" ||
			strings.Count(text, "\n\n: heartbeat\n\n") != 1 || strings.Count(text, ": heartbeat\n\n") != 2 ||
			!strings.Contains(text, "event: error\nid: 1\ndata: {\"error\":{\"type\":\"server_stopping\"") {
			t.Errorf("%s", text)
		}
		if waiting.Code != 503 || !strings.Contains(waiting.Body.String(), `"server_stopping"`) ||
			waiting.Header().Get("X-Flue-Run-Id") == "" {
			t.Errorf("%d %v %s", waiting.Code, waiting.Header(), waiting.Body)
		}
	})
}

// A client that leaves does not stop its run.
func TestLeavingARun(t *testing.T) {
	f := withFlows(t, nil)
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL+"/workflows/slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer op")
	r.Header.Set("Accept", "text/event-stream")
	res, err := f.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	read(t, res.Body, "waiting")
	leave()
	_ = res.Body.Close()
	close(f.gate)
	if record := f.ended(t, res.Header.Get("X-Flue-Run-Id")); !strings.Contains(record, `"result":"waited"`) {
		t.Error(record)
	}
}

// A run is there for those whose token allows its workflow, in its tenant.
func TestForeignRuns(t *testing.T) {
	f := withFlows(t, nil)
	id, fails := f.start(t, "echo", `{}`), f.start(t, "fail", `{}`)
	f.events(t, id)
	f.events(t, fails)
	ask := func(token, request string) (int, string) {
		status, _, body := raw(t, f.Server, request+" HTTP/1.1\nHost: localhost\nAuthorization: Bearer "+token+"\n\n")
		return status, body
	}
	for token, want := range map[string][4]int{ // echo's run, fail's run, starting echo, starting fail
		"op": {200, 200, 202, 202}, "all": {200, 200, 202, 202}, "viewer": {200, 200, 403, 403},
		"shell": {404, 404, 404, 404}, "runner": {404, 200, 404, 202}, "elsewhere": {404, 404, 202, 202},
		"executor": {403, 403, 403, 403}, "nobody": {401, 401, 401, 401},
	} {
		for _, part := range []string{"", "/events", "/stream"} {
			one, body := ask(token, "GET /runs/"+id+part)
			two, _ := ask(token, "GET /runs/"+fails+part)
			if one != want[0] || two != want[1] {
				t.Errorf("%s, %s: %d and %d, want %v: %s", token, part, one, two, want, body)
			}
		}
		one, _ := ask(token, "POST /workflows/echo")
		two, _ := ask(token, "POST /workflows/fail")
		if one != want[2] || two != want[3] {
			t.Errorf("%s: starts with %d and %d, want %v", token, one, two, want)
		}
	}
	// Tenants' lists have their own, and those of the workflows that a token allows.
	for token, want := range map[string]string{"op": "echo fail", "admin": "echo fail", "runner": "fail"} {
		status, body := ask(token, "GET /admin/runs")
		var got []string
		for _, name := range []string{"echo", "fail"} {
			if strings.Contains(body, `"workflowName":"`+name+`"`) {
				got = append(got, name)
			}
		}
		if status != 200 || strings.Join(got, " ") != want {
			t.Errorf("%s: %d %s", token, status, body)
		}
	}
	if status, _ := ask("all", "GET /admin/runs"); status != 403 {
		t.Errorf("a user lists all runs: %d", status)
	}
}
