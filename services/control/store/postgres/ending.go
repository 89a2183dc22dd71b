package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
)

// Heads are settled from rows in one transaction: take the lanes, look at heads and open calls on a new snapshot, and
// write what follows. $1 is the flush id and $2 the time throughout.

const (
	overdueSQL = `SELECT EXISTS (SELECT 1 FROM lanes
		WHERE state = 2 AND force_after <= $1::timestamptz)`

	takeOverdueSQL = `
WITH f AS (SELECT lane_id, ends_why, 1 AS raise FROM lanes WHERE state = 2 AND force_after <= ` + nowSQL2 + `
  LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)` + takeEndingSQL

	takeHeldSQL = `
WITH f AS (SELECT lane_id, ends_why, 0 AS raise FROM lanes WHERE lane_id = $3 AND epoch = $4 AND state + 0 = 2
  FOR NO KEY UPDATE)` +
		takeEndingSQL

	takeEndingSQL = `
UPDATE lanes x SET epoch = x.epoch + f.raise, flush = $1, owner = NULL, claim_id = NULL, due_at = ` + nowSQL2 + `,
  ends_at = NULL, ends_why = 0, force_after = NULL
FROM f WHERE x.lane_id = f.lane_id RETURNING x.lane_id, x.event_head, x.pending > 1, f.ends_why, x.due_at, x.kind`

	endingHeadsSQL = `
SELECT s.lane_id, s.submission_id, s.seq, s.turn, s.usage::text, k.tenant, k.agent, k.instance, k.name
FROM unnest($2::uuid[]) AS t(lane_id) JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1` + headSQL + `
JOIN submissions s ON s.submission_id = h.submission_id
JOIN sessions k ON k.session_id = s.session_id`

	// What the sub-agents of the heads have used of which their parents do not know yet: those that are open, and those
	// that have answered a call of the turn that their parent is at.
	endingUsageSQL = `
SELECT l.lane_id, s.usage::text
FROM unnest($2::uuid[]) AS t(lane_id) JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1` + headSQL + `
JOIN submissions s ON s.root_id = h.submission_id AND s.parent_call IS NOT NULL
WHERE s.status + 0 = 1 OR EXISTS (SELECT 1 FROM tool_calls c JOIN submissions p ON p.submission_id = c.submission_id
  WHERE c.call_id = s.parent_call AND c.turn = p.turn AND p.phase = 2 AND p.status + 0 = 1)`

	// The calls of the whole tree are locked in order of their ids, as all others do.
	endingCallsSQL = `
SELECT c.lane_id, c.call_id, c.tool, c.executor, c.state
FROM unnest($2::uuid[]) AS t(lane_id) JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1` + headSQL + `
JOIN tool_calls c ON c.lane_id = l.lane_id AND c.state < 2
JOIN submissions s ON s.submission_id = c.submission_id AND s.root_id = h.submission_id
ORDER BY c.call_id FOR NO KEY UPDATE OF c`

	// Of the calls that have ended, those of which something may run yet.
	endingLeftSQL = `
SELECT l.lane_id, c.call_id, c.tool, c.executor, c.leaves, c.total
FROM unnest($2::uuid[]) AS t(lane_id) JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1` + headSQL + `
CROSS JOIN LATERAL (SELECT c.call_id, c.tool, c.executor, c.leaves, count(*) OVER () AS total FROM tool_calls c
  WHERE c.submission_id IN (SELECT h.submission_id UNION ALL SELECT s.submission_id FROM submissions s
      WHERE s.root_id = h.submission_id AND s.parent_call IS NOT NULL)
    AND (c.leaves OR c.state = 3 AND c.late_reply IS NULL)
  ORDER BY c.created_at, c.call_id LIMIT $3) c`

	endCallsSQL = `
UPDATE tool_calls c SET state = CASE c.state WHEN 0 THEN 4 ELSE 3 END, done_at = ` + nowSQL2 + `
FROM lanes l WHERE c.call_id = ANY($3::text[]) AND c.state < 2 AND l.lane_id = c.lane_id AND l.flush = $1`
)

// endLanesSQL moves lanes on without an owner.
var endLanesSQL = endTable.in(`
UPDATE lanes x SET event_head = x.event_head + 1, pending = greatest(x.pending - 1, 0),
  state = CASE WHEN x.pending <= 1 THEN 0 ELSE 1 END, urgent = x.urgent AND x.pending > 1,
  first_open = `+openAfterSQL("t")+`
FROM {rows} WHERE x.lane_id = t.lane_id AND x.flush = $1`, 1)

var endSegmentsSQL = endTable.in(`
INSERT INTO segments (lane_id, first_seq, last_seq, tenant, epoch, commit_id, kind, body, created_at)
SELECT l.lane_id, l.event_head, l.event_head, l.tenant, l.epoch, t.commit_id, 3, t.segment, l.due_at
FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1`, 1)

