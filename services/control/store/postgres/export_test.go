package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/pawl-dev/pawl/services/control/submission"
)

// Format stands for the tables that the migrations make.
var Format = func() string {
	digest := sha256.New()
	files, _ := fs.Glob(migrations, "migrations/*.sql")
	for _, f := range files {
		b, _ := migrations.ReadFile(f)
		digest.Write(b)
	}
	return hex.EncodeToString(digest.Sum(nil))
}()

// DownAndUp undoes all migrations, calls bare, and does them again.
func (s *Store) DownAndUp(ctx context.Context, bare func()) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(s.pool)
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		return err
	}
	if _, err := provider.DownTo(ctx, 0); err != nil {
		return err
	}
	bare()
	return migrate(ctx, s.access)
}

// Setting is what the pool's connections have a setting at.
func (s *Store) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.pool.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value)
	return value, err
}

// SettingInBatch is what a setting is at in a transaction that locks many lanes.
func (s *Store) SettingInBatch(ctx context.Context, name string) (value string, err error) {
	batch := s.batch()
	batch.Queue(`SELECT current_setting($1)`, name).QueryRow(func(row pgx.Row) error { return row.Scan(&value) })
	return value, s.pool.SendBatch(ctx, batch).Close()
}

// ClaimSlowly is Claim with 4 ms between the snapshot of its first statement and the moment when it looks for lanes.
func (s *Store) ClaimSlowly(ctx context.Context, owner string, limit int) ([]submission.Lease, error) {
	slow := strings.Replace(claimLanesSQL, "WITH c AS (SELECT session_id FROM lanes",
		"WITH z AS MATERIALIZED (SELECT pg_sleep(0.004)), c AS (SELECT session_id FROM z, lanes", 1)
	slow = strings.Replace(slow, "FOR UPDATE", "FOR UPDATE OF lanes", 1)
	// Without this a lane that settled meanwhile would be skipped for its new ready_at, and the gap would not be
	// tested.
	slow = strings.Replace(slow, "AND ready_at <=", "AND '-infinity' <", 1)
	if !strings.Contains(slow, "pg_sleep") || !strings.Contains(slow, "infinity") ||
		!strings.Contains(slow, "OF lanes") {
		panic("the statement has changed: " + slow)
	}
	claimID := uuid.NewString()
	return s.take(ctx, 0, owner, claimID, slow, owner, claimID, limit, s.offset())
}

// TakeOverdueBehind is TakeOverdue that waits for an advisory lock between the snapshot of its first statement and the
// moment when it locks lanes.
func (s *Store) TakeOverdueBehind(
	ctx context.Context, owner string, grace time.Duration, lock int64,
) ([]submission.Lease, error) {
	held := strings.Replace(overdueLanesSQL, "\nd AS MATERIALIZED (", "\nz AS MATERIALIZED (SELECT "+
		"pg_advisory_xact_lock_shared($6)),\nd AS MATERIALIZED (", 1)
	held = strings.Replace(held, "submission_id FROM d JOIN", "submission_id FROM z, d JOIN", 1)
	if !strings.Contains(held, "pg_advisory") || !strings.Contains(held, "FROM z, d") {
		panic("the statement has changed: " + held)
	}
	claimID := uuid.NewString()
	return s.take(ctx, 0, owner, claimID, held, owner, claimID, 10, s.offset(), micros(grace), lock)
}

// CommitTogether commits as one batch.
func (s *Store) CommitTogether(ctx context.Context, commits []submission.Commit) ([]submission.Committed, []error) {
	ops := make([]*commitOp, len(commits))
	for i, c := range commits {
		prepared, err := prepare(c)
		ops[i] = &commitOp{in: prepared, err: err}
	}
	err := s.flushCommits(ctx, append([]*commitOp(nil), ops...))
	out, errs := make([]submission.Committed, len(ops)), make([]error, len(ops))
	for i, o := range ops {
		out[i], errs[i] = o.out, o.err
		if err != nil {
			errs[i] = err
		}
	}
	return out, errs
}

// Hot is the statements that must be planned well, by name.
func Hot() map[string]string {
	hot := map[string]string{
		"resolve":           resolveSQL,
		"admit, fresh":      admissionSQL[true][true],
		"admit, known":      admissionSQL[false][true],
		"claim":             claimLanesSQL,
		"claim, heads":      claimHeadsSQL,
		"take over":         takeLanesSQL,
		"next":              nextSQL,
		"commit":            statements()[parts{}],
		"commit, all parts": statements()[parts{entries: true, calls: true, changes: true, forget: true, bind: true}],
		"commit, lost":      statements()[parts{entries: true, changes: true, lost: true, forget: true}],
		"overdue":           overdueLanesSQL,
		"abort":             abortOneSQL,
		"abort, session":    abortSessionSQL,
		"complete":          completeSQL,
		"events":            eventsSQL,
		"settled":           settledSQL,
	}
	for i, t := range plainTexts {
		words := strings.Fields(t.SQL)
		hot[fmt.Sprintf("plain %d: %s", i, strings.Join(words[:min(6, len(words))], " "))] = t.SQL
	}
	return hot
}

// Explain is the plan that the pool's connections use for a statement of n parameters.
func (s *Store) Explain(ctx context.Context, sql string, n int) (plan string, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Release()
	arguments := ""
	if n > 0 {
		arguments = "(" + strings.TrimSuffix(strings.Repeat("NULL, ", n), ", ") + ")"
	}
	if _, err := conn.Exec(ctx, "PREPARE hot AS "+sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		return "", err
	}
	rows, err := conn.Query(ctx, "EXPLAIN EXECUTE hot "+arguments, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "DEALLOCATE hot", pgx.QueryExecModeSimpleProtocol)
	return strings.Join(lines, "\n"), err
}

// ExecText runs a statement.
func (s *Store) ExecText(ctx context.Context, text string) error {
	_, err := s.pool.Exec(ctx, text)
	return err
}

// Forget deletes what is stored of a session, but for its receipts.
func (s *Store) Forget(ctx context.Context, sessionID string) error {
	for _, table := range []string{"segments", "tool_calls", "entries", "submissions", "lanes", "sessions"} {
		if _, err := s.pool.Exec(ctx, `DELETE FROM `+table+` WHERE session_id = $1`, sessionID); err != nil {
			return err
		}
	}
	return nil
}

// AdmitAgain admits, and again as Admit does when it learns that a key or a session was taken: by itself, whose answer
// was lost.
func (s *Store) AdmitAgain(ctx context.Context, a submission.Admission) (first, second submission.Admitted, err error) {
	op := admission{Admission: a, scope: scopeOf(a.Key), claimID: uuid.NewString()}
	if first, err = s.admits.do(ctx, op.scope, op); err != nil {
		return first, second, err
	}
	op.tries++
	second, err = s.admits.do(ctx, op.scope, op)
	return first, second, err
}
