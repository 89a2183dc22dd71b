package postgres_test

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
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
	got, err := s.Claim(t.Context(), live(t, s), lane.KindSession, 10)
	if err != nil || len(got.Leases) != 1 || got.Leases[0].Root().Key.Name != "good" || len(got.Unreadable) != 1 {
		t.Errorf("claimed %+v, %v", got, err)
	}
}
