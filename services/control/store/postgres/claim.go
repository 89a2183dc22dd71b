package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pawl-dev/pawl/services/control/lane"
)

// claim takes lanes under an id.
type claim struct {
	owner, id string
	charge    int    // what the change of owner costs each loop
	lanes     string // the statement that takes the lanes
	args      []any
	due       []any // of the kind whose next lane is asked for; nil is none
	runs      bool  // the lanes are runs'
}

// claimed is what a claim got, as it was scanned.
type claimed struct {
	taken    int64
	heads    []headRow
	children map[string][]loopRow
	next     *int64
}

// headRow is a head with its lane.
type headRow struct {
	loopRow
	lane    lane.Lease // without what depends on the loops
	kind    int16
	endsIn  *int64
	endsWhy int16
	since   pgtype.Timestamptz
}

// Claim implements lane.Store.
func (s *Store) Claim(ctx context.Context, owner string, kind lane.Kind, limit int) (lane.Claimed, error) {
	id := uuid.NewString()
	c := claim{
		owner: owner, id: id, lanes: claimLanesSQL,
		args: []any{owner, id, limit, int16(kind), s.now(), graces}, due: []any{int16(kind), s.now()},
		runs: kind == lane.KindRun,
	}
	if last, crowded := s.turns.of(kind); crowded {
		c.lanes, c.args = claimInTurnSQL, append(c.args, last)
	}
	out, err := s.take(ctx, c)
	if err == nil {
		s.turns.took(kind, &out)
	}
	return out, wrap("claim", err)
}

// TakeOver implements lane.Store.
func (s *Store) TakeOver(ctx context.Context, owner string, dead []string, limit int) (lane.Claimed, error) {
	if len(dead) == 0 && !s.clock.certain() {
		return lane.Claimed{}, nil
	}
	id := uuid.NewString()
	out, err := s.take(ctx, claim{
		owner: owner, id: id, charge: 1, lanes: takeLanesSQL,
		args: []any{owner, id, limit, validIDs(dead), s.now(), graces},
	})
	for i := range out.Leases {
		out.Leases[i].TakenOver = true
	}
	return out, wrap("take over", err)
}

// take claims lanes, and settles the heads that cannot be read.
func (s *Store) take(ctx context.Context, c claim) (out lane.Claimed, err error) {
	got := claimed{}
	err = s.retry(ctx, func(ctx context.Context, again bool) error {
		got = claimed{children: map[string][]loopRow{}}
		return s.claim(ctx, c, again, &got)
	})
	if err != nil {
		return out, err
	}
	if int64(len(got.heads)) < got.taken {
		s.repair(ctx, c)
	}
	out.Next = max(remaining(got.next), 0)
	for i := range got.heads {
		h := &got.heads[i]
		lease, err := h.lease(got.children[h.loop.LaneID])
		if err == nil {
			out.Leases = append(out.Leases, lease)
			continue
		}
		z := lane.Undecodable(err)
		ended, failed := s.End(ctx, lease.Fence, z.Outcome, z.Reason, z.Message)
		if failed != nil {
			// Nothing runs in the lane, which its owner finds and hands back; the next claim tries again.
			s.opts.Log.ErrorContext(ctx, "a submission that cannot be read could not be settled", "lane_id",
				lease.Fence.LaneID, "error", errors.Join(err, failed))
			continue
		}
		out.Unreadable = append(out.Unreadable, lane.Unreadable{Ended: ended, Err: err})
	}
	return out, nil
}

// claim is one try.
func (s *Store) claim(ctx context.Context, c claim, again bool, got *claimed) error {
	if again {
		// If the lanes were taken although the answer was lost, that was with their loops charged.
		if err := s.pool.QueryRow(ctx, takenSQL, c.owner, c.id).Scan(&got.taken); err != nil {
			return err
		}
	}
	batch := &pgx.Batch{}
	if got.taken > 0 {
		c.charge = 0
	} else {
		batch.Queue(c.lanes, c.args...).Exec(func(tag pgconn.CommandTag) error {
			got.taken = tag.RowsAffected()
			return nil
		})
	}
	batch.Queue(claimHeadsSQL, c.charge, s.now(), graces, c.owner, c.id).Query(got.collect)
	if c.runs {
		batch.Queue(beginRunsSQL, s.now(), c.owner, c.id)
	}
	if c.charge > 0 {
		batch.Queue(stallsSQL, c.charge, c.owner, c.id)
	}
	batch.Queue(childrenSQL, c.owner, c.id).Query(collectLoops(got.children))
	if c.due != nil {
		batch.Queue(dueSQL, c.due...).Query(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&got.next}, func() error { return nil })
			return err
		})
	}
	return s.send(ctx, batch)
}

