package workflowtest

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/project"
	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/graph"
)

const (
	examples = "../../../../examples"
	testdata = "../testdata"
)

var update = flag.Bool("update", false, "write the graphs into the README.md files of the examples")

// Every example is a good project, of which each workflow has a row in the table and a graph in the README.
func TestExamples(t *testing.T) {
	tables, err := filepath.Glob(filepath.Join(examples, "*", "expect.json"))
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob(filepath.Join(examples, "*", "workflows"))
	if err != nil || len(tables) != 4 || len(dirs) != len(tables) {
		t.Fatalf("%v, %v, %v", tables, dirs, err)
	}
	for _, table := range tables {
		dir := filepath.Dir(table)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			copied := t.TempDir()
			if err := Example(dir, copied); err != nil {
				t.Fatal(err)
			}
			p := checkTable(t, copied, table)
			for _, d := range p.Workflows.All() {
				drawn(t, filepath.Join(dir, "README.md"), d)
			}
		})
	}
}

// The ten workflows have all that they name, and each has a row in the table.
func TestTen(t *testing.T) {
	dir := t.TempDir()
	if err := Ten(testdata, dir); err != nil {
		t.Fatal(err)
	}
	if p := checkTable(t, dir, filepath.Join(testdata, "project", "expect.json")); len(p.Workflows.All()) != 10 {
		t.Errorf("%d workflows", len(p.Workflows.All()))
	}
}

// checkTable checks that what a table gives to runs is what their workflows take.
func checkTable(t *testing.T, dir, table string) *project.Project {
	t.Helper()
	p, err := project.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := Read(table)
	if err != nil {
		t.Fatal(err)
	}
	left, names := map[string]bool{}, map[string]bool{}
	for _, d := range p.Workflows.All() {
		left[d.Name] = true
	}
	for _, c := range cases {
		d, err := p.Workflows.Get("", c.Workflow)
		if err != nil || names[c.Name] {
			t.Errorf("%s: %v, named twice: %v", c.Name, err, names[c.Name])
			continue
		}
		delete(left, d.Name)
		names[c.Name] = true
		if _, err := d.Admit(c.Input); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		for _, name := range d.Env {
			if _, ok := c.Env[name]; !ok {
				t.Errorf("%s: the variable %s has no value", c.Name, name)
			}
		}
		if err := takes(c, d); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	if len(left) > 0 {
		t.Errorf("without a row: %v", left)
	}
	return p
}

// takes checks that a workflow asks for what a case gives.
func takes(c Case, d *workflow.Definition) error {
	signals := map[string]*workflow.Schema{}
	for s := range d.All() {
		if do, ok := s.Do.(*workflow.Signal); ok {
			signals[do.Name] = do.Result
		}
	}
	for _, s := range c.Signals {
		schema, ok := signals[s.Name]
		if !ok {
			return fmt.Errorf("no step waits for the signal %s", s.Name)
		}
		if problems := schema.Problems(s.Body); len(problems) > 0 {
			return fmt.Errorf("the signal %s: %s", s.Name, strings.Join(problems, "; "))
		}
	}
	for _, one := range c.Decisions {
		s, ok := d.Find(one.Step)
		if !ok {
			return fmt.Errorf("there is no step %s", one.Step)
		}
		if _, asks := s.Do.(*workflow.Approve); !asks || !slices.Contains([]string{"approve", "deny"}, one.Decision) {
			return fmt.Errorf("step %s cannot be decided: %s", one.Step, one.Decision)
		}
	}
	return nil
}

// drawn checks that a document has the graph of a workflow behind the comment that names it.
func drawn(t *testing.T, file string, d *workflow.Definition) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(raw), "<!-- graph of "+d.Name+":")
	comment, rest, closed := strings.Cut(rest, "-->\n")
	if !found || !closed {
		t.Fatalf("%s has no place for the graph of %s", file, d.Name)
	}
	want := "\n```mermaid\n" + graph.Mermaid(d) + "```\n"
	if strings.HasPrefix(rest, want) {
		return
	}
	if !*update {
		t.Errorf("%s has another graph of %s: run this test with -update", file, d.Name)
		return
	}
	if strings.HasPrefix(rest, "\n```mermaid\n") {
		_, rest, _ = strings.Cut(rest, "\n```\n")
	}
	text := before + "<!-- graph of " + d.Name + ":" + comment + "-->\n" + want + rest
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // part of the source
		t.Fatal(err)
	}
}

func TestCompare(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Case{
		Name: "c", Status: "failed", Reason: "r", Message: "~m.*", Output: json.RawMessage(`{"a":["~x+",1]}`),
		Files: map[string]string{"a": "~one.*"}, Logged: []string{"l"},
	}
	good := Ended{
		Status: "failed", Reason: "r", Message: "more", Output: json.RawMessage(`{"a":["xx",1.0]}`),
		Logged: []string{"l"},
	}
	if err := c.Compare(good, dir); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Ended, *Case){
		"status":  func(e *Ended, _ *Case) { e.Status = "completed" },
		"reason":  func(e *Ended, _ *Case) { e.Reason = "rr" },
		"message": func(e *Ended, _ *Case) { e.Message = "no more" },
		"element": func(e *Ended, _ *Case) { e.Output = json.RawMessage(`{"a":["xy",1]}`) },
		"longer":  func(e *Ended, _ *Case) { e.Output = json.RawMessage(`{"a":["x",1,2]}`) },
		"key":     func(e *Ended, _ *Case) { e.Output = json.RawMessage(`{"a":["x",1],"b":1}`) },
		"none":    func(e *Ended, _ *Case) { e.Output = nil },
		"log":     func(e *Ended, _ *Case) { e.Logged = nil },
		"file":    func(_ *Ended, c *Case) { c.Files = map[string]string{"a": "one"} },
		"no file": func(_ *Ended, c *Case) { c.Files = map[string]string{"b": "one"} },
	} {
		got, want := good, c
		if change(&got, &want); want.Compare(got, dir) == nil {
			t.Errorf("another %s is taken for the same", what)
		}
	}
}

func TestHosts(t *testing.T) {
	c := Case{HTTP: []Exchange{
		{Method: "GET", URL: "http://a.example/x?y=1", Status: 503},
		{Method: "GET", URL: "http://a.example/x?y=1", Status: 200, Answer: json.RawMessage(`"text"`)},
		{Method: "POST", URL: "https://b.example/", Body: json.RawMessage(`{"n": 1}`), Times: 2, Status: 201},
	}}
	if names := c.Names(); len(names) != 2 || names["a.example"] || !names["b.example"] {
		t.Errorf("%v", names)
	}
	h := c.Hosts()
	plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	defer plain.Close()
	defer secure.Close()
	ask := func(s *httptest.Server, method, host, path, body string) string {
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		res, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		said, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(res.StatusCode, " ", string(said))
	}
	for i, want := range []string{"503 ", "200 text", "501 no such request is expected\n"} {
		if got := ask(plain, "GET", "a.example", "/x?y=1", ""); got != want {
			t.Errorf("answer %d is %q, not %q", i, got, want)
		}
	}
	if got := ask(secure, "POST", "b.example", "/", `{"n":1}`); got != "201 " {
		t.Errorf("%q", got)
	}
	ask(secure, "POST", "b.example", "/", `{"n":2}`)
	got := fmt.Sprint(h.Check())
	for _, want := range []string{
		"there was the request GET http://a.example/x?y=1", `there was the request POST https://b.example/ {"n":2}`,
		"there was no request POST https://b.example/",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
}
