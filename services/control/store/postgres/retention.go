package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/retention"
)

// What retention deletes it finds by an index that holds little else, locks without waiting, and deletes by key. Each
// statement answers with how many rows it deleted and how many it looked at. Its first parameters are the clock's
// offset, the age and the limit.

const (
	// nowSQL and cutSQL are times on the database's clock, in sub-selects that an index can be searched with.
	nowSQL = `(SELECT clock_timestamp() + $1::bigint * interval '1 microsecond')`
	cutSQL = `(SELECT clock_timestamp() + ($1::bigint - $2::bigint) * interval '1 microsecond')`
)

// onTime fills in the times.
func onTime(sql string) string {
	return strings.NewReplacer("{now}", nowSQL, "{cut}", cutSQL).Replace(sql)
}

var deleteReceiptsSQL = onTime(`
WITH o AS MATERIALIZED (SELECT scope, idem_key FROM receipts WHERE expires <= {cut} ORDER BY expires LIMIT $3
	FOR UPDATE SKIP LOCKED),
d AS (DELETE FROM receipts r USING o WHERE r.scope = o.scope AND r.idem_key = o.idem_key RETURNING 1)
SELECT (SELECT count(*) FROM d), (SELECT count(*) FROM o)`)

// deleteExecutorsSQL deletes executors that nobody has seen for long. One that is connected all that time is seen now.
// So is one whose replica died: nobody wrote down the end of its connection, which may have been a moment ago.
var deleteExecutorsSQL = onTime(`
WITH o AS MATERIALIZED (SELECT executor_id, replica FROM executors WHERE last_seen <= {cut} ORDER BY last_seen LIMIT $3
	FOR UPDATE SKIP LOCKED),
l AS MATERIALIZED (SELECT o.executor_id, r.replica_id FROM o LEFT JOIN replicas r ON r.replica_id = o.replica
	AND r.expires > {now}
  WHERE o.replica IS NOT NULL),
u AS (UPDATE executors e SET last_seen = {now}, replica = l.replica_id FROM l WHERE e.executor_id = l.executor_id),
d AS (DELETE FROM executors e USING o WHERE e.executor_id = o.executor_id AND o.replica IS NULL RETURNING 1)
SELECT (SELECT count(*) FROM d), (SELECT count(*) FROM o)`)

const deleteTokensSQL = `
WITH o AS MATERIALIZED (SELECT token_id FROM tokens WHERE {ended} ORDER BY {at} LIMIT $3 FOR UPDATE SKIP LOCKED),
d AS (DELETE FROM tokens t USING o WHERE t.token_id = o.token_id RETURNING 1)
SELECT (SELECT count(*) FROM d), (SELECT count(*) FROM o)`

var (
	deleteRevokedSQL = onTime(strings.NewReplacer("{at}", "revoked_at", "{ended}",
		`revoked_at IS NOT NULL AND kind <> 'operator' AND revoked_at <= {cut}`).Replace(deleteTokensSQL))
	deleteExpiredSQL = onTime(strings.NewReplacer("{at}", "expires_at", "{ended}",
		`expires_at IS NOT NULL AND (kind <> 'operator' OR (name = 'operator of the data directory'
			AND revoked_at IS NULL))
    AND expires_at <= {cut}`).Replace(deleteTokensSQL))
)

// deleteDefinitionsSQL looks at every submission that has not settled when there are definitions that were not pinned
// for long, and only then. One that is pinned still is pinned now. Whoever pins one meanwhile has stored it again
// before, which the row's lock shows.
var deleteDefinitionsSQL = onTime(`
WITH o AS MATERIALIZED (SELECT digest FROM definitions WHERE used_at <= {cut} ORDER BY used_at LIMIT $3
	FOR UPDATE SKIP LOCKED),
p AS MATERIALIZED (SELECT DISTINCT s.agent_digest AS digest FROM (SELECT 1 WHERE EXISTS (SELECT 1 FROM o)) due
  CROSS JOIN LATERAL (SELECT lane_id, first_open FROM lanes WHERE state = 1 UNION ALL SELECT lane_id, first_open
	FROM lanes WHERE state = 2) l
  CROSS JOIN LATERAL (SELECT submission_id, agent_digest FROM submissions q
    WHERE q.session_id = l.lane_id AND q.seq >= l.first_open AND q.status + 0 < 2) q
  CROSS JOIN LATERAL (SELECT q.agent_digest UNION ALL SELECT c.agent_digest FROM submissions c
    WHERE c.root_id = q.submission_id AND c.parent_call IS NOT NULL AND c.status + 0 < 2) s),
u AS (UPDATE definitions x SET used_at = {now} FROM o WHERE x.digest = o.digest AND o.digest IN (SELECT digest FROM p)),
d AS (DELETE FROM definitions x USING o WHERE x.digest = o.digest AND o.digest NOT IN (SELECT digest
	FROM p) RETURNING 1)
SELECT (SELECT count(*) FROM d), (SELECT count(*) FROM o)`)