// repair mends lanes whose count is wrong. When it fails, their owner finds that nothing runs there and hands them
// back.
func (s *Store) repair(ctx context.Context, c claim) {
	err := s.retry(ctx, func(ctx context.Context, _ bool) error {
		tag, err := s.pool.Exec(ctx, repairSQL, c.owner, c.id)
		if err == nil && tag.RowsAffected() > 0 {
			s.opts.Log.WarnContext(ctx, "lanes that counted their submissions wrongly were counted anew", "lanes",
				tag.RowsAffected())
		}
		return err
	})
	if err != nil {
		s.opts.Log.ErrorContext(ctx, "lanes without a head could not be counted anew", "error", err)
	}
}

// collect scans what headsSQL returns, lanes that waited longest first.
func (c *claimed) collect(rows pgx.Rows) error {
	for rows.Next() {
		var h headRow
		l := &h.lane
		err := rows.Scan(h.targets(&h.kind, &l.Fence.Epoch, &l.EventHead, &l.Mail, &h.endsIn, &h.endsWhy, &l.Executor,
			&h.since)...)
		if err != nil {
			return err
		}
		c.heads = append(c.heads, h)
	}
	slices.SortFunc(c.heads, func(a, b headRow) int { return a.since.Time.Compare(b.since.Time) })
	return rows.Err()
}

// lease is the lane with its loops; when one of them cannot be decoded, only the fence is right.
func (h *headRow) lease(children []loopRow) (lane.Lease, error) {
	l := h.lane
	l.Kind, l.Fence.LaneID = lane.Kind(h.kind), h.loop.LaneID
	l.Ends = lane.Ends{In: remaining(h.endsIn), Why: lane.Why(h.endsWhy)}
	for _, row := range inOrder(h.loopRow, children) {
		loop, err := row.decode()
		if err != nil {
			return l, err
		}
		l.Loops = append(l.Loops, loop)
	}
	return l, nil
}

// Own implements lane.Store.
func (s *Store) Own(ctx context.Context, owner string) (held []lane.Held, err error) {
	var agrees bool
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		held = nil
		l := look{asked: s.clock.elapsed()}
		rows, err := s.pool.Query(ctx, ownSQL, owner, s.now())
		if err != nil {
			return err
		}
		var ahead int64
		var id *string
		var epoch, head, mail, endsIn *int64
		var why *int16
		_, err = pgx.ForEachRow(rows, []any{&l.server, &ahead, &l.seen, &id, &epoch, &head, &mail, &endsIn, &why},
			func() error {
				if id != nil {
					held = append(held, lane.Held{
						Fence: lane.Fence{LaneID: *id, Epoch: *epoch}, EventHead: *head, Mail: *mail,
						Ends: lane.Ends{In: remaining(endsIn), Why: lane.Why(*why)},
					})
				}
				return nil
			})
		if err != nil {
			return err
		}
		l.now, l.server, l.ahead = s.clock.elapsed(), s.server(l.server), time.Duration(ahead)*time.Microsecond
		agrees = s.clock.agrees(l)
		return nil
	})
	if err == nil && !agrees {
		err = s.tellTime(ctx)
	}
	return held, wrap("read owned lanes", err)
}

// ownSQL has one row at least, for the time.
const ownSQL = `
SELECT ` + clockSQL + `, x.lane_id, x.epoch, x.event_head, x.mail, ` + endsSQL + `
FROM clock k LEFT JOIN lanes x ON x.state = 2 AND x.owner = $1`
