package postgres_test

import (
	"fmt"
	"testing"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// TestAnyMessageCanSettle, also one that no text column takes.
func TestAnyMessageCanSettle(t *testing.T) {
	s := open(t, migrated.URL(t), postgres.Options{})
	l := start(t, s, "a", live(t, s))
	c := settling(l)
	c.Steps[0].End.Outcome, c.Steps[0].End.Message = lane.Failed, "bad \x00 byte \xff"
	if _, err := s.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	got, err := s.GetSubmission(t.Context(), l.Root().Key.Tenant, l.Root().ID)
	if err != nil || got.Message != "bad \uFFFD byte \uFFFD" {
		t.Errorf("message %q, %v", got.Message, err)
	}
}

// TestBatchAnswersEachOperation commits one batch of which some are stale, some repeated and some new.
func TestBatchAnswersEachOperation(t *testing.T) {
	s := open(t, migrated.URL(t), postgres.Options{})
	owner := live(t, s)
	var leases []*lane.Lease
	var commits []lane.Commit
	for i := range 12 {
		l := start(t, s, fmt.Sprint(i), owner)
		c := step(l)
		switch i % 4 {
		case 1:
			c.Fence.Epoch--
		case 2:
			if _, err := s.Commit(t.Context(), c); err != nil { // its answer was lost
				t.Fatal(err)
			}
		case 3:
			c.Steps[0].Outcomes = []call.Outcome{{CallID: "nowhere", State: call.Done}}
		}
		leases, commits = append(leases, l), append(commits, c)
	}
	_, errs := s.CommitTogether(t.Context(), commits)
	for i, l := range leases {
		want, n := error(nil), int64(2)
		switch i % 4 {
		case 1:
			want, n = lane.ErrFenced, 1
		case 3:
			want, n = call.ErrNotFound, 1
		}
		refused(t, errs[i], want)
		dense(t, s, l.Fence.LaneID, n)
	}
}
