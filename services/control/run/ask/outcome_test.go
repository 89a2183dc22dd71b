package ask

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/tool/command"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// wrote is a command that has ended with a code, and written so.
func wrote(code int, out, errs string) tool.ExecReply {
	return tool.ExecReply{ExitCode: code, Stdout: stream(out), Stderr: stream(errs), Confirmed: true, Whole: true}
}

func stream(text string) tool.Captured {
	return tool.Captured{Head: []byte(text), Size: int64(len(text))}
}

// want is what an outcome has to be.
type want struct {
	state  step.State
	reason string         // unless it has completed
	says   string         // within the message
	out    map[string]any // if it has completed
}

func fine(out map[string]any) want   { return want{state: step.Completed, out: out} }
func fails(reason, says string) want { return want{state: step.Failed, reason: reason, says: says} }
func stops(reason, says string) want { return want{state: step.Cancelled, reason: reason, says: says} }

func unknown(says string) want {
	return want{state: step.Unknown, reason: drive.ReasonUnknown, says: says}
}

func (w want) compare(t *testing.T, name string, o drive.Outcome) {
	t.Helper()
	switch {
	case o.State != w.state:
		t.Errorf("%s: it is %s, %+v", name, o.State, o.Failed)
	case w.state == step.Completed:
		if o.Failed != nil || !reflect.DeepEqual(o.Output, w.out) {
			t.Errorf("%s: the outputs are %v, %+v", name, o.Output, o.Failed)
		}
	case o.Failed == nil || o.Failed.Reason != w.reason || !strings.Contains(o.Failed.Message, w.says):
		t.Errorf("%s: the failure is %+v", name, o.Failed)
	case o.Output != nil:
		t.Errorf("%s: it has outputs: %v", name, o.Output)
	}
}

// came is what the call of a step came to.
type came struct {
	step  string // its id
	reply tool.Reply
	want  want
}

// compare has all of the calls made by a tool, nil for steps that call none.
func compare(t *testing.T, requests map[string]any, of *tool.Tool, all map[string]came) {
	t.Helper()
	for name, c := range all {
		a, err := Of(requests[c.step], of)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.want.compare(t, name, Outcome(requests[c.step], a.Call, c.reply))
	}
}

const resultSchema = "result: {type: object, required: [n], properties: {n: {type: integer}, m: {default: 7}}}"

// result is that of a step which has it as data with 1.
var result = map[string]any{"n": int64(1), "m": int64(7)}

// failure is a call that was not carried out.
func failure(reason, message string) tool.Reply {
	return tool.Failure{Reason: reason, Message: message}
}

var unseenReply, cancelledReply = failure(tool.ReasonInterrupted, "it was away"), failure(tool.ReasonCancelled, "")

func TestOutcomesOfCommands(t *testing.T) {
	all := requests(t, definition(t, `
steps:
  - {id: plain, shell: x}
  - {id: codes, shell: x, exit_codes: [0, 3]}
  - {id: pure, shell: x, safety: pure}
  - id: data
    shell: x
    `+resultSchema), nil)
	says := func(code int, out, errs string) map[string]any {
		return map[string]any{"stdout": out, "stderr": errs, "exit_code": code}
	}
	large := says(0, `{"n": 9007199254740993}`, "")
	large["result"] = map[string]any{"n": int64(9007199254740993), "m": int64(7)}
	long := strings.Repeat("long\n", 100_000)
	compare(t, all, nil, map[string]came{
		"success":             {"plain", wrote(0, "out\n", "err\n"), fine(says(0, "out\n", "err\n"))},
		"a long output":       {"plain", wrote(0, long, ""), fine(says(0, long, ""))},
		"a code that may":     {"codes", wrote(3, "", ""), fine(says(3, "", ""))},
		"another code":        {"plain", wrote(3, "", "bad\n"), fails(drive.ReasonExitCode, "ended with 3: bad")},
		"data":                {"data", wrote(0, `{"n": 9007199254740993}`, ""), fine(large)},
		"other data":          {"data", wrote(0, `{"n": "x"}`, ""), fails(drive.ReasonResult, "n")},
		"no data":             {"data", wrote(0, `hello`, ""), fails(drive.ReasonResult, "stdout is not JSON")},
		"no text":             {"plain", wrote(0, "a\xff", ""), fails(drive.ReasonText, "2 bytes")},
		"errors of no text":   {"plain", wrote(0, "", "a\xff"), fine(says(0, "", "a\ufffd"))},
		"never started":       {"plain", cancelledReply, stops(drive.ReasonCancelled, "")},
		"unseen":              {"plain", unseenReply, unknown("it was away")},
		"unseen, of no words": {"plain", failure(tool.ReasonInterrupted, " "), unknown("nobody saw")},
		"unseen, no effect":   {"pure", unseenReply, fails(drive.ReasonInterrupted, "it was away")},
		"unavailable":         {"plain", failure("UNAVAILABLE", "no executor"), fails("unavailable", "no executor")},
		"odd reason":          {"plain", failure("Odd reason!", ""), fails(drive.ReasonTool, "odd reason!")},
		"another answer":      {"plain", tool.FileReply{}, unknown("no answer")},
		"no answer":           {"plain", nil, unknown("no answer")},
	})
}

