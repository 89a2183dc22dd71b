package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	records "github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store/rows"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// runTx implements rows.RunTx.
type runTx struct {
	plain
	claimID string
}

// Promote implements rows.RunTx. The key's row is locked by now.
func (p runTx) Promote(ctx context.Context, _ rows.Gate, self string) error {
	_, err := p.tx.Exec(ctx, promoteSQL, []string{self}, self)
	return err
}

// Cancel implements rows.RunTx. The run may have an owner whose lane is locked: it is cancelled on the way of its mail.
func (p runTx) Cancel(ctx context.Context, tenant, runID, submissionID string) error {
	_, err := p.tx.Exec(ctx, `INSERT INTO aborts (tenant, lane_id, submission_id) VALUES ($1, $2, $3)`, tenant, runID,
		submissionID)
	return err
}

// Take implements rows.RunTx.
func (p runTx) Take(ctx context.Context, runID, owner string) (*lane.Lease, error) {
	s, got := p.s, claimed{}
	batch := &pgx.Batch{}
	batch.Queue(`UPDATE lanes SET state = 2, owner = $1, claim_id = $2, epoch = epoch + 1
		WHERE lane_id = $3 AND state + 0 = 1 AND due_at <= $4::timestamptz`, owner, p.claimID, runID, s.now())
	batch.Queue(claimHeadsSQL, 0, s.now(), graces, owner, p.claimID).Query(got.collect)
	batch.Queue(beginRunsSQL, s.now(), owner, p.claimID)
	if err := p.tx.SendBatch(ctx, batch).Close(); err != nil || len(got.heads) == 0 {
		return nil, err
	}
	lease, err := got.heads[0].lease(nil)
	return &lease, err
}

// starting runs f in a transaction that starts runs, again where another one has used an idempotency key meanwhile.
func (s *Store) starting(
	ctx context.Context, tenant, claimID string, f func(context.Context, rows.RunTx) error,
) error {
	if within := tenancy.Of(ctx); within != "" && within != tenant {
		return tenancy.ErrForeign
	}
	for tries := 0; ; tries++ {
		err := s.retry(ctx, func(ctx context.Context, _ bool) error {
			return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
				return f(ctx, runTx{plain{s: s, tx: tx}, claimID})
			})
		})
		if (errors.Is(err, rows.ErrRaced) || isViolation(err)) && tries < 10 {
			continue
		}
		return err
	}
}

// StartRun implements run.Store. Most starts are fresh, and are stored together with others. What keeps one from that
// is looked at in a transaction of its own.
func (s *Store) StartRun(ctx context.Context, n run.Start) (out run.Started, err error) {
	claimID := uuid.NewString()
	if out, err = s.startFresh(ctx, n, claimID); !errors.Is(err, errNotFresh) && !isViolation(err) {
		return out, wrap("start a run", err)
	}
	err = s.starting(ctx, n.Tenant, claimID, func(ctx context.Context, p rows.RunTx) (err error) {
		out, err = s.StartRunIn(ctx, p, n)
		return err
	})
	return out, wrap("start a run", err)
}

// RetryRun implements run.Store.
func (s *Store) RetryRun(ctx context.Context, r run.Retry) (out run.Started, err error) {
	err = s.starting(ctx, r.Tenant, uuid.NewString(), func(ctx context.Context, p rows.RunTx) (err error) {
		out, err = s.RetryRunIn(ctx, p, r)
		return err
	})
	return out, wrap("retry a run", err)
}

// Fire implements run.Store.
func (s *Store) Fire(ctx context.Context, of run.Schedule, next time.Time, starts []run.Start) (fired bool, err error) {
	err = s.starting(ctx, of.Tenant, uuid.NewString(), func(ctx context.Context, p rows.RunTx) (err error) {
		fired, err = s.FireIn(ctx, p, of, next, starts)
		return err
	})
	return fired && err == nil, wrap("fire a schedule", err)
}

// DueSchedules implements run.Store. Who has just started and may be mistaken about the time leaves them to others.
func (s *Store) DueSchedules(
	ctx context.Context, after run.Place, limit int,
) (due []run.Schedule, now time.Time, err error) {
	if !s.clock.certain() {
		return nil, now, nil
	}
	return s.Tables.DueSchedules(ctx, after, limit)
}

// Tell implements run.Store. It holds no lane: what wakes one is a row of its own.
func (s *Store) Tell(ctx context.Context, n run.Telling) (told records.Signal, replayed bool, err error) {
	if within := tenancy.Of(ctx); within != "" && within != n.Tenant {
		return told, false, tenancy.ErrForeign
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			told, replayed, err = rows.TellRunIn(ctx, plain{s: s, tx: tx}, n)
			if err == nil && !replayed {
				_, err = tx.Exec(ctx, `INSERT INTO wakes (tenant, lane_id) VALUES ($1, $2)`, n.Tenant, n.RunID)
			}
			return err
		})
	})
	return told, replayed, wrap("tell a run", err)
}

// abortsPage is how many runs are cancelled at once.
const abortsPage = 100

// abort is a run that is to be cancelled.
type abort struct {
	id               int64
	lane, submission string
}

// carryOut cancels the runs that others want cancelled: what the transactions that want it may not do themselves, for
// they hold other lanes. Two replicas that do so at once do it once. One that cannot be cancelled is tried again the
// next time, and keeps no other.
func (s *Store) carryOut(ctx context.Context) (err error) {
	for after, more := int64(0), true; more; {
		page, failed := s.abortsAfter(ctx, after)
		if failed != nil {
			return errors.Join(err, failed)
		}
		var done []int64
		for _, one := range page {
			failed = s.retry(ctx, func(ctx context.Context, _ bool) error {
				_, _, err := s.abort(ctx, abortOneSQL, one.lane, one.submission)
				return err
			})
			if after = one.id; failed == nil {
				done = append(done, one.id)
			}
			err = errors.Join(err, failed)
			if errors.Is(failed, ErrUnavailable) || ctx.Err() != nil {
				return err
			}
		}
		if len(done) > 0 {
			_, failed = s.pool.Exec(ctx, `DELETE FROM aborts WHERE id = ANY($1)`, done)
			err = errors.Join(err, failed)
		}
		more = len(page) == abortsPage
	}
	return err
}

func (s *Store) abortsAfter(ctx context.Context, after int64) (page []abort, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		found, err := s.pool.Query(ctx, `
			SELECT id, lane_id, submission_id FROM aborts WHERE id > $1 ORDER BY id LIMIT $2`, after, abortsPage)
		if err != nil {
			return err
		}
		var one abort
		page = nil
		_, err = pgx.ForEachRow(found, []any{&one.id, &one.lane, &one.submission}, func() error {
			page = append(page, one)
			return nil
		})
		return err
	})
	return page, err
}
