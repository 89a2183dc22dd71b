package ask

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/tool/command"
	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// deploy is a command tool of a project.
var deploy = command.Definition{
	Name: "deploy", Description: "Deploys.", Command: "./deploy", Safety: tool.AtMostOnce,
	Arguments: json.RawMessage(`{"type": "object", "properties": {"to": {"type": "string"}, "n": {"type": "integer"}},
		"required": ["to"], "additionalProperties": false}`),
}

// definition is one of a file.
func definition(t *testing.T, text string) *workflow.Definition {
	t.Helper()
	d, err := workflow.Parse("w", "w.yaml", []byte(text), workflow.Surrounding{
		Tool: func(name string) (of workflow.Tool, ok bool) {
			if name == deploy.Name {
				of.Command = &deploy
			}
			return of, true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// requests are what the steps of a run ask for that all begin at once, by their ids.
func requests(t *testing.T, d *workflow.Definition, input any) map[string]any {
	t.Helper()
	m := drive.New(t.Context(), d, drive.Facts{Input: input, Run: map[string]any{"id": "r"}, ID: "r"}, nil, nil)
	all := map[string]any{}
	for len(all) < 100 {
		effects := m.Next()
		if len(effects) == 0 {
			break
		}
		for _, e := range effects {
			do, ok := e.(drive.Do)
			if !ok {
				continue
			}
			q, err := m.Request(do.Path, map[string]string{"TOKEN": "s3cret"})
			if err != nil {
				t.Fatal(err)
			}
			all[do.Step.ID] = q
			m.Ended(do.Path, drive.Outcome{State: 2, Output: map[string]any{}})
		}
	}
	return all
}

func mode(bits uint32) *uint32 { return &bits }

func TestCallsOfSteps(t *testing.T) {
	d := definition(t, `
sandbox: local
steps:
  - id: plain
    shell: make
  - id: full
    shell: make "$T"
    env: {T: "${{ secrets.TOKEN }}", IN: "${{ input.x }}"}
    cwd: sub/${{ input.x }}
    stdin: ${{ input.x }}
    safety: pure
    sandbox: {executor: {labels: {role: ci}}}
  - id: again
    shell: make
    safety: idempotent
  - id: file
    read: a/${{ input.x }}
  - id: out
    write: b
    content: ${{ input.x }}
  - id: script
    write: b
    content: c
    mode: "0755"
  - id: tool
    call: deploy
    with: {to: "${{ input.x }}", n: 2}
  - id: files
    call: glob
    with: {pattern: "*.go"}
`)
	tools := map[string]*tool.Tool{}
	for s := range d.All() {
		if do, ok := s.Do.(*workflow.Call); ok {
			of, known, err := Tool(d, do)
			if !known || err != nil {
				t.Fatalf("%s: %v, %v", s.ID, known, err)
			}
			tools[s.ID] = of
		}
	}
	all := requests(t, d, map[string]any{"x": "X"})
	for id, want := range map[string]struct {
		request tool.Request
		name    string
		safety  tool.Safety
	}{
		"plain": {tool.Exec{Command: "make", Env: map[string]string{}, Whole: true}, "shell", tool.AtMostOnce},
		"full": {tool.Exec{
			Command: `make "$T"`, Env: map[string]string{"T": "s3cret", "IN": "X"}, Cwd: "sub/X", Input: []byte("X"),
			Whole: true,
		}, "shell", tool.Pure},
		"again":  {tool.Exec{Command: "make", Env: map[string]string{}, Whole: true}, "shell", tool.Idempotent},
		"file":   {tool.ReadFile{Path: "a/X"}, "read", tool.Pure},
		"out":    {tool.WriteFile{Path: "b", Content: tool.Text("X"), Mode: mode(0o644)}, "write", tool.Idempotent},
		"script": {tool.WriteFile{Path: "b", Content: tool.Text("c"), Mode: mode(0o755)}, "write", tool.Idempotent},
		"tool": {tool.Exec{
			Command: "./deploy", Input: []byte(`{"n":2,"to":"X"}`),
			Env: map[string]string{"ARG_TO": "X", "ARG_N": "2"}, Whole: true,
		}, "deploy", tool.AtMostOnce},
		"files": {tool.Glob{Pattern: "*.go"}, "glob", tool.Pure},
	} {
		a, err := Of(all[id], tools[id])
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		of := a.Call.Tool
		if !reflect.DeepEqual(a.Call.Request, want.request) || of.Name != want.name || of.Safety != want.safety ||
			of.Kind() != tool.KindExecutor {
			t.Errorf("%s: %s, %s, %+v", id, of.Name, of.Safety, a.Call.Request)
		}
		b, err := Of(requests(t, d, map[string]any{"x": "X"})[id], tools[id]) // another owner
		first, hashed := a.Call.Hash("", nil)
		second, again := b.Call.Hash("", nil)
		if err := errors.Join(err, hashed, again); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: another owner asks for something else: %v", id, err)
		}
	}
	for id, kind := range map[string]agent.SandboxKind{"plain": agent.SandboxLocal, "full": agent.SandboxExecutor} {
		s, _ := d.Find(id)
		if got := Sandbox(d, s.Do); got.Kind != kind {
			t.Errorf("%s runs in %+v", id, got)
		}
	}
}

// What a definition does not know is an agent's, or an executor's.
func TestToolsOfElsewhere(t *testing.T) {
	d := definition(t, "steps: [{call: executor/deploy}, {call: mcp_github_issues}, {call: task}]")
	for s := range d.All() {
		if of, ok, err := Tool(d, s.Do.(*workflow.Call)); ok || err != nil {
			t.Errorf("%s is %v, %v", s.Key, of, err)
		}
	}
	if got := Sandbox(d, d.Steps[0].Do); got.Kind != "" {
		t.Errorf("the sandbox is %+v", got)
	}
}

// What cannot be asked for fails, and says why.
func TestStepsThatCannotBeAskedFor(t *testing.T) {
	bash, err := builtin.Tools().Find("bash")
	if err != nil {
		t.Fatal(err)
	}
	own, err := deploy.Tool()
	if err != nil {
		t.Fatal(err)
	}
	shell := func(q drive.Shell) drive.Shell {
		q.Step = &workflow.Shell{Command: "c" + q.Cwd}
		return q
	}
	env := func(name, value string) drive.Shell { return shell(drive.Shell{Env: map[string]string{name: value}}) }
	call := func(with any) drive.Call { return drive.Call{Step: &workflow.Call{Tool: "t"}, With: with} }
	const args = drive.ReasonArguments
	for name, c := range map[string]struct {
		request any
		of      *tool.Tool
		reason  string
		says    string
	}{
		"no path":          {drive.Read{Path: " "}, nil, args, "path is empty"},
		"a path of C":      {drive.Read{Path: "a\x00b"}, nil, args, "NUL"},
		"no path to write": {drive.Write{Step: &workflow.Write{}}, nil, args, "path is empty"},
		"much content": {drive.Write{
			Step: &workflow.Write{}, Path: "p", Content: strings.Repeat("x", tool.MaxWhole+1),
		}, nil, args, "12582912 are possible"},
		"no variable":      {env("A=B", "c"), nil, args, "name of a variable"},
		"a variable of C":  {env("A", "\x00"), nil, args, "variable A"},
		"a large variable": {env("A", strings.Repeat("x", 128<<10)), nil, args, "by stdin"},
		"a directory of C": {shell(drive.Shell{Cwd: "\x00"}), nil, args, "NUL"},
		"large input": {
			shell(drive.Shell{Stdin: strings.Repeat("x", tool.MaxInput+1)}), nil, args,
			"1048576 are possible",
		},
		"no tool":      {call(nil), nil, "tool_unknown", "no tool t"},
		"no mapping":   {call("x"), bash, args, "mapping"},
		"nothing":      {call(nil), bash, args, "command: is required"},
		"another name": {call(map[string]any{"cmd": "x"}), bash, args, "command: is required"},
		"another type": {
			call(map[string]any{"command": "x", "timeout": "5"}), bash, args, "timeout: must be a number",
		},
		"one of too many": {call(map[string]any{"to": "x", "from": "y"}), own, args, "arguments"},
		"a wrapped object": {
			call(map[string]any{"arguments": map[string]any{"to": "x"}}), own, args, "to: is required",
		},
	} {
		_, err := Of(c.request, c.of)
		o, ok := Failed(err)
		if !ok || o.Failed == nil || o.Failed.Reason != c.reason || !strings.Contains(o.Failed.Message, c.says) {
			t.Errorf("%s: %v, %+v", name, err, o.Failed)
		}
	}
	if _, err := Of(drive.Signal{}, nil); err == nil {
		t.Error("a signal is no call")
	} else if _, ok := Failed(err); ok {
		t.Error("a run is told of a bug")
	}
	if _, ok := Failed(errs.New(errs.Unavailable, "DATABASE_UNAVAILABLE", "")); ok {
		t.Error("a run fails because the database does not answer for a moment")
	}
	if o, ok := Failed(expr.ErrFailed.With("no such key")); !ok || o.Failed.Reason != drive.ReasonExpression {
		t.Errorf("an expression that fails: %+v", o.Failed)
	}
}

// A model's slips are no step's: a timeout that a model would mean in milliseconds is in seconds.
func TestArgumentsAreTakenAsTheyAreWritten(t *testing.T) {
	bash, err := builtin.Tools().Find("bash")
	if err != nil {
		t.Fatal(err)
	}
	a, err := Of(drive.Call{Step: &workflow.Call{}, With: map[string]any{
		"command": "```\nx\n```", "timeout": int64(20_000),
	}}, bash)
	want := tool.Exec{Command: "```\nx\n```", TimeoutSeconds: 20_000, Whole: true}
	if err != nil || !reflect.DeepEqual(a.Call.Request, want) {
		t.Errorf("%+v, %v", a.Call.Request, err)
	}
}
