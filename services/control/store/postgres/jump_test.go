package postgres_test

import (
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// A real server's clock jumps by hours, there and back, and crashes meanwhile. Deadlines, pauses and leases go on as if
// it had not, for those that have seen it and for a replica that starts later.
func TestServersClockJumps(t *testing.T) {
	cluster, err := pgtest.Start(t.Context(), pgtest.Options{NoFsync: true, Clock: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Stop() })
	address := cluster.URL
	stores := []*postgres.Store{open(t, address, postgres.Options{}), open(t, address, postgres.Options{})}
	ids := make([]string, len(stores))
	for i, s := range stores {
		ids[i] = ident.New()
		if _, err := s.RegisterReplica(t.Context(), replica.Replica{ID: ids[i]}, replica.TTL); err != nil {
			t.Fatal(err)
		}
	}
	a := admission("runs", ids[0])
	a.Timeout = time.Hour
	if _, err := stores[0].Admit(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	paused, err := stores[0].Admit(t.Context(), admission("rests", ids[0]))
	if err != nil {
		t.Fatal(err)
	}
	err = stores[0].Release(t.Context(), paused.Lease.Fence, lane.Release{
		Stalled: paused.Submission.ID, Cause: "it failed", Pause: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	check := func(s *postgres.Store, who int) {
		t.Helper()
		held, err := s.Own(t.Context(), ids[0])
		if err != nil || len(held) != 1 || held[0].Ends.In > time.Hour || held[0].Ends.In < time.Hour-time.Minute {
			t.Errorf("%d: what runs: %+v, %v", who, held, err)
		}
		next, err := s.Claim(t.Context(), ids[0], lane.KindSession, 1)
		if err != nil || len(next.Leases) != 0 || next.Next > time.Minute || next.Next <= 0 {
			t.Errorf("%d: what rests is due in %v, %d claimed, %v", who, next.Next, len(next.Leases), err)
		}
		taken, err := s.TakeOver(t.Context(), ident.New(), nil, 1)
		if err != nil || len(taken.Leases) != 0 {
			t.Errorf("%d: took over %+v, %v", who, taken, err)
		}
	}
	for _, offset := range []time.Duration{3 * time.Hour, -3 * time.Hour, 0} {
		if err := cluster.SetClock(offset); err != nil {
			t.Fatal(err)
		}
		for i, s := range stores {
			check(s, i)
			if ok, err := s.RenewReplica(t.Context(), ids[i], replica.TTL); err != nil || !ok {
				t.Errorf("replica %d renewed its lease: %v, %v", i, ok, err)
			}
			check(s, i)
		}
		check(open(t, address, postgres.Options{}), len(stores))
	}
}
