package drive

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

func TestOutcomesOfCommandsAndRequests(t *testing.T) {
	def := parse(t, `
steps:
  - id: plain
    shell: x
  - id: codes
    shell: x
    exit_codes: [0, 3]
  - id: data
    shell: x
    result: {type: object, required: [n], properties: {n: {type: integer}}}
  - id: default
    shell: x
    result: {type: object, properties: {n: {type: integer, default: 7}}}
  - id: web
    http: https://example.com
  - id: created
    http: https://example.com
    ok: [201]
    result: {type: array, items: {type: string}}
`)
	shell := func(id string) *workflow.Shell { s, _ := def.Find(id); return s.Do.(*workflow.Shell) }
	web := func(id string) *workflow.HTTP { s, _ := def.Find(id); return s.Do.(*workflow.HTTP) }
	for _, c := range []struct {
		name   string
		got    Outcome
		reason string // "" completes
		says   string
	}{
		{"a command", Ran(shell("plain"), "out", "", 0), "", ""},
		{"one that fails", Ran(shell("plain"), "out", "no such file\n", 2), ReasonExitCode, "with 2: no such file"},
		{"one that says much", Ran(shell("plain"), strings.Repeat("ü", 1000), "", 2), ReasonExitCode, "with 2: … "},
		{"another code", Ran(shell("codes"), "", "", 3), "", ""},
		{"data", Ran(shell("data"), `{"n": 9007199254740993}`, "", 0), "", ""},
		{"other data", Ran(shell("data"), `{"n": "x"}`, "", 0), ReasonResult, "n"},
		{"two values", Ran(shell("default"), `{} {}`, "", 0), ReasonResult, "not JSON"},
		{"no data", Ran(shell("data"), `hello`, "", 0), ReasonResult, "not JSON"},
		{"an answer", Fetched(web("web"), 204, nil, ""), "", ""},
		{"a refusal", Fetched(web("web"), 404, nil, "gone"), ReasonStatus, "404 Not Found: gone"},
		{"another status", Fetched(web("created"), 200, nil, `["a"]`), ReasonStatus, "200"},
		{"its data", Fetched(web("created"), 201, nil, `["a"]`), "", ""},
	} {
		if c.reason == "" {
			if c.got.State != step.Completed {
				t.Errorf("%s: %+v", c.name, c.got.Failed)
			}
			continue
		}
		if f := c.got.Failed; f == nil || f.Reason != c.reason || !strings.Contains(f.Message, c.says) {
			t.Errorf("%s: %+v, want %s that says %q", c.name, f, c.reason, c.says)
		}
	}
	if out := Ran(shell("default"), `{}`, "", 0).Output["result"]; out.(map[string]any)["n"] != int64(7) {
		t.Errorf("without what has a default: %v", out) // which expressions rely on
	}
	n := Ran(shell("data"), `{"n": 9007199254740993}`, "", 0).Output["result"].(map[string]any)["n"]
	if n != int64(9007199254740993) {
		t.Errorf("a large number became %v", n)
	}
}

// The failure of a step that takes too long says whether something of it may go on.
func TestATimeoutSaysWhatMayGoOn(t *testing.T) {
	def := parse(t, "steps: [{id: slow, shell: x, timeout: 5m}]")
	for name, c := range map[string]struct{ reason, want string }{
		"confirmed":   {ReasonCancelled, "the step took longer than its timeout"},
		"unconfirmed": {ReasonUnconfirmed, "the step took longer than its timeout: it may run"},
	} {
		m := New(context.Background(), def, Facts{ID: "r"}, nil, nil)
		m.Due("slow", time.Time{})
		m.Ended("slow", Outcome{State: step.Cancelled, Failed: &step.Failure{Reason: c.reason, Message: "it may run"}})
		effects := m.Next()
		end, ok := effects[len(effects)-1].(End)
		if !ok || end.Failed == nil || end.Failed.Reason != ReasonTimeout || end.Failed.Message != c.want {
			t.Errorf("%s: %+v", name, end.Failed)
		}
	}
}
