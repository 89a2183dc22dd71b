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
