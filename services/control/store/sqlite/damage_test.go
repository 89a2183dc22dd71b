package sqlite

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
)

// A row that cannot be decoded keeps nobody else's lane from being found.
func TestDamagedLanesStopNoOthers(t *testing.T) {
	s := openAt(t, Memory)
	defer closeStore(t, s)
	for _, name := range []string{"bad", "good"} {
		if _, err := s.Admit(t.Context(), admission(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ExecText(t.Context(),
		`UPDATE submissions SET usage = '{', cancellation = '[' WHERE rowid = 1`); err != nil {
		t.Fatal(err)
	}
	dead := ident.New()
	if leases, err := s.Claim(t.Context(), dead, 10); err != nil || len(leases) != 2 {
		t.Errorf("claimed %d lanes, want 2: %v", len(leases), err)
	}
	if leases, err := s.TakeOver(t.Context(), ident.New(), []string{dead}, 10); err != nil || len(leases) != 2 {
		t.Errorf("took over %d lanes, want 2: %v", len(leases), err)
	}
}
