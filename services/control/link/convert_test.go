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
