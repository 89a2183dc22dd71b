package rows

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// executorColumns join the replica only while it lives: with a dead one the executor counts as away.
const executorColumns = `SELECT e.executor_id, e.journal_id, e.journal_name, e.incarnation, e.begun, e.labels, e.slots,
	e.version, e.root, e.isolation, e.draining, e.connection_epoch, e.last_seen, r.replica_id, r.addr,
	(SELECT count(*) FROM tool_calls c WHERE c.executor = e.executor_id AND c.state = 1),
	e.tenant, e.shared, e.tools
	FROM executors e LEFT JOIN replicas r ON r.replica_id = e.replica AND r.expires > {now} `

var (
	// Nothing is returned when the caller has seen another connection than the last.
	connectExecutor = writes(`INSERT INTO executors AS e (executor_id, journal_id, journal_name, incarnation, begun,
		labels, slots, version, root, isolation, draining, connection_epoch, replica, last_seen,
		tenant, shared, tools)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, CAST($12 AS bigint) + 1, $13, {now}, $14, $15, $16)
		ON CONFLICT (executor_id) DO UPDATE SET journal_id = excluded.journal_id, journal_name = excluded.journal_name,
		incarnation = excluded.incarnation, begun = excluded.begun, labels = excluded.labels, slots = excluded.slots,
		version = excluded.version, root = excluded.root, isolation = excluded.isolation, draining = excluded.draining,
		connection_epoch = excluded.connection_epoch, replica = excluded.replica, last_seen = excluded.last_seen,
		tenant = excluded.tenant, shared = excluded.shared, tools = excluded.tools
		WHERE e.connection_epoch = $12 RETURNING connection_epoch`)
	// Whoever repeats it does not move the end of the connection.
	disconnectExecutor = writes(`UPDATE executors SET replica = NULL,
		last_seen = CASE WHEN replica IS NULL THEN last_seen ELSE {now} END,
		begun = CASE WHEN begun < $3 THEN $3 ELSE begun END WHERE executor_id = $1 AND connection_epoch = $2`)
	setBegun = writes(`UPDATE executors SET begun = CASE WHEN begun < $3 THEN $3 ELSE begun END
		WHERE executor_id = $1 AND connection_epoch = $2`)
	drainExecutor = writes(`UPDATE executors SET draining = true WHERE executor_id = $1 AND connection_epoch = $2`)
	findExecutor  = reads(executorColumns + `WHERE e.executor_id = $1`)
	listExecutors = reads(executorColumns)
)

// executor decodes a row of executorColumns. Without its labels, or tools, an executor is still one: it sends them
// again when it next connects.
func (t *Tables) executor(ctx context.Context) func(Row) (fleet.Executor, error) {
	return func(r Row) (fleet.Executor, error) {
		e := fleet.Executor{
			ID: r.text(0), JournalID: r.text(1), Slots: int(r.int(6)), Version: r.text(7), Root: r.text(8),
			Isolation: r.text(9), Draining: r.bool(10), ConnectionEpoch: r.int(11), LastSeen: r.time(12),
			Replica: r.text(13), ReplicaAddr: r.text(14), Running: int(r.int(15)),
			Tenant: r.text(16), Shared: r.bool(17),
			Journal: fleet.Journal{Name: r.text(2), Incarnation: r.text(3), Begun: r.int(4)},
		}
		if err := r.json(5, &e.Labels); err != nil {
			e.Labels = nil
			t.report(ctx, fmt.Errorf("decoding the labels of executor %s: %w", e.ID, err))
		}
		if err := r.json(18, &e.Tools); err != nil {
			e.Tools = nil
			t.report(ctx, fmt.Errorf("decoding the tools of executor %s: %w", e.ID, err))
		}
		return e, nil
	}
}

// Connect implements fleet.Store. When its answer is lost it is done again, and finds itself: ErrChanged.
func (t *Tables) Connect(ctx context.Context, e fleet.Executor) (epoch int64, err error) {
	const doing = "connect executor"
	labels, err := jsonOr(e.Labels, len(e.Labels) == 0)
	if err != nil {
		return 0, wrap(doing, err)
	}
	tools, err := jsonOr(e.Tools, len(e.Tools) == 0)
	if err != nil {
		return 0, wrap(doing, err)
	}
	epoch, err = one(ctx, t.port, firstInt, fleet.ErrChanged, connectExecutor, e.ID, e.JournalID, e.Journal.Name,
		e.Journal.Incarnation, e.Journal.Begun, labels, e.Slots, e.Version, e.Root, e.Isolation, e.Draining,
		e.ConnectionEpoch, optional(e.Replica), cmp.Or(e.Tenant, session.DefaultTenant), e.Shared, tools)
	return epoch, wrap(doing, err)
}

// Disconnect implements fleet.Store.
func (t *Tables) Disconnect(ctx context.Context, id string, epoch, begun int64) error {
	_, err := t.port.Exec(ctx, disconnectExecutor, id, epoch, begun)
	return wrap("disconnect executor", err)
}

// SetBegun implements fleet.Store.
func (t *Tables) SetBegun(ctx context.Context, id string, epoch, begun int64) (bool, error) {
	n, err := t.port.Exec(ctx, setBegun, id, epoch, begun)
	return n > 0, wrap("record the calls that an executor has begun", err)
}

// SetDraining implements fleet.Store.
func (t *Tables) SetDraining(ctx context.Context, id string, epoch int64) error {
	_, err := t.port.Exec(ctx, drainExecutor, id, epoch)
	return wrap("drain executor", err)
}

// GetExecutor implements fleet.Store.
func (t *Tables) GetExecutor(ctx context.Context, id string) (fleet.Executor, error) {
	e, err := one(tenancy.Everywhere(ctx), t.port, t.executor(ctx), fleet.Missing(id), findExecutor, id)
	return e, wrap("get executor", err)
}

// ListExecutors implements fleet.Store.
func (t *Tables) ListExecutors(ctx context.Context) ([]fleet.Executor, error) {
	all, err := list(tenancy.Everywhere(ctx), t, t.executor(ctx), listExecutors)
	// Here, because each database has a collation of its own.
	slices.SortFunc(all, func(a, b fleet.Executor) int { return strings.Compare(a.ID, b.ID) })
	return all, wrap("list executors", err)
}
