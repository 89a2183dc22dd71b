package rows

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/retention"
)

var (
	oldestSegments = reads(`SELECT lane_id, first_seq, last_seq, length(body), created_at <= {before $1}
		FROM segments ORDER BY {age} LIMIT $2`)
	// A lane that somebody else is at is left for later. While these are held their owners wait.
	holdLanes = reads(`SELECT l.lane_id FROM {pairs $1} p CROSS JOIN lanes l WHERE l.lane_id = p.id
		{skip locked lanes}`)
	// So that what a lane left behind does not stay the oldest for ever.
	lanesGone = reads(`SELECT p.id FROM {pairs $1} p
		WHERE NOT EXISTS (SELECT 1 FROM lanes l WHERE l.lane_id = p.id)`)
	raiseFloors = writes(`UPDATE lanes SET event_floor = p.seq FROM {pairs $1} p
		WHERE lanes.lane_id = p.id AND lanes.event_floor < p.seq`)
	deleteSegments = writes(`WITH found AS MATERIALIZED (SELECT s.lane_id, s.first_seq FROM {pairs $1} p
		CROSS JOIN segments s WHERE s.lane_id = p.id AND s.first_seq = p.seq {skip locked})
		DELETE FROM segments WHERE (lane_id, first_seq) IN (SELECT lane_id, first_seq FROM found)`)

	// One replica at a time compacts. The others find nothing to do.
	findCursor = reads(`SELECT at, lane_id, seq, below FROM cursors WHERE name = 'compaction' {skip locked}`)
	saveCursor = writes(`UPDATE cursors SET at = $1, lane_id = $2, seq = $3, below = $4
		WHERE name = 'compaction'`)
	segmentsSince = reads(`SELECT {age}, lane_id, first_seq, kind, created_at <= {before $5} FROM segments
		WHERE {age} >= $1 AND ({age}, lane_id, first_seq) > ($1, $2, $3)
		ORDER BY {age}, lane_id, first_seq LIMIT $4`)
	// The segments below others in their streams, downwards, at most so many for each: "seq kind bytes, …".
	segmentsBelow = reads(`SELECT p.id, p.seq,
		(SELECT string_agg(found.first_seq || ' ' || found.kind || ' ' || found.size, ',') FROM
			(SELECT s.first_seq, s.kind, length(s.body) AS size FROM segments s
			WHERE s.lane_id = p.id AND s.first_seq < p.seq ORDER BY s.first_seq DESC LIMIT $2) found)
		FROM {pairs $1} p`)
)

// expire deletes the oldest segments. No stream has a hole below its floor that readers are not told of: the floor
// rises to the last segment that is deleted, and hides what was stored later with a lower seq, by a clock that jumped.
func (x batch) expire(ctx context.Context) (b retention.Batch, err error) {
	rows, err := x.port.Query(ctx, oldestSegments, x.age, x.limit)
	if err != nil {
		return b, err
	}
	if young := slices.IndexFunc(rows, func(r Row) bool { return !r.bool(4) }); young >= 0 {
		rows = rows[:young]
	}
	if len(rows) == 0 {
		return b, nil
	}
	held, err := x.hold(ctx, rows)
	if err != nil {
		return b, err
	}
	var drop pairs
	floors := map[string]int64{}
	budget := retention.NewBudget(x.limit)
	for _, r := range rows {
		if id := r.text(0); held[id] && !budget.Spent() {
			budget.Spend(int(r.int(3)))
			drop = append(drop, pair{id, r.int(1)})
			floors[id] = max(floors[id], r.int(2))
		}
	}
	if b.Deleted, err = x.port.Exec(ctx, deleteSegments, drop.json()); err != nil {
		return b, err
	}
	if _, err = x.port.Exec(ctx, raiseFloors, pairsOf(floors).json()); err != nil {
		return b, err
	}
	b.More = b.Deleted > 0 && len(rows) == x.limit || budget.Spent()
	if b.More || b.Deleted == 0 {
		return b, nil
	}
	// SQLite numbers the rows of a table that was emptied from the beginning again.
	rows, err = x.port.Query(ctx, oldestSegments, x.age, 1)
	if err == nil && len(rows) == 0 {
		_, err = x.port.Exec(ctx, saveCursor, Instant(0), noID, 0, 0)
	}
	return b, err
}

// noID is below any id.
const noID = "00000000-0000-0000-0000-000000000000"

// hold locks the lanes of segments. It returns those that nobody else is at, and those that are gone.
func (x batch) hold(ctx context.Context, segments []Row) (map[string]bool, error) {
	lanes := map[string]int64{}
	for _, r := range segments {
		lanes[r.text(0)] = 0
	}
	ids := pairsOf(lanes).json()
	free, err := x.port.Query(ctx, holdLanes, ids)
	if err == nil && len(free) < len(lanes) {
		var gone []Row
		gone, err = x.port.Query(ctx, lanesGone, ids)
		free = append(free, gone...)
	}
	held := make(map[string]bool, len(free))
	for _, r := range free {
		held[r.text(0)] = true
	}
	return held, err
}

