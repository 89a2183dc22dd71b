package postgres

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// TestWhatTheWallCosts counts the statements of a transaction that admits, to new sessions and to known ones.
func TestWhatTheWallCosts(t *testing.T) {
	for _, c := range []struct {
		wall                        string
		tenants, fresh, known, want int
	}{
		{"", 3, 6, 6, 2},
		{"role", 1, 1, 0, 2},
		{"role", 1, 0, 1, 2},
		{"role", 1, 60, 60, 3},
		{"role", 3, 6, 0, 6},
		{"role", 3, 0, 6, 7},  // the lanes first
		{"role", 3, 6, 6, 14}, // and as the platform again, for the lanes
	} {
		w := admitting{store: &Store{wall: c.wall}, batch: &pgx.Batch{}}
		var fresh, known []int
		for i := range c.fresh + c.known {
			key := session.Key{Tenant: fmt.Sprint(i % c.tenants), Agent: "a", Instance: "i", Name: fmt.Sprint(i)}
			w.ops = append(w.ops, &admissionOp{in: admission{
				Admission: submission.Admission{ID: ident.New(), Key: key}, within: key.Tenant,
			}})
			w.places = append(w.places, place{sessionID: ident.New(), fresh: i < c.fresh})
			if i < c.fresh {
				fresh = append(fresh, i)
			} else {
				known = append(known, i)
			}
		}
		if err := w.queue(true, fresh); err != nil {
			t.Fatal(err)
		}
		if err := w.queue(false, known); err != nil {
			t.Fatal(err)
		}
		if got := w.batch.Len(); got != c.want {
			t.Errorf("%+v: %d statements", c, got)
		}
	}
}
