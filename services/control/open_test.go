package control

import (
	"testing"

	"github.com/pawl-dev/pawl/services/control/store/postgres"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
)

// The lines about an outage are left out of the log where something else tells of the outage: Postgres's store does,
// and nothing does for a file.
func TestOutagesThatTheStoreTellsOf(t *testing.T) {
	if !DatabaseAway(postgres.ErrUnavailable) {
		t.Error("each operation of an outage of Postgres is a line")
	}
	for _, err := range []error{sqlite.ErrUnavailable, sqlite.ErrFull} {
		if DatabaseAway(err) {
			t.Errorf("%v: no line tells of it", err)
		}
	}
}
