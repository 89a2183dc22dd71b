package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/pawl-dev/pawl/services/control/fleet"
)

// The connection of a dead replica is none, whatever its row says.
const executorColumns = `SELECT e.executor_id, e.journal_id, e.labels, e.slots, e.version, e.root, e.isolation,
	e.draining, e.connection_epoch, r.replica_id, r.addr, e.last_seen, e.journal_name, e.incarnation, e.begun,
	(SELECT count(*) FROM tool_calls c WHERE c.executor = e.executor_id AND c.state = 1)
	FROM executors e LEFT JOIN replicas r ON r.replica_id = e.replica AND r.expires > ?1 `

var (
	// Nothing is returned when the caller has seen another connection than the last.
	connectExecutor = sql(`INSERT INTO executors (executor_id, journal_id, labels, slots, version, root, isolation, draining,
		connection_epoch, replica, last_seen, journal_name, incarnation, begun)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 + 1, ?10, ?11, ?12, ?13, ?14)
		ON CONFLICT (executor_id) DO UPDATE SET journal_id = excluded.journal_id,
		labels = excluded.labels, slots = excluded.slots, version = excluded.version, root = excluded.root,
		isolation = excluded.isolation, draining = excluded.draining, connection_epoch = excluded.connection_epoch,
		replica = excluded.replica, last_seen = excluded.last_seen, journal_name = excluded.journal_name,
		incarnation = excluded.incarnation, begun = excluded.begun
		WHERE connection_epoch = ?9 RETURNING connection_epoch`)
	disconnectExecutor = sql(`UPDATE executors SET replica = NULL, last_seen = ?1, begun = max(begun, ?4)
		WHERE executor_id = ?2 AND connection_epoch = ?3`)
	setBegun        = sql(`UPDATE executors SET begun = max(begun, ?3) WHERE executor_id = ?1 AND connection_epoch = ?2`)
	drainExecutor   = sql(`UPDATE executors SET draining = 1 WHERE executor_id = ? AND connection_epoch = ?`)
	selectExecutor  = sql(executorColumns + `WHERE e.executor_id = ?2`)
	selectExecutors = sql(executorColumns + `ORDER BY e.executor_id`)
)

func (r row) executor() fleet.Executor {
	e := fleet.Executor{
		ID: r.text(0), JournalID: r.text(1), Slots: int(r.int(3)), Version: r.text(4), Root: r.text(5),
		Isolation: r.text(6), Draining: r.bool(7), ConnectionEpoch: r.int(8), Replica: r.text(9), ReplicaAddr: r.text(10),
		LastSeen: r.time(11), Running: int(r.int(15)),
		Journal: fleet.Journal{Name: r.text(12), Incarnation: r.text(13), Begun: r.int(14)},
	}
	if labels := r.text(2); labels != "" {
		if err := json.Unmarshal([]byte(labels), &e.Labels); err != nil { // it says them again when it connects
			slog.Error("an executor's row is damaged, going on without its labels", "executor", e.ID, "error", err)
			e.Labels = nil
		}
	}
	return e
}

// Connect implements fleet.Store.
func (s *Store) Connect(ctx context.Context, e fleet.Executor) (epoch int64, err error) {
	var labels any
	if len(e.Labels) > 0 {
		b, err := json.Marshal(e.Labels)
		if err != nil {
			return 0, fmt.Errorf("encoding the labels of executor %s: %w", e.ID, err)
		}
		labels = string(b)
	}
	err = s.write(ctx, func(t tx) error {
		r, err := t.returning(connectExecutor, e.ID, e.JournalID, labels, e.Slots, e.Version, e.Root, e.Isolation,
			e.Draining, e.ConnectionEpoch, optional(e.Replica), t.micros(), e.Journal.Name, e.Journal.Incarnation,
			e.Journal.Begun)
		if err != nil {
			return err
		}
		if r == nil {
			return fleet.ErrChanged
		}
		epoch = r.int(0)
		return nil
	})
	return epoch, err
}

// Disconnect implements fleet.Store.
func (s *Store) Disconnect(ctx context.Context, id string, epoch, begun int64) error {
	return s.write(ctx, func(t tx) error {
		_, err := t.exec(disconnectExecutor, t.micros(), id, epoch, begun)
		return err
	})
}

// SetBegun implements fleet.Store.
func (s *Store) SetBegun(ctx context.Context, id string, epoch, begun int64) (ok bool, err error) {
	err = s.write(ctx, func(t tx) error {
		n, err := t.exec(setBegun, id, epoch, begun)
		ok = n == 1
		return err
	})
	return ok, err
}

// SetDraining implements fleet.Store. An older connection's word counts no more.
func (s *Store) SetDraining(ctx context.Context, id string, epoch int64) error {
	return s.write(ctx, func(t tx) error {
		_, err := t.exec(drainExecutor, id, epoch)
		return err
	})
}

// GetExecutor implements fleet.Store.
func (s *Store) GetExecutor(ctx context.Context, id string) (fleet.Executor, error) {
	found, err := s.executors(ctx, selectExecutor, s.now().UnixMicro(), id)
	if err != nil {
		return fleet.Executor{}, err
	}
	if len(found) == 0 {
		return fleet.Executor{}, fleet.Missing(id)
	}
	return found[0], nil
}

// ListExecutors implements fleet.Store.
func (s *Store) ListExecutors(ctx context.Context) ([]fleet.Executor, error) {
	return s.executors(ctx, selectExecutors, s.now().UnixMicro())
}

func (s *Store) executors(ctx context.Context, q statement, args ...any) (found []fleet.Executor, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.rows(q, func(r row) (bool, error) {
			found = append(found, r.executor())
			return true, nil
		}, args...)
	})
	return found, err
}