var endHeadsSQL = endTable.in(`
WITH u AS (UPDATE submissions s SET status = 2, settled_at = `+nowSQL2+`, outcome = t.outcome, reason = t.reason,
  message = t.message, usage = t.usage::jsonb, cancellation = t.cancellation
FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1
WHERE s.submission_id = t.head_id AND s.status + 0 < 2 RETURNING s.tenant, s.wakes)
INSERT INTO wakes (tenant, lane_id) SELECT tenant, wakes FROM u WHERE wakes IS NOT NULL`, 2)

// endRow is a head that is settled from rows.
type endRow struct {
	lane.Ended
	z         lane.Settlement
	commitID  string
	eventHead int64
	kind      lane.Kind
	seq       int64 // of the head; 0 is that the lane has none
	turn      int
	now       time.Time
	open      []call.Call
	left      call.Unended

	usage, cancellation *string
	segment             []byte
}

var endTable = table[endRow]{
	col("lane_id", "uuid", func(r *endRow) string { return r.LaneID }),
	col("head_id", "uuid", func(r *endRow) string { return r.HeadID }),
	col("seq", "bigint", func(r *endRow) int64 { return r.seq }),
	col("outcome", "text", func(r *endRow) string { return string(r.z.Outcome) }),
	col("reason", "text", func(r *endRow) string { return printable(r.z.Reason) }),
	col("message", "text", func(r *endRow) string { return printable(r.z.Message) }),
	col("usage", "text", func(r *endRow) *string { return r.usage }),
	col("cancellation", "text", func(r *endRow) *string { return r.cancellation }),
	col("commit_id", "uuid", func(r *endRow) string { return r.commitID }),
	col("segment", "bytea", func(r *endRow) []byte { return r.segment }),
}

// Force implements lane.Store. What an earlier try has settled whose answer was lost is told by the events.
func (s *Store) Force(ctx context.Context, limit int) (ended []lane.Ended, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		var some bool
		if err := s.pool.QueryRow(ctx, overdueSQL, s.now()).Scan(&some); err != nil || !some {
			return err
		}
		e := ending{store: s, flush: uuid.NewString(), commitID: uuid.NewString(), decide: lane.Overdue}
		ended, err = e.run(ctx, takeOverdueSQL, limit)
		return err
	})
	return ended, wrap("settle overdue heads", err)
}

// End implements lane.Store.
func (s *Store) End(
	ctx context.Context, f lane.Fence, outcome lane.Outcome, reason, message string,
) (ended lane.Ended, err error) {
	if !isID(f.LaneID) {
		return ended, lane.ErrFenced
	}
	e := ending{store: s, commitID: uuid.NewString(), decide: func(lane.Kind, lane.Why) lane.Settlement {
		return lane.Settlement{Outcome: outcome, Reason: reason, Message: message}
	}}
	err = s.retry(ctx, func(ctx context.Context, again bool) error {
		e.flush = uuid.NewString()
		all, err := e.run(ctx, takeHeldSQL, f.LaneID, f.Epoch)
		switch {
		case err != nil:
			return err
		case len(all) > 0:
			ended = all[0]
			return nil
		case again:
			ended, err = s.ended(ctx, f.LaneID, e.commitID)
			return err
		}
		return lane.ErrFenced
	})
	return ended, wrap("settle a head", err)
}

// ended is what a settlement from rows has written whose answer was lost.
func (s *Store) ended(ctx context.Context, laneID, commitID string) (e lane.Ended, err error) {
	var g event.Segment
	e.LaneID = laneID
	err = s.pool.QueryRow(ctx, `SELECT g.first_seq, g.body, l.state = 1, k.tenant, k.agent, k.instance, k.name
		FROM segments g JOIN lanes l ON l.lane_id = g.lane_id JOIN sessions k ON k.session_id = l.lane_id
		WHERE g.lane_id = $1 AND g.commit_id = $2`, laneID, commitID).
		Scan(&g.First, &g.Body, &e.Ready, &e.Key.Tenant, &e.Key.Agent, &e.Key.Instance, &e.Key.Name)
	if errors.Is(err, pgx.ErrNoRows) {
		return e, lane.ErrFenced
	}
	if err == nil {
		if e.Events, err = g.Unpack(); err == nil && len(e.Events) > 0 {
			e.HeadID = e.Events[0].SubmissionID
		}
	}
	return e, err
}

// ending is a transaction that settles heads from rows.
type ending struct {
	store           *Store
	flush, commitID string
	decide          func(lane.Kind, lane.Why) lane.Settlement
}

// run settles the heads of the lanes that take takes.
func (e *ending) run(ctx context.Context, take string, args ...any) (ended []lane.Ended, err error) {
	err = pgx.BeginFunc(ctx, e.store.pool, func(tx pgx.Tx) error {
		rows, ids, err := e.take(ctx, tx, take, args...)
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := e.read(ctx, tx, rows, ids); err != nil {
			return err
		}
		var settled []endRow
		for _, id := range ids {
			r := rows[id]
			if err := r.finish(); err != nil {
				return err
			}
			if ended = append(ended, r.Ended); r.seq > 0 {
				settled = append(settled, *r)
			}
		}
		return e.write(ctx, tx, settled, ids)
	})
	return ended, err
}

