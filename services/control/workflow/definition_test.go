package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/schedule"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

const rich = `
description: Has every key.
version: 1
input: {type: object, required: [n], properties: {n: {type: integer}, mode: {type: string, default: fast}}}
agent: helper
sandbox: {executor: {labels: {role: ci}}}
env: [HOME_URL]
timeout: 1d12h
limits: {turns: 10, tokens: 1000, cost_usd: 2.5}
concurrency: {key: "${{ input.mode }}", limit: 2, policy: cancel_oldest}
on: {schedule: [{cron: "0 3 * * MON-FRI", tz: Europe/Berlin, catchup: all, input: {n: 1}}]}
expose: [websocket, http]
steps:
  - id: build
    name: The build
    if: input.n > 0
    shell: make
    env: {TOKEN: "Bearer ${{ secrets.TOKEN }}", N: "${{ input.n }}", PORT: 80}
    cwd: src
    exit_codes: [0, 2]
    safety: idempotent
    on_unknown: retry
    timeout: ${{ duration('5m') }}
    retry: {attempts: 3, backoff: 1s500ms, max: 1m, on: [exit_code]}
    on_error: continue
    undo: [{log: undone}]
  - prompt: Look.
    model: a/b
    thinking: high
    limits: {turns: 2}
    images: [a.png]
    data: {n: "${{ input.n }}", list: [1, 2.5, true, null, x]}
  - id: files
    foreach: [a, b]
    as: file
    parallel: 4
    do: [{id: one, read: "${{ file }}"}]
  - id: both
    parallel: {left: [{sleep: 1w}], right: [{id: s, signal: go.now}]}
  - repeat: 5
    every: 10s
    until: "true"
    do: [{http: "http://x/${{ env.HOME_URL }}", headers: {A: "${{ secrets.API }}"}, ok: [200]}]
catch: [{log: failed}]
finally: [{log: "over ${{ input.mode }}"}]
output: {n: "${{ input.n }}"}
`

func TestParseReadsEveryKey(t *testing.T) {
	d, err := parse(t, rich)
	if err != nil {
		t.Fatal(err)
	}
	if d.Timeout != 36*time.Hour || d.Limits != (Limits{10, 1000, 2.5}) || d.Agent != "helper" ||
		!reflect.DeepEqual(d.Env, []string{"HOME_URL"}) || d.Description != "Has every key." ||
		!reflect.DeepEqual(d.Expose, []agent.Surface{agent.HTTP, agent.WebSocket}) || !d.Exposes(agent.HTTP) ||
		!reflect.DeepEqual(d.Sandbox, &agent.Sandbox{
			Kind: agent.SandboxExecutor, Labels: map[string]string{"role": "ci"},
		}) {
		t.Errorf("%+v", d)
	}
	weekdays := Schedule{"0 3 * * MON-FRI", "Europe/Berlin", schedule.CatchupAll, json.RawMessage(`{"n":1}`)}
	if !reflect.DeepEqual(d.Schedules, []Schedule{weekdays}) || d.Concurrency.Limit != 2 ||
		d.Concurrency.Policy != CancelOldest {
		t.Errorf("%+v, %+v", d.Schedules, d.Concurrency)
	}
	build := d.Steps[0]
	if build.ID != "build" || build.Name != "The build" || build.Kind != "shell" || build.Line != 14 ||
		!build.Continue ||
		!reflect.DeepEqual(build.Retry, Retry{3, 1500 * time.Millisecond, time.Minute, []string{"exit_code"}}) {
		t.Errorf("%+v", build)
	}
	shell := build.Do.(*Shell)
	if shell.Command != "make" || !reflect.DeepEqual(shell.ExitCodes, []int{0, 2}) || shell.Safety != Idempotent ||
		shell.OnUnknown != UnknownRetry {
		t.Errorf("%+v", shell)
	}
	prompt := d.Steps[1].Do.(*Prompt)
	if *prompt.Model != (model.Ref{Provider: "a", ID: "b"}) || prompt.Thinking != model.ThinkingHigh ||
		prompt.Limits.Turns != 2 {
		t.Errorf("%+v", prompt)
	}
	if names := d.Secrets(); !reflect.DeepEqual(names, []string{"API", "TOKEN"}) {
		t.Errorf("secrets %v", names)
	}
	var paths []string
	for s := range d.All() {
		paths = append(paths, s.Path)
	}
	want := []string{
		"build", "build.undo.log-1", "prompt-2", "files", "files.one", "both", "both.left.sleep-1", "both.right.s",
		"repeat-5", "repeat-5.http-1", "catch.log-1", "finally.log-1",
	}
	if !reflect.DeepEqual(paths, want) {
		t.Errorf("%v", paths)
	}
	if s, ok := d.Find("both.right.s"); !ok || s.Do.(*Signal).Name != "go.now" {
		t.Errorf("%+v", s)
	}
}