func TestOutcomesOfCommandsThatDoNotEndWell(t *testing.T) {
	all := requests(t, definition(t, "steps: [{id: plain, shell: x}]"), nil)
	much := tool.Captured{Head: []byte("h"), Tail: []byte("t"), Cut: 12 << 20}
	for name, c := range map[string]struct {
		change func(r *tool.ExecReply) // of one that has ended well
		want   want
	}{
		"much output": {
			func(r *tool.ExecReply) { r.Whole, r.Stdout = false, much },
			fails(drive.ReasonTooLarge, "ended with 0, and has written 12582914 bytes"),
		},
		"much output of one that fails": {
			func(r *tool.ExecReply) { r.Whole, r.Stdout, r.ExitCode = false, much, 1 },
			fails(drive.ReasonExitCode, "ended with 1: h … t"),
		},
		"lost output": {
			func(r *tool.ExecReply) { r.Whole, r.Stderr.Error = false, "the disk is full" },
			fails(drive.ReasonLost, "ended with 0, and its output is not complete: the disk is full"),
		},
		"output that is not whole": {
			func(r *tool.ExecReply) { r.Whole = false }, fails(drive.ReasonLost, "older version"),
		},
		"too long": {
			func(r *tool.ExecReply) { r.TimedOut = true }, fails(drive.ReasonTimeout, "took too long"),
		},
		"too long, and maybe longer": {
			func(r *tool.ExecReply) { r.TimedOut, r.Confirmed = true, false },
			fails(drive.ReasonTimeout, "could not be confirmed"),
		},
		"cancelled": {
			func(r *tool.ExecReply) { r.Cancelled = true }, stops(drive.ReasonCancelled, "cancelled"),
		},
		"cancelled, and maybe not": {
			func(r *tool.ExecReply) { r.Cancelled, r.Confirmed = true, false },
			stops(drive.ReasonUnconfirmed, "could not be confirmed"),
		},
	} {
		r := wrote(0, "o", "")
		c.change(&r)
		compare(t, all, nil, map[string]came{name: {"plain", r, c.want}})
	}
}

func TestOutcomesOfFiles(t *testing.T) {
	all := requests(t, definition(t, `
steps:
  - {id: file, read: dir/a}
  - {id: out, write: dir/b, content: content}
  - id: data
    read: dir/a
    `+resultSchema), nil)
	sum := sha256.Sum256([]byte("content"))
	hash := hex.EncodeToString(sum[:])
	file := func(content string) tool.Reply { return tool.FileReply{Content: []byte(content), SHA256: sum[:]} }
	there := map[string]any{"path": "dir/b", "sha256": hash, "size": 7}
	compare(t, all, nil, map[string]came{
		"read no data":     {"data", file(""), fails(drive.ReasonResult, "the content is not JSON")},
		"read bytes":       {"file", file("\xff"), fails(drive.ReasonText, "dir/a has 1 bytes")},
		"no such file":     {"file", failure("NOT_FOUND", "none"), fails("not_found", "dir/a: none")},
		"a large file":     {"file", failure("TOO_LARGE", "it is large"), fails(drive.ReasonTooLarge, "it is large")},
		"a hanging file":   {"file", failure("TIMEOUT", ""), fails(drive.ReasonTimeout, "timeout")},
		"an unseen read":   {"file", unseenReply, fails(drive.ReasonInterrupted, "it was away")},
		"a cancelled read": {"file", cancelledReply, stops(drive.ReasonCancelled, "")},
		"what is no file":  {"file", tool.WriteReply{}, fails(drive.ReasonInterrupted, "no answer")},
		"written":          {"out", tool.WriteReply{Size: 7, SHA256: sum[:]}, fine(there)},
		"written of old":   {"out", tool.WriteReply{Size: 7}, fine(there)},
		"no permission":    {"out", failure("PERMISSION", "no"), fails("permission", "dir/b: no")},
		"an unseen write":  {"out", unseenReply, fails(drive.ReasonInterrupted, "it was away")},
		"read": {"file", file("content"), fine(map[string]any{
			"content": "content", "sha256": hash, "size": 7,
		})},
		"read data": {"data", file(`{"n":1}`), fine(map[string]any{
			"content": `{"n":1}`, "sha256": hash, "size": 7, "result": result,
		})},
	})
}

