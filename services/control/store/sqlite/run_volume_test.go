package sqlite

import (
	"fmt"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/session"
)

// yearOfRuns is what a database has after a year in which retention was off: so many runs, of which every other one
// ended long ago and the rest are parked, with ten steps, two signals and a large output each. The first has more.
const (
	yearOfRuns   = 20_000
	stepsOfFirst = 5_000
	runID        = `printf('00000000-0000-7000-8000-%012d', n)`
)

func fillRuns(t *testing.T, s *Store, runs, steps int) {
	t.Helper()
	old := time.Now().Add(-time.Hour).UnixMicro()
	n := func(n int) string {
		return fmt.Sprintf(`WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < %d),
			q(q) AS (SELECT 1 UNION ALL SELECT q + 1 FROM q WHERE q < %d) `, runs, n)
	}
	const addSteps = `INSERT INTO run_steps (run_id, ord, parent, path, kind, state, try, pausing, took_us, output, ref,
		folded, started_at)
		SELECT ` + runID + `, q, 0, 'step' || q, 'set', 2, 1, 0, 0, zeroblob(100), '', 0, 0 FROM n, q`
	for _, q := range []string{
		n(1) + `INSERT INTO sessions (session_id, lane_id, agent, instance, name, created_at)
			SELECT ` + runID + `, ` + runID + `, 'workflow:w', ` + runID + `, 'default', 1 FROM n`,
		n(1) + `INSERT INTO lanes (lane_id, kind, state, due_at, next_seq, pending)
			SELECT ` + runID + `, 2, n % 2 = 0, 9223372036854775807, 2, n % 2 = 0 FROM n`,
		n(1) + `INSERT INTO submissions (submission_id, lane_id, session_id, root_id, seq, agent_digest, event_base,
			status, accepted_at) SELECT 'attempt ' || n, ` + runID + `, ` + runID + `, 'attempt ' || n, 1,
			'digest ' || (n / 2 % 50), 0, 1 + n % 2, 1 FROM n`,
		n(1) + `INSERT INTO runs (run_id, workflow, digest, attempt, submission_id, status, created_at, ended_at)
			SELECT ` + runID + `, 'w', 'digest ' || (n / 2 % 50), 1, 'attempt ' || n, 1 + n % 2, 1,
			iif(n % 2, n + ` + fmt.Sprint(old) + `, NULL) FROM n`,
		n(10) + addSteps,
		fmt.Sprintf(`WITH n(n) AS (SELECT 1),
			q(q) AS (SELECT 11 UNION ALL SELECT q + 1 FROM q WHERE q < %d) `, steps) + addSteps,
		n(2) + `INSERT INTO run_signals (run_id, seq, name, told_by, at)
			SELECT ` + runID + `, q, 'go', '', 1 FROM n, q`,
		n(1) + `INSERT INTO run_blobs (run_id, digest, body) SELECT ` + runID + `, 'd', zeroblob(1000) FROM n`,
	} {
		if err := s.ExecText(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 { // of which fifty are pinned
		if err := s.PutDefinition(t.Context(), fmt.Sprint("digest ", i), "workflow:w", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
}

// No transaction that deletes runs touches more than a bounded number of rows, however many there are and however large
// one of them is; what is open costs a pass nothing, and of what is deleted nothing is left.
func TestRunsAreDeletedInBoundedStepsAtVolume(t *testing.T) {
	s := openAt(t, Memory)
	defer closeStore(t, s)
	runs, steps := yearOfRuns, stepsOfFirst
	if slow {
		runs, steps = runs/40, steps/10
	}
	fillRuns(t, s, runs, steps)
	count := countRows(t, s)
	bounded := func(what string, limit int) {
		t.Helper()
		if count.rows > limit {
			t.Fatalf("%s touches %d rows", what, count.rows)
		}
		count.rows = 0
	}
	begun := 0
	for more := true; more; {
		count.rows = 0
		b, err := s.DeleteBatch(t.Context(), retention.Runs, time.Minute, retention.MaxRows)
		if err != nil {
			t.Fatal(err)
		}
		bounded("a batch of runs", 5*retention.MaxRows)
		begun, more = begun+b.Deleted, b.More
	}
	if begun != runs/2 {
		t.Errorf("the deletion of %d runs has begun, want %d", begun, runs/2)
	}
	for _, kind := range []retention.Kind{retention.Runs, retention.Calls, retention.Receipts, retention.Approvals} {
		b, err := s.DeleteBatch(t.Context(), kind, time.Minute, retention.MaxRows)
		if err != nil || b != (retention.Batch{}) {
			t.Errorf("the next pass over %s: %+v, %v", kind, b, err)
		}
		bounded("the next pass over "+kind.String(), 2)
	}
	deleted := 0
	for deleted < min(runs/2, 300) {
		due, err := s.TakeDeletions(t.Context(), time.Hour, 100)
		if err != nil {
			t.Fatal(err)
		}
		bounded("taking deletions", 500)
		for _, d := range due {
			if closed, err := s.CloseSession(t.Context(), d.SessionID); err != nil || !closed {
				t.Fatal(closed, err)
			}
			for done := false; !done; {
				count.rows = 0
				b, err := s.PurgeSession(t.Context(), d.ID, time.Minute, retention.MaxRows)
				if err != nil {
					t.Fatal(err)
				}
				bounded("a batch of a run's rows", 5*retention.MaxRows)
				done = b.Done
			}
			deleted++
		}
	}
	for _, table := range []string{"runs", "lanes", "sessions", "submissions"} {
		if n, err := s.CountText(t.Context(), `SELECT count(*) FROM `+table); err != nil || int(n) != runs-deleted {
			t.Errorf("%d of %d rows of %s are left, and %d runs were deleted: %v", n, runs, table, deleted, err)
		}
	}
	for table, each := range map[string]int{"run_steps": 10, "run_signals": 2, "run_blobs": 1} {
		if n, err := s.CountText(t.Context(), `SELECT count(*) FROM `+table); err != nil ||
			int(n) != each*(runs-deleted) {
			t.Errorf("%d rows of %s are left: %v", n, table, err)
		}
	}
	// What is pinned is looked at once, and then left for as long as it was.
	b, err := s.DeleteBatch(t.Context(), retention.Definitions, -time.Minute, retention.MaxRows)
	if err != nil || b.Deleted != 10 {
		t.Errorf("of 60 definitions, 50 of them pinned: %+v, %v", b, err)
	}
	count.rows = 0
	if b, err = s.DeleteBatch(t.Context(), retention.Definitions, time.Minute, retention.MaxRows); err != nil ||
		b != (retention.Batch{}) {
		t.Errorf("the next pass over definitions: %+v, %v", b, err)
	}
	bounded("the next pass over definitions", 2)
	if all, err := s.ListDeletions(t.Context(), session.DefaultTenant, "", 10); err != nil || len(all) > 0 {
		t.Errorf("somebody is told of them: %+v, %v", all, err)
	}
}