// Expressions of steps have the values of their scopes.
func TestStepsAreEvaluated(t *testing.T) {
	d, err := parse(t, rich)
	if err != nil {
		t.Fatal(err)
	}
	in := expr.Values{
		"input": map[string]any{"n": int64(2), "mode": "fast"}, "env": map[string]any{"HOME_URL": "h"},
		"secrets": map[string]any{"TOKEN": "t"},
	}
	build := d.Steps[0]
	if holds, err := build.If.Holds(t.Context(), in); !holds || err != nil {
		t.Errorf("%v, %v", holds, err)
	}
	if length, err := build.Timeout.Eval(t.Context(), in); length != 5*time.Minute || err != nil {
		t.Errorf("%v, %v", length, err)
	}
	for name, want := range map[string]string{"TOKEN": "Bearer t", "N": "2", "PORT": "80"} {
		if got, err := build.Do.(*Shell).Env[name].Text(t.Context(), in); got != want || err != nil {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	data, err := d.Steps[1].Do.(*Prompt).Data.Eval(t.Context(), in)
	want := map[string]any{"n": int64(2), "list": []any{int64(1), 2.5, true, nil, "x"}}
	if err != nil || !reflect.DeepEqual(data, want) {
		t.Errorf("%#v, %v", data, err)
	}
	if key, err := d.Concurrency.Key.Text(t.Context(), in); key != "fast" || err != nil {
		t.Errorf("%q, %v", key, err)
	}
}

func TestAdmit(t *testing.T) {
	d, err := parse(t, rich)
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Admit(json.RawMessage(`{"n": 12345678901234567}`))
	if err != nil || string(got) != `{"mode":"fast","n":12345678901234567}` {
		t.Errorf("%s, %v", got, err)
	}
	for input, want := range map[string]string{
		"":                 "n: is required",
		`{"n": "x"}`:       "n: must be an integer, got string",
		`{`:                "it is not JSON",
		`[1]`:              "must be an object, got array",
		`{"n": 1} {}`:      "it is not JSON",
		`{"n":1,"mode":1}`: "mode: must be a string",
	} {
		_, err := d.Admit(json.RawMessage(input))
		if !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", input, err)
		}
	}
	free, err := parse(t, "steps: [{log: x}]")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := free.Admit(json.RawMessage(`[1]`)); err != nil || string(got) != "[1]" {
		t.Errorf("%s, %v", got, err)
	}
}

// A file cannot hold more than a loader can bear.
func TestFilesAreBounded(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 'b'; i < 'j'; i++ {
		bomb += fmt.Sprintf("%c: &%c [%s*%c]\n", i, i, strings.Repeat(fmt.Sprintf("*%c, ", i-1), 9), i-1)
	}
	steps := func(n int, one string) string { return "steps:\n" + strings.Repeat("  - "+one+"\n", n) }
	logs := func(source string) string { return "steps: [{log: '${{ " + source + " }}'}]" }
	deep := "steps: " + strings.Repeat("[{group: ", 30) + "[{log: x}]" + strings.Repeat("}]", 30)
	for src, want := range map[string]string{
		bomb:                      "has more than 50000 values",
		"steps: &a [{group: *a}]": "*a stands inside of what it names",
		steps(2001, "log: x"):     "x.yaml:2002:5: a file has at most 2000 steps",
		steps(1001, "log: ${{ 1 }}${{ 2 }}${{ 3 }}"): "a file has at most 2000 expressions",
		deep:                                   "steps are nested more than 20 deep",
		logs(strings.Repeat("1+", 2100) + "1"): "an expression has at most 4 KiB",
		logs(strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300)): "recursion",
		strings.Repeat("#", 1<<20) + "\n":                               "is larger than 1 MiB",
		"steps: \x00":                                                   "contains a NUL character",
		"":                                                              "is empty",
		"a: [":                                                          "not valid YAML",
		"{steps: [{log: x}]}\n---\n{}":                                  "must be a single YAML document",
	} {
		start := time.Now()
		if _, err := parse(t, src); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %.300v", src, err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%.60q takes %v", src, took)
		}
	}
	if _, err := Parse("no name", "x.yaml", nil, Surrounding{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// mostParse bounds how long a small file takes, on a machine that has other things to do.
const mostParse = 5 * time.Second

// FuzzParse reads any file. Problems are within it.
func FuzzParse(f *testing.F) {
	f.Add(rich)
	for _, dir := range []string{"testdata/good/", "testdata/bad/"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range entries {
			src, err := os.ReadFile(dir + e.Name())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(src))
		}
	}
	f.Fuzz(func(t *testing.T, src string) {
		start := time.Now()
		d, err := Parse("x", "x.yaml", []byte(src), Surrounding{})
		if took := time.Since(start); took > mostParse {
			t.Errorf("%q takes %v", src, took)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v", err)
			}
			return
		}
		body, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var again Definition
		if err := json.Unmarshal(body, &again); err != nil || again.Digest() != d.Digest() {
			t.Errorf("what is stored of %q is another one: %v", src, err)
		}
		if paths := slices.Collect(func(yield func(string) bool) {
			for s := range d.All() {
				if !yield(s.Path) {
					return
				}
			}
		}); len(slices.Compact(slices.Sorted(slices.Values(paths)))) != len(paths) {
			t.Errorf("%q: two steps have one path: %v", src, paths)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	src, err := os.ReadFile("testdata/good/triage.yaml")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("x", "x.yaml", src, Surrounding{}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSecretsMustBeSet(t *testing.T) {
	src := "steps:\n- shell: \"true\"\n  env: {A: 'x ${{ secrets.GOOD }} ${{ secrets.BAD }}'}\n"
	_, err := Parse("x", "x.yaml", []byte(src), Surrounding{Secret: func(name string) bool { return name == "GOOD" }})
	if err == nil || err.Error() != "x.yaml:3:39: secret BAD is not set" {
		t.Errorf("%v", err)
	}
}
