package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
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
func (s *Store) ClaimSlowly(ctx context.Context, owner string, limit int) (lane.Claimed, error) {
	slow := strings.Replace(claimLanesSQL, "WITH c AS (SELECT lane_id FROM lanes",
		"WITH z AS MATERIALIZED (SELECT pg_sleep(0.004)), c AS (SELECT lane_id FROM z, lanes", 1)
	slow = strings.Replace(slow, "FOR UPDATE", "FOR UPDATE OF lanes", 1)
	// Without this a lane that settled meanwhile would be skipped for its new due_at, and the gap would not be tested.
	slow = strings.Replace(slow, "AND due_at <=", "AND '-infinity' <", 1)
	if !strings.Contains(slow, "pg_sleep") || !strings.Contains(slow, "infinity") ||
		!strings.Contains(slow, "OF lanes") {
		panic("the statement has changed: " + slow)
	}
	id := uuid.NewString()
	return s.take(ctx, claim{
		owner: owner, id: id, lanes: slow,
		args: []any{owner, id, limit, int16(lane.KindSession), s.now(), graces},
	})
}

// ForceBehind is Force that waits for an advisory lock between the snapshot of its first statement and the moment when
// it locks lanes.
func (s *Store) ForceBehind(ctx context.Context, lock int64) ([]lane.Ended, error) {
	held := strings.Replace(takeOverdueSQL, "\nWITH f AS (SELECT lane_id, ends_why, 1 AS raise FROM lanes WHERE",
		"\nWITH z AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($4)), "+
			"f AS (SELECT lane_id, ends_why, 1 AS raise FROM z, lanes WHERE", 1)
	held = strings.Replace(held, "FOR NO KEY UPDATE", "FOR NO KEY UPDATE OF lanes", 1)
	if !strings.Contains(held, "pg_advisory") || !strings.Contains(held, "OF lanes") {
		panic("the statement has changed: " + held)
	}
	e := ending{store: s, flush: uuid.NewString(), commitID: uuid.NewString(), decide: lane.Overdue}
	return e.run(ctx, held, 10, lock)
}

// MoveMailIn moves mail in a transaction.
func (s *Store) MoveMailIn(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, moveMailSQL, mailPage, int64(0), nil, s.now())
	return err
}

// MoveMailBehind moves mail with a wait for an advisory lock between the snapshot and the moment when it locks lanes.
func (s *Store) MoveMailBehind(ctx context.Context, lock int64) error {
	held := strings.Replace(moveMailSQL, "\nk AS MATERIALIZED (SELECT x.lane_id, w.n\n  FROM (",
		"\nz AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($5)),\nk AS MATERIALIZED (SELECT x.lane_id, w.n\n"+
			"  FROM z, (", 1)
	if !strings.Contains(held, "pg_advisory") {
		panic("the statement has changed: " + held)
	}
	_, err := s.pool.Exec(ctx, held, mailPage, int64(0), nil, s.now(), lock)
	return err
}

// ClaimCost is how many pages a claim looks at.
func (s *Store) ClaimCost(ctx context.Context, kind lane.Kind) (pages int, plan string, err error) {
	return s.claimCost(ctx, claimLanesSQL, kind)
}

// ClaimInTurnCost is ClaimCost of a claim in which tenants take turns.
func (s *Store) ClaimInTurnCost(ctx context.Context, kind lane.Kind) (pages int, plan string, err error) {
	return s.claimCost(ctx, claimInTurnSQL, kind, "")
}

func (s *Store) claimCost(
	ctx context.Context, sql string, kind lane.Kind, more ...any,
) (pages int, plan string, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var lines []string
		args := []any{uuid.NewString(), uuid.NewString(), 64, int16(kind), s.now(), graces}
		rows, err := tx.Query(ctx, `EXPLAIN (ANALYZE, BUFFERS) `+sql, append(args, more...)...)
		if err == nil {
			lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		plan = strings.Join(lines, "\n")
		return errors.Join(err, pgx.ErrTxCommitRollback)
	})
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		err = nil
	}
	for _, l := range strings.Split(plan, "\n") {
		if n, is := strings.CutPrefix(strings.TrimSpace(l), "Buffers: shared hit="); is && pages == 0 {
			_, err = fmt.Sscan(strings.Fields(n)[0], &pages)
		}
	}
	return pages, plan, err
}

