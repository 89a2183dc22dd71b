package turn

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
)

// anybody is a user of whom nothing but the turn's number is asked.
type anybody struct{ User }

func (anybody) Turn() int { return 1 }

// gRPC sends no string that is not UTF-8: what an event shows of a long call is cut between characters.
func TestPreviewsAreCutBetweenCharacters(t *testing.T) {
	s := NewStrand(&Lane{}, anybody{}, Who{}, &Kit{})
	for shift := range 3 {
		long := strings.Repeat("x", shift) + strings.Repeat("€", maxPreview)
		e := s.requested(call.Call{}, &approval.Approval{
			Subject: approval.Subject{Arguments: json.RawMessage(long), Diff: long},
		})
		for _, got := range []string{e.Approval.Arguments, e.Approval.Diff} {
			if !utf8.ValidString(got) || !e.Approval.Cut || len(got) > maxPreview || len(got) < maxPreview-4 {
				t.Errorf("%d: %d bytes, cut %v", shift, len(got), e.Approval.Cut)
			}
		}
	}
}
