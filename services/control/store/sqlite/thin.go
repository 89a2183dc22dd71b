package sqlite

import (
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/retention"
)

var (
	selectAged    = sql(`SELECT lane_id, last_seq FROM segments WHERE created_at <= ? ORDER BY created_at LIMIT ?`)
	selectFront   = sql(`SELECT rowid, length(body), last_seq FROM segments WHERE lane_id = ? AND first_seq <= ? ORDER BY first_seq LIMIT ?`)
	deleteSegment = sql(`DELETE FROM segments WHERE rowid = ?`)
	raiseFloor    = sql(`UPDATE lanes SET event_floor = max(event_floor, ?2) WHERE lane_id = ?1`)

	selectCursor = sql(`SELECT at, segment, lane_id, below FROM cursors WHERE name = ?`)
	saveCursor   = sql(`INSERT INTO cursors (name, at, segment, lane_id, below) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET at = excluded.at, segment = excluded.segment, lane_id = excluded.lane_id, below = excluded.below`)
	selectSince = sql(`SELECT created_at, rowid, lane_id, first_seq, kind FROM segments
		WHERE (created_at, rowid) > (?, ?) AND created_at <= ? ORDER BY created_at, rowid LIMIT ?`)
	selectBelow = sql(`SELECT rowid, length(body), first_seq, kind FROM segments WHERE lane_id = ? AND first_seq < ?
		ORDER BY first_seq DESC LIMIT ?`)
)

// expire deletes the oldest segments. It does so from the front of their streams: no stream has a hole below its floor
// that readers are not told of.
func (t tx) expire(before int64, limit int) (b retention.Batch, err error) {
	var sessions []string // the longest unchanged first
	upto := map[string]int64{}
	aged := 0
	err = t.rows(selectAged, func(r row) (bool, error) {
		if _, ok := upto[r.text(0)]; !ok {
			sessions = append(sessions, r.text(0))
		}
		upto[r.text(0)] = max(upto[r.text(0)], r.int(1))
		aged++
		return true, nil
	}, before, limit)
	if err != nil {
		return b, err
	}
	budget := retention.NewBudget(limit)
	for _, id := range sessions {
		if budget.Spent() {
			break
		}
		n, err := t.cutFront(id, upto[id], &budget)
		if err != nil {
			return b, err
		}
		b.Deleted += n
	}
	b.More = aged == limit || budget.Spent()
	return b, nil
}

// cutFront deletes a stream's first segments, at most those up to a seq, and raises its floor.
func (t tx) cutFront(laneID string, upto int64, budget *retention.Budget) (deleted int, err error) {
	var rowids []int64
	floor := int64(0)
	err = t.rows(selectFront, func(r row) (bool, error) {
		rowids, floor = append(rowids, r.int(0)), r.int(2)
		budget.Spend(int(r.int(1)))
		return !budget.Spent(), nil
	}, laneID, upto, budget.Rows)
	if err != nil {
		return 0, err
	}
	for _, rowid := range rowids {
		if _, err := t.exec(deleteSegment, rowid); err != nil {
			return 0, err
		}
	}
	_, err = t.exec(raiseFloor, laneID, floor)
	return len(rowids), err
}

// compaction is the name of the cursor of compact.
const compaction = "compaction"

// cursor is how far a pass has got, see the table.
type cursor struct {
	at, segment int64
	laneID      string
	below       int64
}

// compact looks at each segment once, in order of time. Before one with an entry it deletes the deltas that the entry
// covers: downwards in the stream, to the next entry, start or end of a submission.
func (t tx) compact(before int64, limit int) (b retention.Batch, err error) {
	c, err := t.cursor(compaction)
	if err != nil {
		return b, err
	}
	budget := retention.NewBudget(limit)
	var next []cursor
	if c.below > 0 {
		next = append(next, c)
	}
	err = t.rows(selectSince, func(r row) (bool, error) {
		n := cursor{at: r.int(0), segment: r.int(1), laneID: r.text(2)}
		if event.Kind(r.int(4)) == event.Covers {
			n.below = r.int(3)
		}
		next = append(next, n)
		return true, nil
	}, c.at, c.segment, before, limit)
	if err != nil || len(next) == 0 {
		return b, err
	}
	b.More = len(next) >= limit
	for _, c = range next {
		for c.below > 0 && !budget.Spent() {
			n, err := t.cutCovered(&c, &budget)
			if err != nil {
				return b, err
			}
			b.Deleted += n
		}
		if budget.Spent() {
			b.More = true
			break
		}
	}
	_, err = t.exec(saveCursor, compaction, c.at, c.segment, c.laneID, c.below)
	return b, err
}

func (t tx) cursor(name string) (c cursor, err error) {
	r, err := t.row(selectCursor, name)
	if err == nil && r != nil {
		c = cursor{at: r.int(0), segment: r.int(1), laneID: r.text(2), below: r.int(3)}
	}
	return c, err
}

// cutCovered goes down the stream from c.below and deletes deltas, as far as the budget allows.
func (t tx) cutCovered(c *cursor, budget *retention.Budget) (deleted int, err error) {
	var rowids []int64
	from := c.below
	c.below = 0 // unless the budget ends before the covered part does
	err = t.rows(selectBelow, func(r row) (bool, error) {
		kind := event.Kind(r.int(3))
		if kind >= event.Covers {
			return false, nil
		}
		if kind == event.Deltas {
			rowids = append(rowids, r.int(0))
		}
		if budget.Spend(int(r.int(1))); budget.Spent() {
			c.below = r.int(2)
			return false, nil
		}
		return true, nil
	}, c.laneID, from, budget.Rows)
	if err != nil {
		return 0, err
	}
	for _, rowid := range rowids {
		if _, err := t.exec(deleteSegment, rowid); err != nil {
			return 0, err
		}
	}
	return len(rowids), nil
}