// CommitTogether commits as one batch.
func (s *Store) CommitTogether(ctx context.Context, commits []lane.Commit) ([]lane.Committed, []error) {
	ops := make([]*commitOp, len(commits))
	for i, c := range commits {
		prepared, err := prepare(c)
		ops[i] = &commitOp{in: prepared, err: err, done: make(chan struct{})}
	}
	s.commits.settle(ctx, append([]*commitOp(nil), ops...), s.retry)
	out, errs := make([]lane.Committed, len(ops)), make([]error, len(ops))
	for i, o := range ops {
		out[i], errs[i] = o.out, o.err
	}
	return out, errs
}

// Hot is the statements that must be planned well, by name.
func Hot() map[string]string {
	hot := map[string]string{
		"resolve":           resolveSQL,
		"resolve, pinned":   pinnedSQL,
		"admit, fresh":      admissionSQL[true][true],
		"admit, known":      admissionSQL[false][true],
		"claim":             claimLanesSQL,
		"claim, heads":      claimHeadsSQL,
		"claim, children":   childrenSQL,
		"claim, stalls":     stallsSQL,
		"claim, next":       dueSQL,
		"take over":         takeLanesSQL,
		"own":               ownSQL,
		"release":           releaseSQL,
		"commit":            lanesSQL,
		"commit, forget":    forgetSQL,
		"commit, begins":    beginsSQL,
		"commit, loops":     loopsSQL,
		"commit, trees":     treesSQL,
		"commit, entries":   entriesSQL,
		"commit, images":    imagesSQL,
		"admit, images":     admittedImages,
		"commit, calls":     callsSQL,
		"commit, changes":   changesSQL,
		"commit, shown":     shownSQL,
		"commit, prefixes":  prefixesSQL,
		"commit, turns":     turnsSQL,
		"commit, bind":      bindSQL,
		"commit, next":      nextHeadsSQL,
		"commit, recognise": recogniseSQL,
		"end, overdue":      takeOverdueSQL,
		"end, held":         takeHeldSQL,
		"end, heads":        endingHeadsSQL,
		"end, calls":        endingCallsSQL,
		"end, left":         endingLeftSQL,
		"end, settle":       endHeadsSQL,
		"end, settle calls": endCallsSQL,
		"end, usage":        endingUsageSQL,
		"end, recount":      recountSQL,
		"claim, repair":     repairSQL,
		"claim, taken":      takenSQL,
		"end, lanes":        endLanesSQL,
		"mail":              moveMailSQL,
		"abort":             abortOneSQL,
		"abort, session":    abortSessionSQL,
		"complete":          completeSQL,
		"grant":             grantSQL,
		"granted":           grantedSQL,
		"lost":              unendedSQL,
		"rebind":            rebindSQL,
		"events":            eventsSQL,
		"submissions":       listSubmissionsSQL,
		"commit, ends":      endingLoopsSQL,
		"commit, folds":     foldsSQL,
		"commit, steps":     stepsSQL,
		"commit, blobs":     blobsSQL,
		"commit, signals":   signalsSQL,
		"start, runs":       startsSQL,
		"claim, runs":       beginRunsSQL,
		"end, keys":         lockKeysSQL,
		"end, runs":         endRunsSQL,
		"end, promote":      promoteSQL,
		"end, drop keys":    dropKeysSQL,
		"end, withdrawn":    withdrawnSQL,
	}
	for i, t := range plainTexts {
		words := strings.Fields(t.SQL)
		hot[fmt.Sprintf("plain %d: %s", i, strings.Join(words[:min(6, len(words))], " "))] = t.SQL
	}
	return hot
}

