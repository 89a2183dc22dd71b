package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/api"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// pruned is a log whose first two events retention has deleted.
type pruned struct{ *sqlite.Store }

// Events implements event.Log.
func (p pruned) Events(ctx context.Context, sessionID string, after int64, limit int) ([]event.Event, error) {
	if after < 2 {
		return nil, event.TooOld(after, 2)
	}
	return p.Store.Events(ctx, sessionID, after, limit)
}

// What cannot be watched is refused before anything is streamed, in the form of the API.
func TestWatchRefusals(t *testing.T) {
	p := planetest.New(t, hello())
	d := deps(p)
	d.Sessions = api.Sessions(api.Deps{
		Agents: p.Agents, Sessions: p.Store, Submissions: p.Store, Service: p.Submissions,
		Events: event.NewService(pruned{p.Store}, wake.NewBus(nil)),
	})
	s := serve(t, d)
	if status, body := prompt(t, s, "hi"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	one, err := p.Store.FindSession(t.Context(), sessionKey)
	if err != nil {
		t.Fatal(err)
	}
	if one, err = p.Store.GetSession(t.Context(), sessionKey.Tenant, one.ID); err != nil {
		t.Fatal(err)
	}
	head := one.EventHead
	here, nowhere := "/v1/sessions/"+one.ID+"/events", "/v1/sessions/0198c0de-0000-7000-8000-000000000000/events"
	ahead := fmt.Sprint(here, "?after=", head+1)
	const op = "Bearer op"
	for name, c := range map[string]struct {
		method, path, token, last string
		status                    int
		reason                    string
		says, head                string
	}{
		"unknown session": {"GET", nowhere, op, "", 404, "SESSION_NOT_FOUND", "no such session", ""},
		"no id": {
			"GET", "/v1/sessions/x/events", op, "", 404, "SESSION_NOT_FOUND", "no such session",
			"",
		},
		"another agent's":     {"GET", here, "Bearer other", "", 404, "SESSION_NOT_FOUND", "no such session", ""},
		"an executor's token": {"GET", here, "Bearer executor", "", 403, "FORBIDDEN", "does not allow", ""},
		"no token": {
			"GET", here, "Bearer nobody", "", 401, "UNAUTHENTICATED", "",
			"Www-Authenticate: Bearer",
		},
		"no number":             {"GET", here + "?after=x", op, "", 400, "CURSOR", "Last-Event-ID", ""},
		"below nothing":         {"GET", here + "?after=-1", op, "", 400, "CURSOR", "Last-Event-ID", ""},
		"the header counts":     {"GET", here + "?after=2", op, "x", 400, "CURSOR", "Last-Event-ID", ""},
		"no such children":      {"GET", here + "?children=some", op, "", 400, "CHILDREN", "none, entries or all", ""},
		"no task":               {"GET", here + "?task=x", op, "", 400, "TASKS", "task_id", ""},
		"too old":               {"GET", here + "?after=1", op, "", 410, "CURSOR_TOO_OLD", `"continue_from":"2"`, ""},
		"too old, by header":    {"GET", here, op, "1", 410, "CURSOR_TOO_OLD", "continue after 2", ""},
		"ahead":                 {"GET", ahead, op, "", 400, "CURSOR_AHEAD", fmt.Sprint(`"head":"`, head), ""},
		"another method":        {"POST", here, op, "", 405, "METHOD", "GET", "Allow: GET"},
		"another, no session's": {"DELETE", nowhere, op, "", 405, "METHOD", "GET", "Allow: GET"},
	} {
		t.Run(name, func(t *testing.T) {
			request := fmt.Sprintf("%s %s HTTP/1.1\nHost: localhost\nAuthorization: %s\n", c.method, c.path, c.token)
			if c.last != "" {
				request += "Last-Event-ID: " + c.last + "\n"
			}
			status, head, body := raw(t, s, request+"Connection: close\n\n")
			body = strings.ReplaceAll(body, `": "`, `":"`) // protojson's spaces are random
			if status != c.status || head.Get("Content-Type") != "application/json" ||
				!strings.Contains(body, `"reason":"`+c.reason+`"`) || !strings.Contains(body, c.says) {
				t.Errorf("%d %v %s", status, head, body)
			}
			if k, v, ok := strings.Cut(c.head, ": "); ok && head.Get(k) != v {
				t.Errorf("%s is %q, want %q", k, head.Get(k), v)
			}
		})
	}
	// The last cursor that is good: from there on the stream goes on.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprint(s.URL, here, "?after=", head), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", op)
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%s %v", res.Status, res.Header)
	}
}
