package link

import (
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// A word that this version does not know is an executor's problem and nobody else's.
func TestUnknownReasonIsARefusal(t *testing.T) {
	t.Parallel()
	for r, want := range map[pawlv1.Rejected_Reason]string{99: "UNSUPPORTED", 0: "UNSUPPORTED", pawlv1.Rejected_REASON_STALE_EPOCH: "STALE_EPOCH"} {
		if got := rejection(r); got != want {
			t.Errorf("%d is %q, want %q", r, got, want)
		}
	}
}
