package postgres_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// TestClaimAcrossASnapshotGap settles lanes while others are about to claim them on an old snapshot: nothing may run
// twice, out of order or never.
func TestClaimAcrossASnapshotGap(t *testing.T) {
	s := open(t, migrated.URL(t), postgres.Options{})
	const lanes, each, claimers = 6, 30, 8
	for n := range lanes * each {
		if _, err := s.Admit(t.Context(), admission(fmt.Sprint(n%lanes), "")); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	next, left := map[string]int64{}, lanes*each
	run := func(l *lane.Lease) error {
		mu.Lock()
		next[l.Fence.LaneID]++
		want := next[l.Fence.LaneID]
		mu.Unlock()
		if l.Root().Seq != want {
			t.Errorf("submission %d runs where %d is next", l.Root().Seq, want)
		}
		if _, err := commit(t.Context(), s, l, settling(l)); err != nil {
			return err
		}
		mu.Lock()
		left--
		mu.Unlock()
		return nil
	}
	var wg sync.WaitGroup
	for range claimers {
		owner := live(t, s)
		wg.Go(func() {
			for {
				mu.Lock()
				done := left == 0
				mu.Unlock()
				if done || t.Failed() {
					return
				}
				got, err := s.ClaimSlowly(t.Context(), owner, 2)
				if err != nil {
					t.Error(err)
					return
				}
				for _, l := range got.Leases {
					if err := run(&l); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestTakeOverLeavesALaneThatIsBeingWritten holds a commit open half-way: it is the owner's until it ends.
func TestTakeOverLeavesALaneThatIsBeingWritten(t *testing.T) {
	address := migrated.URL(t)
	s, other := open(t, address, postgres.Options{}), open(t, address, postgres.Options{})
	owner, heir := live(t, s), live(t, s)
	l := start(t, s, "a", owner)

	// An entry that is not committed yet has the seq that the commit needs, so the commit waits after it has locked the
	// lane.
	blocker := raw(t, address)
	tx, err := blocker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO entries (session_id, seq, kind, body, created_at)
		VALUES ($1, 2, 'x', '', now())`, l.Fence.LaneID); err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1)
	go func() {
		_, err := commit(t.Context(), s, l, step(l))
		committed <- err
	}()
	watch := raw(t, address)
	until(t, watch, someoneWaits)
	taken, err := other.TakeOver(t.Context(), heir, []string{owner}, 10)
	if err != nil || len(taken.Leases) != 0 {
		t.Fatalf("took over %v while the owner writes, %v", taken, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	taken, err = other.TakeOver(t.Context(), heir, []string{owner}, 10)
	if err != nil || len(taken.Leases) != 1 || taken.Leases[0].Root().EntryHead != 2 ||
		taken.Leases[0].Fence.Epoch != 2 {
		t.Fatalf("took over %+v, %v", taken, err)
	}
	_, err = commit(t.Context(), s, l, step(l))
	refused(t, err, lane.ErrFenced)
	dense(t, s, l.Fence.LaneID, 2)
}

// TestCommitWaitsForATakeOver is the other order: what waited for the lane sees that it has gone.
func TestCommitWaitsForATakeOver(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	l := start(t, s, "a", live(t, s))
	tx, err := raw(t, address).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE lanes SET epoch = epoch + 1, owner = gen_random_uuid()
		WHERE lane_id = $1`, l.Fence.LaneID); err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1)
	go func() {
		_, err := commit(t.Context(), s, l, step(l))
		committed <- err
	}()
	until(t, raw(t, address), someoneWaits)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused(t, <-committed, lane.ErrFenced)
	dense(t, s, l.Fence.LaneID, 1)
}

// TestContinueFindsWhatWasQueuedWhileItWaited admits between the commit's snapshot and its lock: the counter on the
// lane knows of the submission, and so must the statement that goes on with it.
func TestContinueFindsWhatWasQueuedWhileItWaited(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	l := start(t, s, "a", live(t, s))
	tx, err := raw(t, address).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE lanes SET tenant = tenant WHERE lane_id = $1`,
		l.Fence.LaneID); err != nil {
		t.Fatal(err)
	}
	admitted := make(chan error, 1)
	go func() {
		_, err := s.Admit(t.Context(), admission("a", ""))
		admitted <- err
	}()
	watch := raw(t, address)
	until(t, watch, someoneWaits) // the admission is the first in the lane's queue
	answer := make(chan lane.Committed, 1)
	go func() {
		c := settling(l)
		c.Continue = true
		out, err := commit(t.Context(), s, l, c)
		if err != nil {
			t.Error(err)
		}
		answer <- out
	}()
	until(t, watch, twoWait)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-admitted; err != nil {
		t.Fatal(err)
	}
	out := <-answer
	if out.Next != nil {
		if out.Next.Root().Seq != 2 || out.Next.Fence != l.Fence {
			t.Errorf("answered %+v", out)
		}
		return
	}
	// Postgres has let the settlement pass the admission, which then has made the lane ready: nothing is forgotten.
	var ready bool
	if err := watch.QueryRow(t.Context(), `SELECT state = 1 AND pending = 1 FROM lanes WHERE lane_id = $1`,
		l.Fence.LaneID).Scan(&ready); err != nil || !ready {
		t.Errorf("answered %+v, and the lane is not ready: %v", out, err)
	}
}

// TestOverdueLaneThatHasMovedOnIsLeftAlone settles an overdue submission, and goes on with the next, while another
// replica is about to settle it from rows on an old snapshot: what runs there by now is not overdue. One that its owner
// has moved on meanwhile still is.
func TestOverdueLaneThatHasMovedOnIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		moves func(l *lane.Lease) lane.Commit
		ended int
	}{
		"settled, and the next one runs": {func(l *lane.Lease) lane.Commit {
			c := settling(l)
			c.Continue = true
			return c
		}, 0},
		"a step further": {step, 1},
	} {
		t.Run(name, func(t *testing.T) {
			address := migrated.URL(t)
			var skipped atomic.Int64
			s := open(t, address, postgres.Options{
				ClockOffset: func() time.Duration { return time.Duration(skipped.Load()) },
			})
			l := start(t, s, "a", live(t, s))
			if _, err := s.Admit(t.Context(), admission("a", "")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.RequestAbort(t.Context(), l.Root().Key.Tenant, l.Root().ID); err != nil {
				t.Fatal(err)
			}
			skipped.Store(int64(2 * lane.ForceGrace))
			const lock = 42
			tx, err := raw(t, address).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1)`, lock); err != nil {
				t.Fatal(err)
			}
			forced := make(chan []lane.Ended, 1)
			go func() {
				ended, err := s.ForceBehind(t.Context(), lock)
				if err != nil {
					t.Error(err)
				}
				forced <- ended
			}()
			until(t, raw(t, address), someoneWaits)
			if _, err := commit(t.Context(), s, l, c.moves(l)); err != nil {
				t.Fatal(err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if ended := <-forced; len(ended) != c.ended {
				t.Errorf("ended %+v", ended)
			}
		})
	}
}

// TestPromptsAreClaimedPastTimersThatAreDue: lanes of another kind, however many came due before, cost a claim nothing.
func TestPromptsAreClaimedPastTimersThatAreDue(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	conn := raw(t, address)
	if _, err := conn.Exec(t.Context(), `INSERT INTO lanes (lane_id, kind, state, due_at, next_seq, pending)
		SELECT gen_random_uuid(), 2, 1, clock_timestamp() - n * interval '1 ms', 2, 1
		FROM generate_series(1, 100000) n`); err != nil {
		t.Fatal(err)
	}
	got, err := s.Admit(t.Context(), admission("a", ""))
	if err != nil {
		t.Fatal(err)
	}
	pages, plan, err := s.ClaimCost(t.Context(), lane.KindSession)
	if err != nil || pages == 0 || pages > 40 || !strings.Contains(plan, "lanes_due") {
		t.Errorf("a claim looks at %d pages, %v:\n%s", pages, err, plan)
	}
	leases := claim(t, s, live(t, s), 64)
	if len(leases) != 1 || leases[0].Root().ID != got.Submission.ID {
		t.Errorf("claimed %+v", leases)
	}
}

// TestTenantsTakeTurnsAtNoCost: what a tenant has waiting, however much it is, costs a claim nothing in which others
// have their turn.
func TestTenantsTakeTurnsAtNoCost(t *testing.T) {
	address := migrated.URL(t)
	s := open(t, address, postgres.Options{})
	if _, err := raw(t, address).Exec(t.Context(), `INSERT INTO lanes (lane_id, tenant, kind, state, due_at, next_seq,
		pending) SELECT gen_random_uuid(), 'busy', 1, 1, clock_timestamp() - n * interval '1 ms', 2, 1
		FROM generate_series(1, 100000) n`); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"a", "z"} {
		a := admission("1", "")
		a.Key.Tenant = tenant
		if _, err := s.Admit(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	pages, plan, err := s.ClaimInTurnCost(t.Context(), lane.KindSession)
	if err != nil || pages == 0 || pages > 1000 || !strings.Contains(plan, "lanes_turns") {
		t.Errorf("a claim looks at %d pages, %v:\n%s", pages, err, plan)
	}
}

// TestCommitsStayInThePage: an update of a lane that changes no indexed column needs no new entry in any index.
func TestCommitsStayInThePage(t *testing.T) {
	rows, err := raw(t, migrated.URL(t)).Query(t.Context(), `SELECT indexdef FROM pg_indexes WHERE tablename = 'lanes'`)
	if err != nil {
		t.Fatal(err)
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(indexes) != 4 {
		t.Fatalf("%v, %v", indexes, err)
	}
	changed := regexp.MustCompile(`event_|ends_|force_after|mail|flush|epoch|pending|_seq|first_open`)
	for _, i := range indexes {
		if m := changed.FindString(i); m != "" {
			t.Errorf("%s is in %s", m, i)
		}
	}
}

// A renewal that was sent while the lease held, and arrives when others have acted on its end, finds no lease: whoever
// counted as dead stays dead.
func TestLateRenewalFindsNoLease(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, other *postgres.Store, skip func(time.Duration),
		dead replica.Replica){
		"its successor has registered": func(t *testing.T, other *postgres.Store, _ func(time.Duration),
			dead replica.Replica,
		) {
			dead.ID = ident.New()
			if before, err := other.RegisterReplica(t.Context(), dead, replica.TTL); err != nil || len(before) != 1 {
				t.Fatalf("predecessors %v, %v", before, err)
			}
		},
		"its lanes were taken": func(t *testing.T, other *postgres.Store, skip func(time.Duration), _ replica.Replica) {
			owner := live(t, other)
			skip(2 * replica.TTL)
			if got, err := other.TakeOver(t.Context(), owner, nil, 10); err != nil || len(got.Leases) != 1 {
				t.Fatalf("took %+v, %v", got.Leases, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			address := migrated.URL(t)
			var skipped, stood atomic.Int64
			late := open(t, address, postgres.Options{ClockOffset: func() time.Duration {
				if at := stood.Load(); at != 0 {
					return -time.Since(time.Unix(0, at)) // its time stands still, as that of what it has sent
				}
				return 0
			}})
			other := open(t, address, postgres.Options{
				ClockOffset: func() time.Duration { return time.Duration(skipped.Load()) },
			})
			dead := replica.Replica{ID: ident.New(), Host: "host", Lock: "lock"}
			if _, err := late.RegisterReplica(t.Context(), dead, replica.TTL); err != nil {
				t.Fatal(err)
			}
			start(t, late, "a", dead.ID)
			stood.Store(time.Now().UnixNano())
			if ok, err := late.Tables.RenewReplica(t.Context(), dead.ID, replica.TTL); err != nil || !ok {
				t.Fatalf("while it holds: %v, %v", ok, err)
			}
			end(t, other, func(d time.Duration) { skipped.Add(int64(d)) }, dead)
			if ok, err := late.Tables.RenewReplica(t.Context(), dead.ID, replica.TTL); err != nil || ok {
				t.Errorf("after its end: %v, %v", ok, err)
			}
		})
	}
}
