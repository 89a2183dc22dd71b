package postgres_test

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// A run that passes its key while somebody cancels it is counted as what it is by then: whoever settles it waits for
// the key before it looks at the run.
func TestARunThatPassesWhileItIsCancelled(t *testing.T) {
	address := migrated.URL(t)
	s, conn := open(t, address, postgres.Options{}), raw(t, address)
	var second run.Run
	for range 2 {
		out, err := s.StartRun(t.Context(), run.Start{
			ID: ident.New(), SubmissionID: ident.New(), Tenant: session.DefaultTenant, Workflow: "w",
			Gate: &run.Gate{Key: "k", Limit: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		second = out.Run
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT 1 FROM conc_keys FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	aborted := make(chan error, 1)
	go func() {
		_, err := s.RequestAbort(t.Context(), session.DefaultTenant, second.SubmissionID)
		aborted <- err
	}()
	until(t, raw(t, address), `SELECT count(*) > 0 FROM pg_stat_activity
		WHERE wait_event_type = 'Lock' AND datname = current_database()`)
	for _, sql := range []string{
		`SET LOCAL lock_timeout = 300`, // it does not wait for who waits for it
		`UPDATE runs SET blocked = false WHERE run_id = '` + second.ID + `'`,
		`UPDATE conc_keys SET active = 2, waiting = 0, lim = 2`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-aborted; err != nil {
		t.Fatal(err)
	}
	var active, waiting int
	if err := conn.QueryRow(t.Context(), `SELECT active, waiting FROM conc_keys`).Scan(&active, &waiting); err != nil ||
		active != 1 || waiting != 0 {
		t.Errorf("the key counts %d and %d, %v", active, waiting, err)
	}
}