func (e *ending) take(ctx context.Context, tx pgx.Tx, sql string, args ...any) (map[string]*endRow, []string, error) {
	rows, err := tx.Query(ctx, sql, append([]any{e.flush, e.store.now()}, args...)...)
	if err != nil {
		return nil, nil, err
	}
	taken, ids := map[string]*endRow{}, []string(nil)
	var id string
	var head int64
	var more bool
	var why int16
	var now time.Time
	var kind int16
	_, err = pgx.ForEachRow(rows, []any{&id, &head, &more, &why, &now, &kind}, func() error {
		taken[id] = &endRow{
			Ended: lane.Ended{LaneID: id, Ready: more}, z: e.decide(lane.Kind(kind), lane.Why(why)),
			commitID: e.commitID, eventHead: head, now: now, kind: lane.Kind(kind),
		}
		ids = append(ids, id)
		return nil
	})
	return taken, ids, err
}

// read looks at the heads and the open calls of the lanes that are taken.
func (e *ending) read(ctx context.Context, tx pgx.Tx, taken map[string]*endRow, ids []string) error {
	batch := &pgx.Batch{}
	batch.Queue(endingHeadsSQL, e.flush, ids).Query(func(rows pgx.Rows) error {
		var id string
		var r endRow
		var usage *string
		k := &r.Key
		_, err := pgx.ForEachRow(rows, []any{
			&id, &r.HeadID, &r.seq, &r.turn, &usage, &k.Tenant, &k.Agent, &k.Instance, &k.Name,
		}, func() error {
			t := taken[id]
			t.HeadID, t.Key, t.seq, t.turn = r.HeadID, r.Key, r.seq, r.turn
			t.use(usage)
			return nil
		})
		return err
	})
	batch.Queue(endingUsageSQL, e.flush, ids).Query(func(rows pgx.Rows) error {
		var id string
		var usage *string
		_, err := pgx.ForEachRow(rows, []any{&id, &usage}, func() error {
			taken[id].use(usage)
			return nil
		})
		return err
	})
	batch.Queue(endingCallsSQL, e.flush, ids).Query(func(rows pgx.Rows) error {
		var id string
		var c call.Call
		var state int16
		_, err := pgx.ForEachRow(rows, []any{&id, &c.ID, &c.Tool, &c.Executor, &state}, func() error {
			c.State = call.State(state)
			taken[id].open = append(taken[id].open, c)
			return nil
		})
		return err
	})
	batch.Queue(endingLeftSQL, e.flush, ids, call.MaxNamed).Query(func(rows pgx.Rows) error {
		var id string
		var c call.Call
		var total int
		_, err := pgx.ForEachRow(rows, []any{&id, &c.ID, &c.Tool, &c.Executor, &c.Leaves, &total}, func() error {
			left := &taken[id].left
			left.Calls, left.Total = append(left.Calls, c), total
			return nil
		})
		return err
	})
	return tx.SendBatch(ctx, batch).Close()
}

// use adds what a loop has used. What cannot be read of that is left out: the head has to end all the same.
func (r *endRow) use(usage *string) {
	var u model.Usage
	if decodeUsage(usage, &u) == nil {
		r.z.Usage = r.z.Usage.Add(u)
	}
}

// finish makes the settlement's event.
func (r *endRow) finish() (err error) {
	if r.seq == 0 {
		return nil
	}
	r.z.LeaveOpen(r.left, r.open)
	r.Events = []event.Event{r.z.Event(r.HeadID, r.turn, r.eventHead+1, r.now)}
	segment, err := event.Pack(r.eventHead, r.Events)
	if r.segment = segment.Body; err == nil {
		r.usage, err = encodeUsage(r.z.Usage)
	}
	if err == nil {
		r.cancellation, err = encodeText(r.z.Cancellation)
	}
	return wrap("encode a settlement", err)
}

// write settles what was read, and counts lanes anew that have no head.
func (e *ending) write(ctx context.Context, tx pgx.Tx, settled []endRow, ids []string) error {
	batch, now := &pgx.Batch{}, e.store.now()
	if len(settled) < len(ids) {
		batch.Queue(recountSQL, ids)
	}
	var heads, calls, runs []string
	for i := range settled {
		if settled[i].kind == lane.KindRun {
			runs = append(runs, settled[i].LaneID)
		}
		heads = append(heads, settled[i].HeadID)
		for _, c := range settled[i].open {
			calls = append(calls, c.ID)
		}
	}
	queue(batch, endHeadsSQL, endTable, settled, e.flush, now)
	batch.Queue(treesSQL, e.flush, heads)
	batch.Queue(endCallsSQL, e.flush, now, calls)
	batch.Queue(endApprovalsSQL, e.flush, now, ids)
	queue(batch, endLanesSQL, endTable, settled, e.flush)
	queue(batch, endSegmentsSQL, endTable, settled, e.flush)
	endRuns(batch, runs, now)
	return tx.SendBatch(ctx, batch).Close()
}
