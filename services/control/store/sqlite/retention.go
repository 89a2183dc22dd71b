package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/retention"
)

var (
	deleteReceipts = sql(`DELETE FROM receipts WHERE rowid IN (SELECT rowid FROM receipts WHERE expires <= ? ORDER BY expires LIMIT ?)`)

	selectWithCalls = sql(`SELECT submission_id FROM submissions WHERE status = 2 AND has_calls = 1 AND settled_at <= ?
		ORDER BY settled_at LIMIT ?`)
	selectCallsOf = sql(`SELECT rowid, ifnull(length(reply), 0) + ifnull(length(late_reply), 0) FROM tool_calls
		WHERE submission_id = ? LIMIT ?`)
	deleteCall   = sql(`DELETE FROM tool_calls WHERE rowid = ?`)
	withoutCalls = sql(`UPDATE submissions SET has_calls = 0 WHERE submission_id = ?`)

	selectUnseen   = sql(`SELECT executor_id, replica FROM executors WHERE last_seen <= ? ORDER BY last_seen LIMIT ?`)
	seeExecutor    = sql(`UPDATE executors SET last_seen = ?, replica = ? WHERE executor_id = ?`)
	deleteExecutor = sql(`DELETE FROM executors WHERE executor_id = ?`)

	deleteRevoked = sql(`DELETE FROM tokens WHERE rowid IN (SELECT rowid FROM tokens
		WHERE revoked_at IS NOT NULL AND kind <> 'operator' AND revoked_at <= ? ORDER BY revoked_at LIMIT ?)`)
	deleteExpired = sql(`DELETE FROM tokens WHERE rowid IN (SELECT rowid FROM tokens
		WHERE expires_at IS NOT NULL
		AND (kind <> 'operator' OR (name = 'operator of the data directory' AND revoked_at IS NULL))
		AND expires_at <= ? ORDER BY expires_at LIMIT ?)`)

	selectUnused = sql(`SELECT digest, length(body) FROM definitions WHERE used_at <= ? ORDER BY used_at LIMIT ?`)
	// Both read what a chore may: a row per lane.
	pinned = sql(`SELECT s.agent_digest FROM lanes l JOIN submissions s ON s.session_id = l.lane_id
		AND s.seq >= l.first_open AND s.status < 2 WHERE l.state > 0`)
	pinnedByChildren = sql(`SELECT c.agent_digest FROM lanes l JOIN submissions s ON s.session_id = l.lane_id
		AND s.seq >= l.first_open AND s.status = 1 JOIN submissions c ON c.root_id = s.submission_id
		AND c.parent_call IS NOT NULL AND c.status = 1 WHERE l.state > 0`)
	useDefinition    = sql(`UPDATE definitions SET used_at = ? WHERE digest = ?`)
	deleteDefinition = sql(`DELETE FROM definitions WHERE digest = ? AND used_at <= ?`)
)

// DeleteBatch implements retention.Store.
func (s *Store) DeleteBatch(
	ctx context.Context, kind retention.Kind, age time.Duration, limit int,
) (b retention.Batch, err error) {
	do := map[retention.Kind]func(t tx, before int64, limit int) (retention.Batch, error){
		retention.Events: tx.expire, retention.Deltas: tx.compact, retention.Receipts: tx.deleteReceipts, retention.Calls: tx.deleteCalls,
		retention.Executors: tx.deleteExecutors, retention.Tokens: tx.deleteTokens,
	}[kind]
	if kind == retention.Definitions {
		if do, err = s.deleteDefinitions(ctx, age, limit); do == nil {
			return b, err
		}
	}
	if do == nil {
		return b, fmt.Errorf("deleting rows of an unknown kind: %d", kind)
	}
	err = s.write(ctx, func(t tx) (err error) {
		b, err = do(t, t.now.Add(-age).UnixMicro(), limit)
		return err
	})
	return b, err
}

// full is the answer of a statement with a limit.
func full(deleted int64, limit int, err error) (retention.Batch, error) {
	return retention.Batch{Deleted: int(deleted), More: err == nil && int(deleted) >= limit}, err
}

func (t tx) deleteReceipts(before int64, limit int) (retention.Batch, error) {
	n, err := t.exec(deleteReceipts, before, limit)
	return full(n, limit, err)
}

