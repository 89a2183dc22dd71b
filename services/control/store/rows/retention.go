package rows

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/retention"
)

// What retention deletes it finds by an index that holds little else, and locks without waiting, where there are locks.
var (
	deleteReceipts = writes(`WITH found AS MATERIALIZED (SELECT scope, idem_key FROM receipts
		WHERE expires <= {before $1} ORDER BY expires LIMIT $2 {skip locked})
		DELETE FROM receipts WHERE (scope, idem_key) IN (SELECT scope, idem_key FROM found)`)

	deleteTickets = writes(`WITH found AS MATERIALIZED (SELECT hash FROM tickets
		WHERE expires <= {before $1} ORDER BY expires LIMIT $2 {skip locked})
		DELETE FROM tickets WHERE hash IN (SELECT hash FROM found)`)

	deleteAudit = writes(`WITH found AS MATERIALIZED (SELECT event_id FROM audit
		WHERE at <= {before $1} ORDER BY at LIMIT $2 {skip locked})
		DELETE FROM audit WHERE event_id IN (SELECT event_id FROM found)`)

	deleteRevoked = writes(`WITH found AS MATERIALIZED (SELECT token_id FROM tokens
		WHERE revoked_at IS NOT NULL AND kind <> 'operator' AND revoked_at <= {before $1}
		ORDER BY revoked_at LIMIT $2 {skip locked})
		DELETE FROM tokens WHERE token_id IN (SELECT token_id FROM found)`)
	deleteExpired = writes(`WITH found AS MATERIALIZED (SELECT token_id FROM tokens WHERE expires_at IS NOT NULL
		AND (kind <> 'operator' OR (name = 'operator of the data directory' AND revoked_at IS NULL))
		AND expires_at <= {before $1} ORDER BY expires_at LIMIT $2 {skip locked})
		DELETE FROM tokens WHERE token_id IN (SELECT token_id FROM found)`)

	// An executor that is connected all that time is seen now. So is one whose replica died: nobody wrote down the end
	// of its connection, which may have been a moment ago. What remains unseen is away.
	seeExecutors = writes(`WITH found AS MATERIALIZED (SELECT executor_id FROM executors
		WHERE last_seen <= {before $1} ORDER BY last_seen LIMIT $2 {skip locked})
		UPDATE executors SET last_seen = {now}, replica = (SELECT r.replica_id FROM replicas r
		WHERE r.replica_id = executors.replica AND r.expires > {now})
		WHERE executor_id IN (SELECT executor_id FROM found) AND replica IS NOT NULL`)
	deleteExecutors = writes(`WITH found AS MATERIALIZED (SELECT executor_id FROM executors
		WHERE last_seen <= {before $1} ORDER BY last_seen LIMIT $2 {skip locked})
		DELETE FROM executors WHERE executor_id IN (SELECT executor_id FROM found) AND replica IS NULL`)

	unusedDefinitions = reads(`SELECT digest, length(body) FROM definitions WHERE used_at <= {before $1}
		ORDER BY used_at LIMIT $2`)
	// It looks at every loop of every submission that has not settled: only where there is something to delete.
	pinnedDefinitions = reads(`WITH open AS (SELECT s.submission_id, s.agent_digest FROM (SELECT lane_id, first_open
		FROM lanes WHERE state = 1 UNION ALL SELECT lane_id, first_open FROM lanes WHERE state = 2) found
		JOIN submissions s ON s.session_id = found.lane_id AND s.seq >= found.first_open AND s.status + 0 < 2)
		SELECT agent_digest FROM open UNION SELECT c.agent_digest FROM open JOIN submissions c
		ON c.root_id = open.submission_id AND c.parent_call IS NOT NULL AND c.status + 0 < 2`)
	// Runs that are there can be retried.
	runDefinitions = reads(`SELECT (SELECT r.digest FROM runs r WHERE r.digest = w.value LIMIT 1) FROM {list $1} w`)
	useDefinitions = writes(`WITH found AS MATERIALIZED (SELECT digest FROM definitions
		WHERE digest IN (SELECT value FROM {list $1}) {skip locked})
		UPDATE definitions SET used_at = {now} WHERE digest IN (SELECT digest FROM found)`)
	deleteDefinitions = writes(`WITH found AS MATERIALIZED (SELECT digest FROM definitions
		WHERE digest IN (SELECT value FROM {list $1}) AND used_at <= {before $2} {skip locked})
		DELETE FROM definitions WHERE digest IN (SELECT digest FROM found)`)

	// Loops that settled long ago and whose calls are on record. Their index loses each as it is done.
	withCalls = reads(`SELECT submission_id FROM submissions WHERE status = 2 AND has_calls
		AND settled_at <= {before $1} ORDER BY settled_at LIMIT $2 {skip locked}`)
	callsOf = reads(`SELECT c.call_id, COALESCE(length(c.reply), 0) + COALESCE(length(c.late_reply), 0)
		FROM {ids $1} p CROSS JOIN tool_calls c WHERE c.submission_id = p.id LIMIT $2`)
	deleteCalls = writes(`DELETE FROM tool_calls WHERE call_id IN (SELECT value FROM {list $1})`)
	// The calls of the model go by their own age: they are stored in its order, without an index that each would write.
	deleteTurns = writes(`DELETE FROM turns WHERE {turn} IN (SELECT {turn} FROM turns ORDER BY {age} LIMIT $2
		{skip locked}) AND created_at <= {before $1}`)
	// A sub-select and no NOT EXISTS: a planner that makes a join of that may begin with it, at all submissions.
	withoutCalls = writes(`UPDATE submissions SET has_calls = false
		WHERE submission_id IN (SELECT p.id FROM {ids $1} p) AND (SELECT c.call_id FROM tool_calls c
			WHERE c.submission_id = submissions.submission_id LIMIT 1) IS NULL`)
	// What requests began with was used, within an hour, at its used_at: the records of those requests are gone.
	deletePrefixes = writes(`WITH found AS MATERIALIZED (SELECT digest FROM prefixes
		WHERE used_at <= {before $1} ORDER BY used_at LIMIT $2 {skip locked})
		DELETE FROM prefixes WHERE digest IN (SELECT digest FROM found)`)
)