// atOnce is how many segments below an entry are read together with those below others: most answers have fewer.
const atOnce = 8

// place is a segment that compaction looks at, and where it goes on below it in the stream, 0 for nowhere.
type place struct {
	at    Instant // its place in the order of age
	id    string
	seq   int64
	below int64
}

// compaction is the batch of one transaction.
type compaction struct {
	batch
	budget retention.Budget
	drop   pairs
}

// compact looks at each segment once, in the order of age. Before one with an entry it deletes the deltas that the
// entry covers: downwards in the stream, to the next entry, start or end of a submission.
func (x batch) compact(ctx context.Context) (b retention.Batch, err error) {
	cursors, err := x.port.Query(ctx, findCursor)
	if err != nil || len(cursors) == 0 { // another replica is at it
		return b, err
	}
	r := cursors[0]
	next, err := x.since(ctx, place{Instant(r.int(0)), r.text(1), r.int(2), r.int(3)})
	if err != nil || len(next) == 0 {
		return b, err
	}
	c := compaction{batch: x, budget: retention.NewBudget(x.limit)}
	last, err := c.cut(ctx, next)
	if err != nil {
		return b, err
	}
	if b.Deleted, err = x.port.Exec(ctx, deleteSegments, c.drop.json()); err != nil {
		return b, err
	}
	b.More = len(next) >= x.limit || c.budget.Spent()
	_, err = x.port.Exec(ctx, saveCursor, last.at, last.id, last.seq, last.below)
	return b, err
}

// since is the segments to look at, with the last one before them if that is not done with.
func (x batch) since(ctx context.Context, last place) (next []place, err error) {
	if last.below > 0 {
		next = append(next, last)
	}
	rows, err := x.port.Query(ctx, segmentsSince, last.at, last.id, last.seq, x.limit, x.age)
	for _, r := range rows {
		if !r.bool(4) {
			break
		}
		p := place{at: Instant(r.int(0)), id: r.text(1), seq: r.int(2)}
		if event.Kind(r.int(3)) == event.Covers {
			p.below = p.seq
		}
		next = append(next, p)
	}
	return next, err
}

// cut collects the deltas below the segments, as many as the budget allows. It returns how far it got.
func (c *compaction) cut(ctx context.Context, next []place) (last place, err error) {
	below, err := c.below(ctx, next, atOnce)
	if err != nil {
		return last, err
	}
	for _, last = range next {
		for found, asked := below[pair{last.id, last.below}], atOnce; last.below > 0; {
			if c.take(&last, found, asked); last.below == 0 || c.budget.Spent() {
				break
			}
			asked = c.budget.Rows
			again, err := c.below(ctx, []place{last}, asked)
			if err != nil {
				return last, err
			}
			found = again[pair{last.id, last.below}]
		}
		if c.budget.Spent() {
			break
		}
	}
	return last, nil
}

// neighbour is a segment below another one.
type neighbour struct {
	seq  int64
	kind event.Kind
	size int
}

// take collects the deltas of what was found below p, of which so many were asked for, and moves p down.
func (c *compaction) take(p *place, found []neighbour, asked int) {
	for _, n := range found {
		if n.kind >= event.Covers {
			p.below = 0
			return
		}
		if n.kind == event.Deltas {
			c.drop = append(c.drop, pair{p.id, n.seq})
		}
		p.below = n.seq
		if c.budget.Spend(n.size); c.budget.Spent() {
			return
		}
	}
	if len(found) < asked {
		p.below = 0
	}
}

// below reads what is below the segments that cover something, by their index, at most limit for each.
func (c *compaction) below(ctx context.Context, of []place, limit int) (map[pair][]neighbour, error) {
	var ask pairs
	for _, p := range of {
		if p.below > 0 {
			ask = append(ask, pair{p.id, p.below})
		}
	}
	found := make(map[pair][]neighbour, len(ask))
	if len(ask) == 0 {
		return found, nil
	}
	rows, err := c.port.Query(ctx, segmentsBelow, ask.json(), limit)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		of := pair{r.text(0), r.int(1)}
		if found[of], err = neighbours(r.text(2)); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// neighbours decodes what segmentsBelow makes of the segments below one.
func neighbours(text string) (found []neighbour, err error) {
	for one := range strings.SplitSeq(text, ",") {
		if one == "" {
			continue
		}
		var n neighbour
		if _, err := fmt.Sscan(one, &n.seq, &n.kind, &n.size); err != nil {
			return nil, fmt.Errorf("segment %q: %w", one, err)
		}
		found = append(found, n)
	}
	slices.SortFunc(found, func(a, b neighbour) int { return cmp.Compare(b.seq, a.seq) })
	return found, nil
}