// Explain is the plan that the pool's connections use for a statement of n parameters within a tenant, "" for none. It
// is "" for a statement that may not run within one.
func (s *Store) Explain(ctx context.Context, tenant, sql string, n int) (plan string, err error) {
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
	var lines []string
	batch := &pgx.Batch{}
	if tenant != "" {
		s.within(batch, tenant)
	}
	batch.Queue("EXPLAIN EXECUTE hot " + arguments).Query(func(rows pgx.Rows) (err error) {
		lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	err = conn.SendBatch(ctx, batch).Close()
	if pg := (*pgconn.PgError)(nil); tenant != "" && errors.As(err, &pg) && pg.Code == "42501" {
		lines, err = nil, nil
	}
	if err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "DEALLOCATE hot", pgx.QueryExecModeSimpleProtocol)
	return strings.Join(lines, "\n"), err
}

// Rights are what the tenants' role may do with each table.
func Rights() map[string]string { return rights }

// Role is the tenants' role.
func (s *Store) Role() string { return s.wall }

// ExecWithin runs a statement within a tenant, as Tables' own are run.
func (s *Store) ExecWithin(ctx context.Context, tenant, sql string, args ...any) (changed int64, err error) {
	return s.tell(tenancy.Within(ctx, tenant), sql, args...)
}

// CountWithin is the number that a statement returns within a tenant.
func (s *Store) CountWithin(ctx context.Context, tenant, sql string) (n int, err error) {
	return n, s.askOne(tenancy.Within(ctx, tenant), []any{&n}, sql)
}

// AdmitTogether admits as one batch, each within its tenant.
func (s *Store) AdmitTogether(ctx context.Context, all []submission.Admission) (
	out []submission.Admitted, err error,
) {
	ops := make([]*admissionOp, len(all))
	for i, a := range all {
		ops[i] = &admissionOp{in: admission{
			Admission: a, scope: scopeOf(a.Key), claimID: uuid.NewString(), within: a.Key.Tenant,
		}, done: make(chan struct{})}
	}
	s.admits.settle(ctx, slices.Clone(ops), s.retry)
	for _, o := range ops {
		out, err = append(out, o.out), errors.Join(err, o.err)
	}
	return out, err
}

// CountText is the number that a query returns.
func (s *Store) CountText(ctx context.Context, text string) (n int, err error) {
	return n, s.pool.QueryRow(ctx, text).Scan(&n)
}

// ExecText runs a statement.
func (s *Store) ExecText(ctx context.Context, text string) error {
	_, err := s.pool.Exec(ctx, text)
	return err
}

// Forget deletes what is stored of a lane, but for its receipts.
func (s *Store) Forget(ctx context.Context, laneID string) error {
	if _, err := s.pool.Exec(ctx, `DELETE FROM entries WHERE session_id IN (SELECT session_id FROM sessions
		WHERE lane_id = $1)`, laneID); err != nil {
		return err
	}
	for _, table := range []string{"segments", "tool_calls", "turns", "submissions", "lanes", "sessions"} {
		if _, err := s.pool.Exec(ctx, `DELETE FROM `+table+` WHERE lane_id = $1`, laneID); err != nil {
			return err
		}
	}
	for _, table := range []string{"runs", "run_steps", "run_signals", "run_blobs"} {
		if _, err := s.pool.Exec(ctx, `DELETE FROM `+table+` WHERE run_id = $1`, laneID); err != nil {
			return err
		}
	}
	return nil
}

// AdmitAgain admits, and again as Admit does when it learns that a key or a session was taken: by itself, whose answer
// was lost.
func (s *Store) AdmitAgain(ctx context.Context, a submission.Admission) (first, second submission.Admitted, err error) {
	op := admission{Admission: a, scope: scopeOf(a.Key), claimID: uuid.NewString()}
	if first, err = s.admits.do(ctx, origin{op.Key.Tenant, op.scope}, op); err != nil {
		return first, second, err
	}
	op.tries++
	second, err = s.admits.do(ctx, origin{op.Key.Tenant, op.scope}, op)
	return first, second, err
}
