package main

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/pgtest"
	lease "github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// Whether a lease holds is decided by what replicas have counted, whatever the database's clock has done since.
func TestLeasesHoldByThePlatformsClock(t *testing.T) {
	ctx, url := t.Context(), pgtest.URL(t)
	store, err := postgres.Open(ctx, url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	living, dead := lease.Replica{ID: ident.New()}, lease.Replica{ID: ident.New()}
	for _, r := range []lease.Replica{living, dead} {
		if _, err := store.RegisterReplica(ctx, r, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // of a connection that is done
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(record)
	exec(`UPDATE replicas SET expires = now() - interval '1 second' WHERE replica_id = $1`, dead.ID)
	for name, sql := range map[string]string{
		"as it was":                      `SELECT 1`,
		"a jump ahead, unseen":           `UPDATE clock SET ahead_us = 7200e6`,
		"a jump back, unseen":            `UPDATE clock SET ahead_us = -7200e6`,
		"who vouched for it comes late":  `UPDATE clock SET ahead_us = 0, seen = now() - interval '20 seconds'`,
		"somebody vouches for it again":  `UPDATE clock SET ahead_us = 0, seen = now()`,
		"a jump ahead, and another look": `UPDATE clock SET ahead_us = -7200e6, seen = now()`,
	} {
		exec(sql)
		for r, want := range map[string]bool{living.ID: true, dead.ID: false} {
			var holds bool
			if err := conn.QueryRow(ctx, "SELECT chaos.holds($1)", r).Scan(&holds); err != nil {
				t.Fatal(err)
			}
			if holds != want {
				t.Errorf("%s: the lease holds: %v", name, holds)
			}
		}
	}
}
