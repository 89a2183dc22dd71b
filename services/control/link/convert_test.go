package link

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// A word that this version does not know is an executor's problem and nobody else's.
func TestUnknownReasonIsARefusal(t *testing.T) {
	t.Parallel()
	for r, want := range map[pawlv1.Rejected_Reason]string{
		99: "UNSUPPORTED", 0: "UNSUPPORTED",
		pawlv1.Rejected_REASON_STALE_EPOCH: "STALE_EPOCH",
	} {
		if got := rejection(r); got != want {
			t.Errorf("%d is %q, want %q", r, got, want)
		}
	}
}

// An executor that knows a later owner of the lane says so with its epoch: a restored database does not know that one.
func TestRejectionTellsTheEpochThatIsKnown(t *testing.T) {
	t.Parallel()
	rep, ok := report("e", &pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Rejected{
		Rejected: &pawlv1.Rejected{CallId: "c", Epoch: 3, KnownEpoch: 7, Reason: pawlv1.Rejected_REASON_STALE_EPOCH},
	}})
	want := call.Rejected{Epoch: 3, Known: 7, Reason: "STALE_EPOCH"}
	if !ok || rep.CallID != "c" || rep.Body != want {
		t.Errorf("got %+v of %q, want %+v", rep.Body, rep.CallID, want)
	}
}

// A variable without a value is one that the executor takes away.
func TestOrderTakesVariablesAway(t *testing.T) {
	x := encodeOrder(&call.Order{
		Request: tool.Exec{Command: "true", Cwd: "d"},
		Env:     map[string]*string{"A": new("a"), "Z": nil, "B": nil},
	})
	if got := x.GetEnv(); len(got) != 1 || got["A"] != "a" {
		t.Errorf("env %v", got)
	}
	if got := x.GetUnsetEnv(); !slices.Equal(got, []string{"B", "Z"}) {
		t.Errorf("unset %v", got)
	}
	if got := x.GetExec().GetCwd(); got != "d" {
		t.Errorf("cwd %q", got)
	}
}

// A call of an executor's tool takes no longer than the tool may, and what it has to say is taken within bounds.
func TestCallsOfOfferedTools(t *testing.T) {
	for _, c := range []struct{ left, own, want time.Duration }{
		{0, 0, 0},
		{time.Hour, 0, time.Hour},
		{0, time.Minute, time.Minute},
		{time.Hour, time.Minute, time.Minute},
		{time.Second, time.Minute, time.Second},
	} {
		x := encodeOrder(&call.Order{Timeout: c.left, Request: tool.CallTool{
			Tool: "cad", Args: []byte(`{"a":1}`), Timeout: c.own,
		}})
		if x.GetCallTool().GetName() != "cad" || x.GetCallTool().GetArgsJson() != `{"a":1}` ||
			x.GetTimeout().AsDuration() != c.want {
			t.Errorf("left %v, own %v: %v", c.left, c.own, x)
		}
	}
	reply := func(r *pawlv1.CallToolResult) tool.Reply {
		return decodeReply(&pawlv1.Result{Outcome: &pawlv1.Result_CallTool{CallTool: r}})
	}
	want := tool.Said{Text: "t", Structured: []byte(`[1]`), Images: [][]byte{{1}}, IsError: true}
	got := reply(&pawlv1.CallToolResult{Text: "t", StructuredJson: "[1]", Images: [][]byte{{1}}, IsError: true})
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	for says, r := range map[string]*pawlv1.CallToolResult{
		"at most 8388608 are possible":                   {Text: strings.Repeat("x", tool.MaxSaid+1)},
		"has 11 images":                                  {Images: make([][]byte, 11)},
		"the tool's structured result is not valid JSON": {StructuredJson: "{"},
	} {
		if f, ok := reply(r).(tool.Failure); !ok || !strings.Contains(f.Message, "the tool has run, and ") ||
			!strings.Contains(f.Message, says) {
			t.Errorf("want %q, got %+v", says, f)
		}
	}
}

// What steps of workflows ask for goes to executors whole, and so does what these answer.
func TestWholeOutputAndFiles(t *testing.T) {
	x := encodeOrder(&call.Order{Request: tool.Exec{Command: "cat", Input: []byte("in"), Whole: true}}).GetExec()
	if !x.GetWhole() || string(x.GetInput()) != "in" {
		t.Errorf("the command is %v", x)
	}
	if got := encodeOrder(&call.Order{Request: tool.ReadFile{Path: "f"}}).GetReadWhole().GetPath(); got != "f" {
		t.Errorf("the file is %q", got)
	}
	for mode, want := range map[*uint32]bool{nil: false, new(uint32(0)): true} {
		w := encodeOrder(&call.Order{Request: tool.WriteFile{Path: "f", Mode: mode}}).GetWriteFile()
		if got := w.Mode != nil; got != want {
			t.Errorf("a mode is asked for: %v, want %v", got, want)
		}
	}
	for _, c := range []struct {
		res  *pawlv1.Result
		want tool.Reply
	}{
		{&pawlv1.Result{Outcome: &pawlv1.Result_Exec{Exec: &pawlv1.ExecResult{
			Stdout: &pawlv1.Captured{Head: []byte("x"), Size: 1}, Whole: true,
		}}}, tool.ExecReply{Stdout: tool.Captured{Head: []byte("x"), Size: 1}, Whole: true}},
		{&pawlv1.Result{Outcome: &pawlv1.Result_Content{Content: &pawlv1.ContentResult{
			Content: []byte("x"), Sha256: []byte("y"),
		}}}, tool.FileReply{Content: []byte("x"), SHA256: []byte("y")}},
		{
			&pawlv1.Result{Outcome: &pawlv1.Result_File{File: &pawlv1.FileResult{Size: 1, Sha256: []byte("y")}}},
			tool.WriteReply{Size: 1, SHA256: []byte("y")},
		},
	} {
		if got := decodeReply(c.res); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v is %+v, want %+v", c.res, got, c.want)
		}
	}
}
