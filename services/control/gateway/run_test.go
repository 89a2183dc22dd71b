package gateway_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

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
	if in.By.Kind != auth.Operator || in.Tenant != "default" || in.ID != id ||
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