// answer is what a step sees of a tool that has answered, data of one whose answer has a result.
func answer(text string) want { return fine(map[string]any{"text": text}) }
func data(text string) want   { return fine(map[string]any{"text": text, "result": result}) }

func calls(t *testing.T) map[string]any {
	t.Helper()
	return requests(t, definition(t, "steps: [{id: plain, call: t}, {id: data, call: t, "+resultSchema+"}]"), nil)
}

func TestOutcomesOfTools(t *testing.T) {
	long := strings.Repeat("long\n", 50_000)
	n := json.RawMessage(`{"n":1}`)
	for safety, unseen := range map[tool.Safety]want{
		tool.AtMostOnce: unknown("it was away"), tool.Idempotent: fails(drive.ReasonInterrupted, "it was away"),
	} {
		of, err := tool.Offered{Name: "t", Description: "d", Schema: json.RawMessage(`{}`), Safety: safety}.Tool("e")
		if err != nil {
			t.Fatal(err)
		}
		compare(t, calls(t), of, map[string]came{
			"said":                 {"plain", tool.Said{Text: "x"}, answer("x")},
			"said much":            {"plain", tool.Said{Text: long}, answer(long)},
			"data alone":           {"plain", tool.Said{Structured: n}, answer(`{"n":1}`)},
			"data as text":         {"data", tool.Said{Text: `{"n":1}`}, data(`{"n":1}`)},
			"data beside the text": {"data", tool.Said{Text: "One.", Structured: n}, data("One.")},
			"no data":              {"data", tool.Said{Text: "One."}, fails(drive.ReasonResult, "is not JSON")},
			"an error":             {"plain", tool.Said{Text: "no", IsError: true}, fails(drive.ReasonTool, "no")},
			"not offered":          {"plain", failure("TOOL_NOT_OFFERED", "m"), fails("tool_not_offered", "m")},
			"unseen":               {"plain", unseenReply, unseen},
		})
	}
	server, err := tool.Define(tool.Spec{
		Name: "t", Schema: json.RawMessage(`{}`), Safety: tool.Pure, Source: "s", How: tool.ByServer(
			func([]byte) (tool.ServerCall, error) { return tool.ServerCall{}, nil }, tool.ServerReply.Show),
	})
	if err != nil {
		t.Fatal(err)
	}
	cut := tool.ServerReply{Left: 3}
	parts := []tool.ServerPart{{Text: "a"}, {Image: []byte("i")}, {Text: "b"}}
	compare(t, calls(t), server, map[string]came{
		"a server":           {"data", tool.ServerReply{Parts: parts, Structured: `{"n":1}`}, data("a\nb")},
		"a server's data":    {"data", tool.ServerReply{Structured: `{"n":1}`}, data(`{"n":1}`)},
		"a server's error":   {"plain", tool.ServerReply{Parts: parts, IsError: true}, fails(drive.ReasonTool, "a\nb")},
		"a server's all":     {"plain", cut, fails(drive.ReasonTooLarge, "3 bytes")},
		"another's":          {"plain", tool.Said{}, fails(drive.ReasonInterrupted, "no answer")},
		"a server of no use": {"plain", failure("MCP_UNAVAILABLE", "m"), fails("mcp_unavailable", "m")},
	})
}

