package postgres_test

import (
	"testing"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// What a column can hold and a driver cannot scan, or an interval cannot be made of, keeps nobody's lane from being
// claimed: what decides is read, and what is lost is told.
func TestValuesThatGoCannotHoldStopNoClaim(t *testing.T) {
	address := migrated.URL(t)
	s, conn := open(t, address, postgres.Options{}), raw(t, address)
	damage := map[string]string{
		"good": `tenant = tenant`, "usage": `usage = '"x"', cancellation = '['`, "phase": `phase = 99`,
		"started": `started_at = 'infinity'`, "accepted": `accepted_at = '-infinity'`,
		"timeout": `timeout_us = 9223372036854775807`,
	}
	for name, set := range damage {
		if _, err := s.Admit(t.Context(), admission(name, "")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), `UPDATE submissions SET `+set+`
			WHERE session_id = (SELECT session_id FROM sessions WHERE name = $1)`, name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Claim(t.Context(), live(t, s), lane.KindSession, 10)
	if err != nil || len(got.Leases) != 4 || len(got.Unreadable) != 2 {
		t.Fatalf("claimed %d lanes, %d could not be read, %v", len(got.Leases), len(got.Unreadable), err)
	}
	for _, u := range got.Unreadable {
		if name := u.Key.Name; name != "usage" && name != "phase" {
			t.Errorf("%s: %v", name, u.Err)
		}
	}
	for name := range damage {
		found, err := s.FindSession(t.Context(), key(name))
		if err != nil {
			t.Fatal(err)
		}
		if all, err := s.ListSubmissions(t.Context(), found.ID, 0, 10); err != nil || len(all) != 1 {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
	}
}