// DeleteBatch implements retention.Store.
func (t *Tables) DeleteBatch(
	ctx context.Context, kind retention.Kind, age time.Duration, limit int,
) (b retention.Batch, err error) {
	x := batch{port: t.port, age: age.Microseconds(), limit: limit}
	switch kind {
	case retention.Events:
		b, err = x.transact(ctx, batch.expire)
	case retention.Deltas:
		b, err = x.transact(ctx, batch.compact)
	case retention.Calls:
		b, err = x.transact(ctx, batch.calls)
	case retention.Receipts:
		b, err = x.each(ctx, deleteReceipts)
	case retention.Audit:
		b, err = x.each(ctx, deleteAudit)
	case retention.Tickets:
		b, err = x.each(ctx, deleteTickets)
	case retention.Tokens:
		b, err = x.each(ctx, deleteRevoked, deleteExpired)
	case retention.Runs:
		b, err = x.transact(ctx, batch.runs)
	case retention.Approvals:
		b, err = x.each(ctx, oldApprovals, oldGrants)
	case retention.Pauses:
		b, err = x.each(ctx, deletePauses)
	case retention.Deletions:
		b, err = x.each(ctx, deleteDone)
	case retention.Executors:
		b, err = x.executors(ctx)
	case retention.Definitions:
		b, err = x.definitions(ctx)
	default:
		err = fmt.Errorf("unknown kind %d", kind)
	}
	return b, wrap("delete old "+kind.String(), err)
}

