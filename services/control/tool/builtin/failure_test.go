package builtin

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pawl-dev/pawl/services/control/tool"
)

func TestRenderFailures(t *testing.T) {
	for name, c := range map[string]struct {
		req     tool.Request
		rep     tool.Reply
		text    string
		details string
	}{
		"bash unknown": {
			tool.Exec{Command: "rm x"},
			tool.Failure{Reason: tool.ReasonInterrupted, Message: "whatever"},
			"The outcome of this command is unknown: it was interrupted or its result was lost. It may or may not " +
				"have run, and if it ran it may or may not have finished. Check what it has done before you repeat " +
				"it.\nWhy: whatever", `{"command":"rm x","reason":"INTERRUPTED"}`,
		},
		"edit unknown": {
			tool.EditFile{Path: "a"},
			tool.Failure{Reason: tool.ReasonInterrupted},
			"The outcome of this edit is unknown: its result was lost, and the file may or may not have been " +
				"changed. Read the file before you repeat the edit.", `{"path":"a","reason":"INTERRUPTED"}`,
		},
		"write unknown": {
			tool.WriteFile{Path: "a"},
			tool.Failure{Reason: tool.ReasonInterrupted},
			"The outcome of this call is unknown: its result was lost, and the file may or may not have been " +
				"written. Writing it again is safe.", `{"path":"a","reason":"INTERRUPTED"}`,
		},
		"read unknown": {
			tool.ReadText{Path: "a"},
			tool.Failure{Reason: tool.ReasonInterrupted},
			"The result of this call was lost. The call changes nothing: make it again if you still need the result.",
			`{"path":"a","reason":"INTERRUPTED"}`,
		},
		"other reply": {
			tool.Exec{Command: "a"},
			tool.WriteReply{},
			bash.Lost,
			`{"command":"a","reason":"INTERRUPTED"}`,
		},
		"other reply write": {
			tool.WriteFile{Path: "a"},
			tool.EditReply{},
			write.Lost,
			`{"path":"a","reason":"INTERRUPTED"}`,
		},
		"cancelled": {
			tool.Grep{Path: "a"},
			tool.Failure{Reason: tool.ReasonCancelled, Message: "x"},
			"The call was cancelled.", `{"path":"a","reason":"CANCELLED"}`,
		},
		"message": {
			tool.ReadText{Path: "a"},
			tool.Failure{Reason: "NOT_FOUND", Message: "no such file or directory"},
			"a: no such file or directory", `{"path":"a","reason":"NOT_FOUND"}`,
		},
		"message with path": {tool.ReadText{Path: "b/c"}, tool.Failure{
			Reason:  "NOT_FOUND",
			Message: "open /w/b/c: no such file\n",
		}, "open /w/b/c: no such file", `{"path":"b/c","reason":"NOT_FOUND"}`},
		"no message": {
			tool.Glob{Path: "a"},
			tool.Failure{Reason: "SANDBOX_GONE"},
			"a: sandbox gone",
			`{"path":"a","reason":"SANDBOX_GONE"}`,
		},
		"path within word": {
			tool.ReadText{Path: "a"},
			tool.Failure{Reason: "X", Message: "éa bad a1 aa"},
			"a: éa bad a1 aa",
			`{"path":"a","reason":"X"}`,
		},
		"path, later": {
			tool.ReadText{Path: "a"},
			tool.Failure{Reason: "X", Message: "bad a"},
			"bad a",
			`{"path":"a","reason":"X"}`,
		},
		"nothing": {tool.Exec{}, tool.Failure{}, "the tool failed", `{"reason":""}`},
		"unsafe": {
			tool.Exec{Command: "\x00"},
			tool.Failure{Reason: "X\xff", Message: "a\x00b"},
			"a\uFFFDb",
			"{\"command\":\"\uFFFD\",\"reason\":\"X\uFFFD\"}",
		},
		"many lines": {
			tool.Exec{},
			tool.Failure{Reason: "X", Message: numbered(1, 51)},
			numbered(1, 50) + "...",
			`{"reason":"X"}`,
		},
		"lines enough": {
			tool.Exec{},
			tool.Failure{Reason: "X", Message: numbered(1, 50)},
			strings.TrimSuffix(numbered(1, 50), "\n"), `{"reason":"X"}`,
		},
		"long": {
			tool.Exec{},
			tool.Failure{Reason: "X", Message: strings.Repeat("m", 5000)},
			strings.Repeat("m", 4096) + "...", `{"reason":"X"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := render(c.req, c.rep)
			if got.Text != c.text || string(got.Details) != c.details || !got.IsError {
				t.Errorf("got %q %s, error %v", got.Text, got.Details, got.IsError)
			}
		})
	}
}

// Output that is missing is never told as none, and a command that succeeded is not made to look as if it had not.
func TestRenderMissingOutput(t *testing.T) {
	for name, c := range map[string]struct {
		reply tool.ExecReply
		want  tool.Result
	}{
		"a part": {
			tool.ExecReply{
				Stdout: tool.Captured{Cut: 9, Size: 9, Error: "stale handle"},
				Stderr: tool.Captured{Head: []byte("warning")},
			},
			tool.Result{
				Text: "[... 9 bytes cut ...]\nwarning\n\nThe output is not complete: stale handle.\n" +
					"Command ended with exit code 0: it need not run again only because its output is missing.",
				IsError: true, Details: []byte(`{"command":"make","exitCode":0,"outputError":"stale handle"}`),
			},
		},
		"all": {
			tool.ExecReply{ExitCode: 2, Stdout: tool.Captured{Error: "broken pipe"}},
			tool.Result{
				Text: "(the output is missing)\n\nThe output is not complete: broken pipe.\nCommand exited " +
					"with code 2",
				IsError: true, Details: []byte(`{"command":"make","exitCode":2,"outputError":"broken pipe"}`),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, render(tool.Exec{Command: "make"}, c.reply)); diff != "" {
				t.Error(diff)
			}
		})
	}
	secret := tool.Clean(tool.ExecReply{Stdout: tool.Captured{Error: "no such file: /data/hunter2secret"}},
		[]string{"hunter2secret"})
	if got := secret.(tool.ExecReply).Stdout.Error; got != "no such file: /data/[redacted]" {
		t.Errorf("got %q", got)
	}
}
