package openapi_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/gateway/openapi"
	"github.com/pawl-dev/pawl/services/control/gateway/transcode"
)

type parameter struct {
	Name, In, Description string
	Required              bool
}

type operation struct {
	OperationID, Summary, Description string
	Parameters                        []parameter
	Responses                         map[string]struct {
		Description string
		Content     map[string]any
	}
}

type document struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]any }
}

func read(t *testing.T) (d document, text string) {
	t.Helper()
	body, err := openapi.Document()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatal(err)
	}
	return d, string(body)
}

// key names an operation as templates of both sides do.
func key(method, path string) string {
	return strings.ToUpper(method) + " " + strings.NewReplacer("{key.", "{", "{target.", "{").Replace(path)
}

// The document has every route, and nothing else.
func TestEveryRoute(t *testing.T) {
	d, _ := read(t)
	have := map[string]bool{}
	for path, item := range d.Paths {
		for method := range item {
			have[key(method, path)] = true
		}
	}
	var served []string
	for _, r := range transcode.Routes() {
		served = append(served, key(r.Method, r.Path))
	}
	for _, path := range transcode.FilePaths {
		for _, method := range transcode.FileMethods {
			served = append(served, key(method, path))
		}
	}
	for _, k := range served {
		if !have[k] {
			t.Errorf("%s is not in the document", k)
		}
		delete(have, k)
	}
	if len(have) > 0 {
		t.Errorf("nothing serves %v", have)
	}
}

// Every operation has a name of its own, a description, its path's parameters, and its errors with their reasons.
func TestOperationsAreWhole(t *testing.T) {
	d, _ := read(t)
	ids := map[string]string{}
	for path, item := range d.Paths {
		for method, op := range item {
			where := key(method, path)
			if other, taken := ids[op.OperationID]; taken || op.OperationID == "" {
				t.Errorf("%s: the name %q is also that of %s", where, op.OperationID, other)
			}
			ids[op.OperationID] = where
			if len(op.Description) < 20 || op.Summary == "" || strings.Contains(op.Summary, "\n") {
				t.Errorf("%s: %q, %q", where, op.Summary, op.Description)
			}
			for _, m := range regexp.MustCompile(`{([^}]*)}`).FindAllStringSubmatch(path, -1) {
				is := func(p parameter) bool { return p.Name == m[1] && p.In == "path" && p.Required }
				if !slices.ContainsFunc(op.Parameters, is) {
					t.Errorf("%s: no parameter %s", where, m[1])
				}
			}
			for _, status := range []string{"200", "401", "403", "500", "503"} {
				if method == "delete" && status == "200" {
					continue // 204, without content
				}
				if r := op.Responses[status]; r.Description == "" || len(r.Content) == 0 {
					t.Errorf("%s: no answer %s", where, status)
				}
			}
		}
	}
}

// What comments of proto/ say of errors is in the document, and streams are described as what they are.
func TestWhatIsAdded(t *testing.T) {
	d, text := read(t)
	one := d.Paths["/v1/sessions/{session_id}"]["get"]
	if !strings.Contains(one.Responses["404"].Description, "SESSION_NOT_FOUND") {
		t.Errorf("%+v", one.Responses)
	}
	events := d.Paths["/v1/sessions/{session_id}/events"]["get"]
	for _, reason := range []string{"CURSOR_TOO_OLD", "CURSOR_AHEAD"} {
		if !strings.Contains(events.Responses["410"].Description, reason) {
			t.Errorf("%+v", events.Responses)
		}
	}
	ok := events.Responses["200"].Content
	if ok["text/event-stream"] == nil || ok["application/x-ndjson"] == nil || ok["application/json"] != nil {
		t.Errorf("%v", ok)
	}
	if strings.Contains(text, "google.rpc.Status") {
		t.Error("errors have two forms")
	}
	for _, ref := range regexp.MustCompile(`"#/components/schemas/([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if d.Components.Schemas[ref[1]] == nil {
			t.Errorf("no schema %s", ref[1])
		}
	}
}

// The page shows every operation, inside of what a browser opens for its link, and loads nothing. A schema's fields are
// a table, and code looks like code.
func TestPage(t *testing.T) {
	page, err := openapi.Page()
	if err != nil {
		t.Fatal(err)
	}
	d, _ := read(t)
	for _, item := range d.Paths {
		for _, op := range item {
			if !strings.Contains(string(page), `<div id="`+op.OperationID+`">`) {
				t.Errorf("%s is not on the page", op.OperationID)
			}
		}
	}
	for _, part := range []string{
		`<a href="#Session">`, `<h2 id="Session">`, `<div id="pawl.v1.Submission">`,
		"<td><code>message</code></td>", `<a href="#pawl.v1.SubmissionStarted">SubmissionStarted</a>`,
	} {
		if !strings.Contains(string(page), part) {
			t.Errorf("the page lacks %s", part)
		}
	}
	for _, banned := range []string{"`", "<script", "<img", "<link", "src=", "http://", "url("} {
		if strings.Contains(string(page), banned) {
			t.Errorf("the page has %s", banned)
		}
	}
}
