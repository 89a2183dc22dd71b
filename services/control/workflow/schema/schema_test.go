package schema

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/pawl-dev/pawl/services/control/workflow"
)

func compiled(t *testing.T, made []byte, err error) *jsonschema.Schema {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(made))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("mem:///schema", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem:///schema")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func value(t *testing.T, src string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(src), &v); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The schema takes every file that Parse takes.
func TestWorkflowSchemaTakesGoodFiles(t *testing.T) {
	made, err := Workflow()
	s := compiled(t, made, err)
	files, err := filepath.Glob("../testdata/good/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(value(t, string(src))); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// What an editor can know to be wrong, the schema refuses, and so does Parse. The first file is good.
func TestWorkflowSchemaRefusesWhatParseRefuses(t *testing.T) {
	made, err := Workflow()
	s := compiled(t, made, err)
	for i, src := range []string{
		"steps: [{log: x}]",
		"step: [{log: x}]",
		"steps: []",
		"steps: [{log: x, levl: info}]",
		"steps: [{log: x, level: loud}]",
		"steps: [{logg: x}]",
		"steps: [{log: x, shell: y}]",
		"steps: [{shell: 'rm ${{ input.x }}'}]",
		"steps: [{sleep: soon}]",
		"steps: [{log: x, timeout: 5}]",
		"steps: [{log: x, retry: {attempts: 0}}]",
		"steps: [{log: x, retry: {tries: 2}}]",
		"steps: [{log: x, id: A-b}]",
		"steps: [{write: x}]",
		"steps: [{foreach: [1]}]",
		"steps: [{repeat: 3, do: [{log: x}]}]",
		"steps: [{parallel: [{log: x}]}]",
		"steps: [{set: {}}]",
		"steps: [{http: x, method: get}]",
		"steps: [{group: [{log: x, undo: [{bad: y}]}]}]",
		"{steps: [{log: x}], on: {schedule: [{tz: UTC}]}}",
		"{steps: [{log: x}], concurrency: {limit: 1}}",
		"{steps: [{log: x}], version: 2}",
		"{steps: [{log: x}], expose: [ftp]}",
		"{steps: [{log: x}], sandbox: docker}",
		"{steps: [{log: x}], catch: []}",
	} {
		bySchema := s.Validate(value(t, src))
		_, byParse := workflow.Parse("x", "x.yaml", []byte(src), workflow.Surrounding{})
		if i == 0 && (bySchema != nil || byParse != nil) {
			t.Fatalf("%s: %v, %v", src, bySchema, byParse)
		}
		if i > 0 && (bySchema == nil || byParse == nil) {
			t.Errorf("%s: the schema says %v, Parse says %v", src, bySchema, byParse)
		}
	}
}

// Every key has a text for whoever completes it, and every kind has an example of its own in the good files or the
// guide's table.
func TestEveryKeyIsDescribed(t *testing.T) {
	check := func(where string, options []workflow.Option) {
		for _, o := range options {
			if o.Doc == "" || !strings.HasSuffix(o.Doc, ".") || o.Form.Name == "" || o.Form.Schema == nil {
				t.Errorf("%s.%s: %q, %q", where, o.Name, o.Doc, o.Form.Name)
			}
		}
	}
	check("workflow", workflow.WorkflowOptions())
	check("step", workflow.CommonOptions())
	names := []string{}
	for _, k := range workflow.Kinds() {
		check(k.Name, k.Options)
		names = append(names, k.Name)
		if k.Options[0].Name != k.Name {
			t.Errorf("the main argument of %s is %s", k.Name, k.Options[0].Name)
		}
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != 19 {
		t.Errorf("%d kinds", len(names))
	}
}

func TestAgentSchema(t *testing.T) {
	made, err := Agent()
	s := compiled(t, made, err)
	for src, good := range map[string]bool{
		"{model: offline/shell}": true,
		"{model: [a/b, c/d], compaction: off, sandbox: none, expose: []}":     true,
		"{model: a/b, env: {A: x, B: null}, limits: {turns: 3, timeout: 1h}}": true,
		"{model: a/b, approve: [{tool: bash, do: ask, to: [operator]}]}":      true,
		"{model: a/b, sandbox: {executor: {labels: {role: ci}}}}":             true,
		"{}":                                 false,
		"{model: gpt}":                       false,
		"{model: a/b, tols: [bash]}":         false,
		"{model: a/b, thinking: much}":       false,
		"{model: a/b, approve: [{do: ask}]}": false,
		"{model: a/b, limits: {turns: 0}}":   false,
	} {
		if err := s.Validate(value(t, src)); (err == nil) != good {
			t.Errorf("%s: %v", src, err)
		}
	}
}

var update = flag.Bool("update", false, "write the tables into docs/workflows.md")

// The tables in docs/workflows.md are those of the kinds and their options.
func TestDocument(t *testing.T) {
	const (
		path  = "../../../../docs/workflows.md"
		begin = "<!-- tables: go test ./services/control/workflow/schema -run TestDocument -update -->\n"
		end   = "<!-- end of the tables -->\n"
	)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	shown, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatal("docs/workflows.md has no place for the tables")
	}
	want := "\n" + Tables() + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != want {
		t.Error("docs/workflows.md has other tables: run " +
			"go test ./services/control/workflow/schema -run TestDocument -update")
	}
}

// The workflows that the guides show are good.
func TestDocumentedWorkflows(t *testing.T) {
	for _, name := range []string{"docs/workflows.md", "docs/runs.md"} {
		text, err := os.ReadFile("../../../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		blocks := strings.Split(string(text), "```yaml\n")[1:]
		for _, block := range blocks {
			src, _, _ := strings.Cut(block, "```")
			if _, err := workflow.Parse("shown", name, []byte(src), workflow.Surrounding{}); err != nil {
				t.Errorf("%v\n%s", err, src)
			}
		}
		if len(blocks) < 3 {
			t.Errorf("%s shows %d workflows", name, len(blocks))
		}
	}
}