// deleteCalls deletes the calls of submissions that settled before. The index of those that have calls loses each as it
// is done.
func (t tx) deleteCalls(before int64, limit int) (b retention.Batch, err error) {
	owners, err := t.texts(selectWithCalls, before, limit)
	if err != nil {
		return b, err
	}
	budget := retention.NewBudget(limit)
	for _, o := range owners {
		if budget.Spent() {
			break
		}
		calls, err := t.sized(selectCallsOf, &budget, o)
		if err != nil {
			return b, err
		}
		for _, rowid := range calls {
			if _, err := t.exec(deleteCall, rowid); err != nil {
				return b, err
			}
		}
		b.Deleted += len(calls)
		if budget.Spent() {
			continue // there may be more of it
		}
		if _, err := t.exec(withoutCalls, o); err != nil {
			return b, err
		}
	}
	b.More = len(owners) == limit || budget.Spent()
	return b, nil
}

// sized reads rowids and sizes, as many rows as the budget allows.
func (t tx) sized(q statement, budget *retention.Budget, args ...any) (rowids []int64, err error) {
	err = t.rows(q, func(r row) (bool, error) {
		rowids = append(rowids, r.int(0))
		budget.Spend(int(r.int(1)))
		return !budget.Spent(), nil
	}, append(args, budget.Rows)...)
	return rowids, err
}

// deleteExecutors deletes executors that were last seen before. One that is connected all that time is seen now. So is
// one whose replica died: nobody wrote down the end of its connection, which may have been a moment ago.
func (t tx) deleteExecutors(before int64, limit int) (b retention.Batch, err error) {
	replicas := map[string]string{}
	err = t.rows(selectUnseen, func(r row) (bool, error) {
		replicas[r.text(0)] = r.text(1)
		return true, nil
	}, before, limit)
	if err != nil {
		return b, err
	}
	for id, replica := range replicas {
		if replica == "" {
			b.Deleted++
			_, err = t.exec(deleteExecutor, id)
		} else {
			err = t.see(id, replica)
		}
		if err != nil {
			return b, err
		}
	}
	b.More = len(replicas) == limit
	return b, nil
}

// see notes that an executor was there until now, and that it is away from now on if its replica is dead.
func (t tx) see(id, replica string) error {
	live, err := t.row(isLive, replica, t.micros())
	if err != nil {
		return err
	}
	if live == nil {
		replica = ""
	}
	_, err = t.exec(seeExecutor, t.micros(), optional(replica), id)
	return err
}

func (t tx) deleteTokens(before int64, limit int) (retention.Batch, error) {
	revoked, err := t.exec(deleteRevoked, before, limit)
	if err != nil {
		return retention.Batch{}, err
	}
	expired, err := t.exec(deleteExpired, before, limit-int(revoked))
	return full(revoked+expired, limit, err)
}

// deleteDefinitions looks for definitions that were last pinned before the age. Which of them are pinned still is found
// on a reader, for it takes a look at every submission that has not settled; who pins one meanwhile has stored it again
// before. nil is that there are none.
func (s *Store) deleteDefinitions(
	ctx context.Context, age time.Duration, limit int,
) (do func(tx, int64, int) (retention.Batch, error), err error) {
	pins := map[string]bool{}
	type definition struct {
		digest string
		size   int
	}
	var unused []definition
	err = s.read(ctx, func(c *conn) error {
		err := c.rows(selectUnused, func(r row) (bool, error) {
			unused = append(unused, definition{r.text(0), int(r.int(1))})
			return true, nil
		}, s.now().Add(-age).UnixMicro(), limit)
		if err != nil || len(unused) == 0 {
			return err
		}
		for _, q := range []statement{pinned, pinnedByChildren} {
			if err := c.rows(q, func(r row) (bool, error) {
				pins[r.text(0)] = true
				return true, nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(unused) == 0 {
		return nil, err
	}
	return func(t tx, before int64, limit int) (b retention.Batch, err error) {
		budget := retention.NewBudget(limit)
		for _, d := range unused {
			if budget.Spent() {
				break
			}
			var n int64
			if pins[d.digest] {
				budget.Spend(0)
				_, err = t.exec(useDefinition, t.micros(), d.digest)
			} else {
				budget.Spend(d.size)
				n, err = t.exec(deleteDefinition, d.digest, before)
			}
			if err != nil {
				return b, err
			}
			b.Deleted += int(n)
		}
		b.More = budget.Spent()
		return b, nil
	}, nil
}
