package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/fleet"
)

// connectSQL returns nothing when the caller has seen another connection than the last.
const connectSQL = `
INSERT INTO executors AS e (executor_id, journal_id, labels, slots, version, root, isolation, draining, replica,
  connection_epoch, last_seen, journal_name, incarnation, begun)
VALUES ($1, $2, $3::jsonb, $4, $5, $6, $7, $8, $9, $11::bigint + 1,
  clock_timestamp() + $10::bigint * interval '1 microsecond', $12, $13, $14)
ON CONFLICT (executor_id) DO UPDATE SET journal_id = excluded.journal_id, labels = excluded.labels, slots = excluded.slots,
  version = excluded.version, root = excluded.root, isolation = excluded.isolation, draining = excluded.draining,
  replica = excluded.replica, connection_epoch = excluded.connection_epoch, last_seen = excluded.last_seen,
  journal_name = excluded.journal_name, incarnation = excluded.incarnation, begun = excluded.begun
WHERE e.connection_epoch = $11::bigint
RETURNING connection_epoch`

// Connect implements fleet.Store. When its answer is lost it is done again, and finds itself: ErrChanged.
func (s *Store) Connect(ctx context.Context, e fleet.Executor) (epoch int64, err error) {
	labels, err := labelsJSON(e.Labels)
	if err != nil {
		return 0, wrap("connect executor", err)
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		return s.pool.QueryRow(ctx, connectSQL, e.ID, e.JournalID, labels, e.Slots, e.Version, e.Root, e.Isolation,
			e.Draining, optional(e.Replica), s.offset(), e.ConnectionEpoch, e.Journal.Name, e.Journal.Incarnation,
			e.Journal.Begun).Scan(&epoch)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = fleet.ErrChanged
	}
	return epoch, wrap("connect executor", err)
}

// labelsJSON is labels as the database has them: NULL is none.
func labelsJSON(labels map[string]string) (*string, error) {
	if labels == nil {
		return nil, nil
	}
	b, err := json.Marshal(labels)
	if err != nil {
		return nil, fmt.Errorf("encoding labels: %w", err)
	}
	text := string(b)
	return &text, nil
}

// Disconnect implements fleet.Store.
func (s *Store) Disconnect(ctx context.Context, id string, epoch, begun int64) error {
	return wrap("disconnect executor", s.retry(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.pool.Exec(ctx, `UPDATE executors SET replica = NULL, begun = greatest(begun, $4),
			last_seen = clock_timestamp() + $3::bigint * interval '1 microsecond'
			WHERE executor_id = $1 AND connection_epoch = $2 AND replica IS NOT NULL`, id, epoch, s.offset(), begun)
		return err
	}))
}

// SetBegun implements fleet.Store.
func (s *Store) SetBegun(ctx context.Context, id string, epoch, begun int64) (ok bool, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		tag, err := s.pool.Exec(ctx, `UPDATE executors SET begun = greatest(begun, $3)
			WHERE executor_id = $1 AND connection_epoch = $2`, id, epoch, begun)
		ok = tag.RowsAffected() > 0
		return err
	})
	return ok, wrap("record the calls that an executor has begun", err)
}

// SetDraining implements fleet.Store.
func (s *Store) SetDraining(ctx context.Context, id string, epoch int64) error {
	return wrap("drain executor", s.retry(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.pool.Exec(ctx, `UPDATE executors SET draining = true WHERE executor_id = $1 AND connection_epoch = $2`, id, epoch)
		return err
	}))
}

// selectExecutors joins the replica only while it lives: with a dead one the executor counts as away.
const selectExecutors = `
SELECT e.executor_id, e.journal_id, e.labels, e.slots, e.version, e.root, e.isolation, e.draining, e.connection_epoch,
  COALESCE(r.replica_id::text, ''), COALESCE(r.addr, ''), e.last_seen, e.journal_name, e.incarnation, e.begun,
  (SELECT count(*) FROM tool_calls c WHERE c.executor = e.executor_id AND c.state = 1)
FROM executors e LEFT JOIN replicas r ON r.replica_id = e.replica AND r.expires > clock_timestamp() + $1::bigint * interval '1 microsecond'
`

// GetExecutor implements fleet.Store.
func (s *Store) GetExecutor(ctx context.Context, id string) (fleet.Executor, error) {
	list, err := s.executors(ctx, selectExecutors+`WHERE e.executor_id = $2`, s.offset(), id)
	if err == nil && len(list) == 0 {
		err = fleet.Missing(id)
	}
	if err != nil {
		return fleet.Executor{}, wrap("get executor", err)
	}
	return list[0], nil
}

// ListExecutors implements fleet.Store.
func (s *Store) ListExecutors(ctx context.Context) ([]fleet.Executor, error) {
	list, err := s.executors(ctx, selectExecutors+`ORDER BY e.executor_id COLLATE "C"`, s.offset())
	return list, wrap("list executors", err)
}

func (s *Store) executors(ctx context.Context, sql string, args ...any) (list []fleet.Executor, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanExecutor)
		return err
	})
	return list, err
}

func scanExecutor(row pgx.CollectableRow) (e fleet.Executor, err error) {
	var labels []byte
	if err := row.Scan(&e.ID, &e.JournalID, &labels, &e.Slots, &e.Version, &e.Root, &e.Isolation, &e.Draining,
		&e.ConnectionEpoch, &e.Replica, &e.ReplicaAddr, &e.LastSeen, &e.Journal.Name, &e.Journal.Incarnation,
		&e.Journal.Begun, &e.Running); err != nil {
		return e, err
	}
	if labels != nil {
		if err := json.Unmarshal(labels, &e.Labels); err != nil { // it says them again when it connects
			slog.Error("an executor's row is damaged, going on without its labels", "executor", e.ID, "error", err)
			e.Labels = nil
		}
	}
	return e, nil
}
