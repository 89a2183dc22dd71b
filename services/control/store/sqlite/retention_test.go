package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/retention"
)

// counter is a connection that counts the rows that its statements return and change.
type counter struct {
	rawConn
	rows int
}

func (c *counter) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	s, err := c.rawConn.PrepareContext(ctx, query)
	if slices.Contains([]string{statements[begin], statements[commit], statements[rollback]}, query) {
		return s, err // SQLite answers them with what the last statement changed
	}
	return countedStmt{s, c}, err
}

// countRows counts what the statements of a database in memory return and change from now on.
func countRows(t *testing.T, s *Store) *counter {
	t.Helper()
	count := &counter{}
	err := s.read(t.Context(), func(c *conn) error {
		count.rawConn, c.raw = c.raw, count
		clear(c.prepared)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}

type countedStmt struct {
	driver.Stmt
	c *counter
}

func (s countedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	res, err := s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	if err == nil {
		n, _ := res.RowsAffected() // SQLite's never fails
		s.c.rows += int(n)
	}
	return res, err
}

func (s countedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
	return countedRows{rows, s.c}, err
}

type countedRows struct {
	driver.Rows
	c *counter
}

func (r countedRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if err == nil {
		r.c.rows++
	}
	return err
}

// volume is what a busy database has after some days.
const (
	volumeSessions = 20_000
	volumeDeltas   = 15 // per session
	volumeLong     = 5_000
)

// fill stores the segments of so many sessions, all an hour old: a start, deltas, and an answer in every other session,
// nothing but the end in the rest. The first session has one long answer. Submissions have settled, with two calls
// each.
func fill(t *testing.T, s *Store, sessions, long int) (deltas, covered, calls int) {
	t.Helper()
	old := time.Now().Add(-time.Hour).UnixMicro()
	n := fmt.Sprintf(`WITH RECURSIVE s(s) AS (SELECT 1 UNION ALL SELECT s + 1 FROM s WHERE s < %d),
		q(q) AS (SELECT 1 UNION ALL SELECT q + 1 FROM q WHERE q < %d) `, sessions, volumeDeltas+2)
	for _, q := range []string{
		n + fmt.Sprintf(`INSERT INTO segments (lane_id, first_seq, last_seq, epoch, kind, body, created_at)
			SELECT 'session ' || s, q, q, 1, iif(q = 1, 3, iif(q < %[1]d, 1, iif(s %% 2 = 1, 2, 3))),
			zeroblob(iif(s = 3, 300000, 100)), %[2]d + s * 20 + q FROM s CROSS JOIN q`, volumeDeltas+2, old),
		fmt.Sprintf(`WITH RECURSIVE q(q) AS (SELECT %[1]d UNION ALL SELECT q + 1 FROM q WHERE q < %[2]d)
			INSERT INTO segments (lane_id, first_seq, last_seq, epoch, kind, body, created_at)
			SELECT 'session 1', q, q, 1, iif(q < %[2]d, 1, 2), zeroblob(100), %[3]d + q FROM q`,
			volumeDeltas+3, volumeDeltas+3+long, old),
		n + fmt.Sprintf(`INSERT INTO submissions (submission_id, lane_id, session_id, root_id, seq, agent_digest, event_base, status,
			accepted_at, settled_at, has_calls) SELECT s, 'session ' || s, 'session ' || s, s, 1, 'd', 0, 2, %[1]d, %[1]d + s, 1
			FROM s`, old),
		n + fmt.Sprintf(`INSERT INTO tool_calls (call_id, lane_id, submission_id, turn, idx, kind, entry_seq, provider_id, tool, safety,
			state, created_at) SELECT s || '/' || q, 'session ' || s, s, 1, q, 1, 2, 'p', 'bash', 1, 2, %d FROM s JOIN q ON q <= 2`, old),
	} {
		err := s.write(t.Context(), func(x tx) error {
			x.wrote = true
			_, err := x.raw.ExecContext(t.Context(), q, nil)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return sessions*volumeDeltas + long, sessions/2*volumeDeltas + long, 2 * sessions
}

// No batch holds the writer for long, however much there is: each touches a bounded number of rows, which TestPlans
// shows are found by an index. What a pass could not delete is not touched by the next.
func TestRetentionIsBoundedAtVolume(t *testing.T) {
	s := openAt(t, Memory)
	defer closeStore(t, s)
	sessions, long := volumeSessions, volumeLong
	if slow {
		sessions, long = sessions/40, long/10
	}
	deltas, covered, calls := fill(t, s, sessions, long)
	count := countRows(t, s)
	segments := deltas + 2*sessions + 1
	for _, p := range []struct {
		kind         retention.Kind
		deleted, all int // all is how many rows there are to look at
	}{
		{retention.Deltas, covered, segments},
		{retention.Calls, calls, calls + sessions},
		{retention.Events, segments - covered, segments - covered},
	} {
		deleted, touched := 0, 0
		for more := true; more; {
			count.rows = 0
			b, err := s.DeleteBatch(t.Context(), p.kind, time.Minute, retention.MaxRows)
			if err != nil {
				t.Fatal(err)
			}
			if count.rows > 5*retention.MaxRows || b.Deleted > retention.MaxRows {
				t.Fatalf("a batch of %s touches %d rows and deletes %d", p.kind, count.rows, b.Deleted)
			}
			if deleted, touched, more = deleted+b.Deleted, touched+count.rows, b.More; touched > 10*p.all {
				t.Fatalf("the batches of %s have no end: %d rows touched", p.kind, touched)
			}
		}
		if deleted != p.deleted || touched > 5*p.all {
			t.Errorf("%d of %d %s were deleted, by touching %d rows", deleted, p.deleted, p.kind, touched)
		}
		count.rows = 0
		if b, err := s.DeleteBatch(t.Context(), p.kind, time.Minute, retention.MaxRows); err != nil ||
			b != (retention.Batch{}) || count.rows > 2 {
			t.Errorf("the next pass over %s touches %d rows: %+v, %v", p.kind, count.rows, b, err)
		}
	}
}

// Rows that are large count for more than one.
func TestRetentionBoundsBytes(t *testing.T) {
	s := openAt(t, Memory)
	defer closeStore(t, s)
	fill(t, s, 3, 1)
	for _, kind := range []retention.Kind{retention.Deltas, retention.Events} {
		for more, batches := true, 0; more && batches < 100; batches++ {
			before := bodies(t, s)
			b, err := s.DeleteBatch(t.Context(), kind, time.Minute, retention.MaxRows)
			if err != nil {
				t.Fatal(err)
			}
			if n := before - bodies(t, s); n > retention.MaxBytes+300_000 {
				t.Errorf("a batch of %s deletes %d bytes", kind, n)
			}
			more = b.More
		}
	}
	if n := bodies(t, s); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

var sumBodies = sql(`SELECT sum(length(body)) FROM segments`)

func bodies(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.read(t.Context(), func(c *conn) error {
		r, err := c.row(sumBodies)
		n = int(r.int(0))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// So do definitions, which are as large as the files that they come from may be.
func TestRetentionBoundsBytesOfDefinitions(t *testing.T) {
	s := openAt(t, Memory)
	defer closeStore(t, s)
	const n, size = 12, 300_000
	for i := range n {
		if err := s.PutDefinition(t.Context(), fmt.Sprint(i), "agent", make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	deleted := 0
	for more := true; more; {
		b, err := s.DeleteBatch(t.Context(), retention.Definitions, -time.Minute, retention.MaxRows)
		if err != nil {
			t.Fatal(err)
		}
		if b.Deleted*size > retention.MaxBytes+size {
			t.Errorf("a batch deletes %d definitions of %d bytes", b.Deleted, size)
		}
		deleted, more = deleted+b.Deleted, b.More
	}
	if deleted != n {
		t.Errorf("%d definitions went, want %d", deleted, n)
	}
}