// DeleteBatch implements retention.Store.
func (s *Store) DeleteBatch(
	ctx context.Context, kind retention.Kind, age time.Duration, limit int,
) (b retention.Batch, err error) {
	statement := map[retention.Kind]string{
		retention.Events: expireSQL, retention.Receipts: deleteReceiptsSQL, retention.Executors: deleteExecutorsSQL,
		retention.Definitions: deleteDefinitionsSQL,
	}[kind]
	err = s.retry(ctx, func(ctx context.Context, _ bool) (err error) {
		switch {
		case statement != "":
			b, err = s.deleteBy(ctx, statement, age, limit)
		case kind == retention.Tokens:
			b, err = s.deleteTokens(ctx, age, limit)
		case kind == retention.Calls:
			b, err = s.deleteCalls(ctx, age, limit)
		case kind == retention.Deltas:
			b, err = s.compact(ctx, age, limit)
		default:
			err = fmt.Errorf("unknown kind %d", kind)
		}
		return err
	})
	return b, wrap("delete old "+kind.String(), err)
}

// deleteBy runs a statement that answers with how many rows it deleted and how many it looked at.
func (s *Store) deleteBy(
	ctx context.Context, statement string, age time.Duration, limit int,
) (b retention.Batch, err error) {
	var seen int
	err = s.pool.QueryRow(ctx, statement, s.offset(), micros(age), limit).Scan(&b.Deleted, &seen)
	b.More = seen >= limit || b.Deleted >= limit
	return b, err
}

func (s *Store) deleteTokens(ctx context.Context, age time.Duration, limit int) (retention.Batch, error) {
	b, err := s.deleteBy(ctx, deleteRevokedSQL, age, limit)
	if err != nil || b.More {
		return b, err
	}
	expired, err := s.deleteBy(ctx, deleteExpiredSQL, age, limit-b.Deleted)
	expired.Deleted += b.Deleted
	return expired, err
}

// withCallsSQL finds submissions that settled long ago and whose calls are on record.
var withCallsSQL = onTime(`SELECT submission_id FROM submissions WHERE status = 2 AND has_calls
	AND settled_at <= {cut}
  ORDER BY settled_at LIMIT $3 FOR UPDATE SKIP LOCKED`)

const (
	deleteCallsSQL = `
WITH o AS MATERIALIZED (SELECT c.call_id FROM unnest($1::uuid[]) AS s(submission_id) CROSS JOIN LATERAL
  (SELECT call_id FROM tool_calls t WHERE t.submission_id = s.submission_id LIMIT $2) c LIMIT $2)
DELETE FROM tool_calls c USING o WHERE c.call_id = o.call_id`

	// deleteTurnsSQL deletes the calls of the model, of which a submission has few, where no call of a tool is left.
	deleteTurnsSQL = `
DELETE FROM turns n USING unnest($1::uuid[]) AS i(submission_id) WHERE n.submission_id = i.submission_id
  AND NOT EXISTS (SELECT 1 FROM tool_calls t WHERE t.submission_id = i.submission_id) RETURNING n.prefix`

	// deletePrefixesSQL deletes those of the deleted turns' prefixes that no other turn refers to. One that is being
	// referred to has been used now, which its row's lock shows.
	deletePrefixesSQL = `
DELETE FROM prefixes p WHERE p.digest = ANY($1::bytea[])
  AND p.used_at <= (SELECT clock_timestamp() + ($2::bigint - $3::bigint) * interval '1 microsecond')
  AND NOT EXISTS (SELECT 1 FROM turns n WHERE n.prefix = p.digest)`

	withoutCallsSQL = `
UPDATE submissions s SET has_calls = false FROM unnest($1::uuid[]) AS i(submission_id)
WHERE s.submission_id = i.submission_id
  AND NOT EXISTS (SELECT 1 FROM tool_calls t WHERE t.submission_id = i.submission_id)`
)

// deleteCalls deletes calls. The index of submissions that have some loses each as it is done.
func (s *Store) deleteCalls(ctx context.Context, age time.Duration, limit int) (b retention.Batch, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, withCallsSQL, s.offset(), micros(age), limit)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(ids) == 0 {
			return err
		}
		tag, err := tx.Exec(ctx, deleteCallsSQL, ids, limit)
		if err != nil {
			return err
		}
		b = retention.Batch{Deleted: int(tag.RowsAffected()), More: len(ids) == limit ||
			int(tag.RowsAffected()) == limit}
		if err := s.deleteTurns(ctx, tx, ids, age); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, withoutCallsSQL, ids)
		return err
	})
	return b, err
}

func (s *Store) deleteTurns(ctx context.Context, tx pgx.Tx, ids []string, age time.Duration) error {
	rows, err := tx.Query(ctx, deleteTurnsSQL, ids)
	if err != nil {
		return err
	}
	prefixes, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil || len(prefixes) == 0 {
		return err
	}
	slices.SortFunc(prefixes, bytes.Compare)
	prefixes = slices.CompactFunc(prefixes, bytes.Equal)
	_, err = tx.Exec(ctx, deletePrefixesSQL, prefixes, s.offset(), micros(age))
	return err
}
