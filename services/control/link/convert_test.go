package link

import (
	"slices"
	"testing"

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
