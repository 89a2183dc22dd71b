package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/flowtest"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
)

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
