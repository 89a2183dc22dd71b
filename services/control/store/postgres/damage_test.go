package postgres_test

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// A row that cannot be decoded keeps nobody else's lane from being found.
func TestDamagedLanesStopNoOthers(t *testing.T) {
	address := migrated.URL(t)
	s, conn := open(t, address, postgres.Options{}), raw(t, address)
	for _, name := range []string{"bad", "good"} {
		if _, err := s.Admit(t.Context(), admission(name, "")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(t.Context(), `UPDATE submissions SET usage = '"x"', cancellation = '['
		WHERE session_id = (SELECT session_id FROM sessions WHERE name = 'bad')`); err != nil {
		t.Fatal(err)
	}
	dead := live(t, s)
	if leases, err := s.Claim(t.Context(), dead, 10); err != nil || len(leases) != 2 {
		t.Errorf("claimed %d lanes, want 2: %v", len(leases), err)
	}
	if leases, err := s.TakeOver(t.Context(), ident.New(), []string{dead}, 10); err != nil || len(leases) != 2 {
		t.Errorf("took over %d lanes, want 2: %v", len(leases), err)
	}
}
