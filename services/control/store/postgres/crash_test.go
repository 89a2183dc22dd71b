package postgres_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// underFire runs admissions and commits side by side while strike is called again and again, and then checks that each
// of them happened exactly once.
func underFire(t *testing.T, s *postgres.Store, strikes int, strike func()) {
	const workers, prompts, steps = 8, 12, 4
	owner := live(t, s)
	progress := make(chan struct{}, workers*prompts*(steps+1))
	sessions := make([]string, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range prompts {
				a := admission(fmt.Sprint("session ", w), owner)
				a.IdempotencyKey = a.ID
				got, err := s.Admit(t.Context(), a)
				if err != nil || got.Replayed || got.Lease == nil {
					t.Errorf("admitted %+v, %v", got, err)
					return
				}
				l := got.Lease
				sessions[w] = l.Fence.LaneID
				for n := range steps {
					c := step(l)
					if n == steps-1 {
						c = settling(l)
					}
					if _, err := commit(t.Context(), s, l, c); err != nil {
						t.Errorf("commit: %v", err)
						return
					}
					progress <- struct{}{}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for struck, seen := 0, 0; ; {
		select {
		case <-progress:
			if seen++; struck < strikes && seen*(strikes+1) > (struck+1)*workers*prompts*steps {
				struck++
				strike()
			}
			continue
		case <-done:
		}
		break
	}
	if t.Failed() {
		return
	}
	for _, id := range sessions {
		dense(t, s, id, prompts*(steps+1))
		subs, err := s.ListSubmissions(t.Context(), id, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(subs) != prompts {
			t.Errorf("%d submissions, want %d", len(subs), prompts)
		}
		for _, sub := range subs {
			if sub.Status != submission.SettledStatus || sub.Outcome != lane.Completed {
				t.Errorf("submission %d: %+v", sub.Seq, sub)
			}
		}
	}
}

func TestTerminatedConnectionsLoseAndRepeatNothing(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, with(t, address, "application_name", "victim"), postgres.Options{RetryFor: time.Minute})
	killer := raw(t, address)
	underFire(t, s, 20, func() {
		_, err := killer.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'victim'`)
		if err != nil {
			t.Error(err)
		}
	})
}

// TestCrashedServerLosesAndRepeatsNothing kills a backend with SIGKILL, upon which the server ends all others without a
// word, discards its memory and recovers from the log.
func TestCrashedServerLosesAndRepeatsNothing(t *testing.T) {
	cluster, err := pgtest.Start(t.Context(), pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := open(t, cluster.URL, postgres.Options{RetryFor: time.Minute})
	underFire(t, s, 3, func() {
		conn := connectAgain(t, cluster.URL)
		const backends = `SELECT %s FROM pg_stat_activity WHERE application_name = 'pawl'`
		until(t, conn, fmt.Sprintf(backends, "count(*) > 0")) // the store may still wait for the last recovery
		var pid int
		if err := conn.QueryRow(t.Context(), fmt.Sprintf(backends, "min(pid)")).Scan(&pid); err != nil {
			t.Error(err)
			return
		}
		backend, err := os.FindProcess(pid)
		if err == nil {
			err = backend.Kill()
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// connectAgain connects to a server that may be recovering.
func connectAgain(t *testing.T, address string) *pgx.Conn {
	for {
		conn, err := pgx.Connect(t.Context(), address)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
			return conn
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}