// batch is one batch of deletions, on the database or in a transaction.
type batch struct {
	port  Port
	age   int64 // in microseconds
	limit int
}

// transact runs a batch in one transaction.
func (x batch) transact(
	ctx context.Context, f func(batch, context.Context) (retention.Batch, error),
) (b retention.Batch, err error) {
	err = x.port.Transact(ctx, func(ctx context.Context, p Port) (err error) {
		in := x
		in.port = p
		b, err = f(in, ctx)
		return err
	})
	return b, err
}

// each runs statements that delete at most so many rows, until that many are deleted.
func (x batch) each(ctx context.Context, statements ...Statement) (b retention.Batch, err error) {
	for _, s := range statements {
		n, err := x.port.Exec(ctx, s, x.age, x.limit-b.Deleted)
		if err != nil {
			return b, err
		}
		if b.Deleted += n; b.Deleted >= x.limit {
			b.More = true
			break
		}
	}
	return b, nil
}

func (x batch) executors(ctx context.Context) (b retention.Batch, err error) {
	seen, err := x.port.Exec(ctx, seeExecutors, x.age, x.limit)
	if err != nil {
		return b, err
	}
	b.Deleted, err = x.port.Exec(ctx, deleteExecutors, x.age, x.limit)
	b.More = seen+b.Deleted >= x.limit
	return b, err
}

// definitions deletes those that no unsettled submission is pinned to. Whoever pins one meanwhile has stored it again
// before, which its time shows.
func (x batch) definitions(ctx context.Context) (b retention.Batch, err error) {
	unused, err := x.port.Query(ctx, unusedDefinitions, x.age, x.limit)
	if err != nil || len(unused) == 0 {
		return b, err
	}
	var digests texts
	for _, r := range unused {
		digests = append(digests, r.text(0))
	}
	rows, err := x.port.Query(ctx, pinnedDefinitions)
	if err != nil {
		return b, err
	}
	ofRuns, err := x.port.Query(ctx, runDefinitions, digests.json())
	if err != nil {
		return b, err
	}
	pinned := map[string]bool{}
	for _, r := range slices.Concat(rows, ofRuns) {
		pinned[r.text(0)] = true
	}
	var keep, drop texts
	budget := retention.NewBudget(x.limit)
	for _, r := range unused {
		switch digest := r.text(0); {
		case budget.Spent():
		case pinned[digest]:
			budget.Spend(0)
			keep = append(keep, digest)
		default:
			budget.Spend(int(r.int(1)))
			drop = append(drop, digest)
		}
	}
	if len(keep) > 0 {
		if _, err := x.port.Exec(ctx, useDefinitions, keep.json()); err != nil {
			return b, err
		}
	}
	b.Deleted, err = x.port.Exec(ctx, deleteDefinitions, drop.json(), x.age)
	b.More = budget.Spent()
	return b, err
}

// calls deletes the records of calls, and what only they refer to.
func (x batch) calls(ctx context.Context) (b retention.Batch, err error) {
	rows, err := x.port.Query(ctx, withCalls, x.age, x.limit)
	if err != nil {
		return b, err
	}
	if len(rows) == 0 {
		return x.each(ctx, deleteTurns, deletePrefixes)
	}
	var loops, drop texts
	for _, r := range rows {
		loops = append(loops, r.text(0))
	}
	calls, err := x.port.Query(ctx, callsOf, loops.json(), x.limit)
	if err != nil {
		return b, err
	}
	budget := retention.NewBudget(x.limit)
	for _, r := range calls {
		if !budget.Spent() {
			budget.Spend(int(r.int(1)))
			drop = append(drop, r.text(0))
		}
	}
	if b.Deleted, err = x.port.Exec(ctx, deleteCalls, drop.json()); err != nil {
		return b, err
	}
	b.More = len(loops) == x.limit || budget.Spent()
	_, err = x.port.Exec(ctx, withoutCalls, loops.json())
	return b, err
}