func TestOutcomesOfCommandTools(t *testing.T) {
	long := strings.Repeat("long\n", 50_000)
	late, much := wrote(124, "", ""), wrote(0, "", "")
	late.TimedOut, much.Whole, much.Stdout.Cut = true, false, 12<<20+1
	compare(t, calls(t), plainCommand(t, command.Text), map[string]came{
		"a command":                    {"plain", wrote(0, long, "err"), answer(long)},
		"a command with data":          {"data", wrote(0, `{"n":1}`, ""), data(`{"n":1}`)},
		"a command that fails":         {"plain", wrote(2, "", "bad"), fails(drive.ReasonExitCode, "with 2: bad")},
		"a command of bytes":           {"plain", wrote(0, "\xff", ""), fails(drive.ReasonText, "1 bytes")},
		"a command that takes long":    {"plain", late, fails(drive.ReasonTimeout, "long")},
		"a command that says too much": {"plain", much, fails(drive.ReasonTooLarge, "12582913")},
	})
	compare(t, calls(t), plainCommand(t, command.Image), map[string]came{
		"a picture": {
			"plain", tool.ExecReply{Image: []byte("\x89PNG\r\n\x1a\n")}, answer("An image (image/png, 8 bytes)."),
		},
		"no picture":        {"plain", tool.ExecReply{Confirmed: true}, fails(drive.ReasonTool, "wrote no image")},
		"a picture of none": {"plain", wrote(1, "", "bad"), fails(drive.ReasonExitCode, "bad")},
	})
}

// plainCommand is a command tool without arguments.
func plainCommand(t *testing.T, out command.Output) *tool.Tool {
	t.Helper()
	of, err := command.Definition{
		Name: "t", Description: "d", Command: "c", Safety: tool.AtMostOnce, Output: out,
		Arguments: json.RawMessage(`{"type": "object"}`),
	}.Tool()
	if err != nil {
		t.Fatal(err)
	}
	return of
}

// A call whose tool has gone away meanwhile is read as what it came to.
func TestOutcomesOfToolsThatAreGone(t *testing.T) {
	request := drive.Call{Step: &workflow.Call{Tool: "t"}}
	a, err := Of(request, plainCommand(t, command.Text))
	if err != nil {
		t.Fatal(err)
	}
	gone := builtin.Accepted(a.Block, tool.KindExecutor, tool.AtMostOnce).Call
	for name, c := range map[string]struct {
		reply tool.Reply
		want  want
	}{
		"said":      {tool.Said{Text: "x"}, answer("x")},
		"a command": {wrote(0, "o", ""), answer("o")},
		"its end":   {wrote(1, "o", ""), fails(drive.ReasonExitCode, "o")},
		"a file":    {tool.FileReply{}, unknown("")},
		"gone":      {failure("TOOL_GONE", "m"), fails("tool_gone", "m")},
	} {
		c.want.compare(t, name, Outcome(request, gone, c.reply))
	}
}

// Watchers are told which calls have failed, by the step's own measure.
func TestCallsThatFailAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		codes []int
		reply tool.ExecReply
		want  bool
	}{
		"success":         {nil, wrote(0, "", ""), false},
		"a code":          {nil, wrote(1, "", ""), true},
		"a code that may": {[]int{1}, wrote(1, "", ""), false},
		"0 that may not":  {[]int{1}, wrote(0, "", ""), true},
		"cancelled":       {nil, tool.ExecReply{Cancelled: true}, true},
	} {
		a, err := Of(drive.Shell{Step: &workflow.Shell{Command: "c", ExitCodes: c.codes}}, nil)
		if err != nil || a.Result(c.reply).IsError != c.want {
			t.Errorf("%s: %v, %v", name, a.Result(c.reply).IsError, err)
		}
	}
}

func TestStopped(t *testing.T) {
	unsure := &call.Cancellation{Unconfirmed: []call.Unconfirmed{{CallID: "c", Tool: "bash", Message: "it is away"}}}
	for name, c := range map[string]struct {
		of   *call.Cancellation
		want want
	}{
		"of nothing":  {nil, stops(drive.ReasonCancelled, "cancelled")},
		"confirmed":   {&call.Cancellation{Confirmed: true}, stops(drive.ReasonCancelled, "cancelled")},
		"unconfirmed": {unsure, stops(drive.ReasonUnconfirmed, "it is away")},
		"of no calls": {&call.Cancellation{}, stops(drive.ReasonUnconfirmed, "cancelled")},
	} {
		c.want.compare(t, name, Stopped(c.of))
	}
}
