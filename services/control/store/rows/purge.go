package rows

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/retention"
)

var (
	holdDeletion = writes(`UPDATE deletions SET due_at = {after $2} WHERE deletion_id = $1 AND ` + isOpen + `
		RETURNING ` + deletionColumns)
	oneChild  = reads(`SELECT session_id FROM sessions WHERE parent_id = $1 ORDER BY session_id LIMIT 1`)
	someLoops = reads(`SELECT submission_id, COALESCE(length(input), 0) FROM submissions
		WHERE session_id = $1 AND seq > 0 ORDER BY seq LIMIT $2`)
	turnsOf = reads(`SELECT t.submission_id, t.turn, COALESCE(length(t.request), 0) FROM {ids $1} p
		CROSS JOIN turns t WHERE t.submission_id = p.id LIMIT $2`)
	deleteTurnsOf = writes(`DELETE FROM turns WHERE (submission_id, turn) IN (SELECT p.id, p.seq FROM {pairs $1} p)`)
	deleteLoops   = writes(`DELETE FROM submissions WHERE submission_id IN (SELECT p.id FROM {ids $1} p)`)
	someEntries   = reads(`SELECT seq, length(body) FROM entries WHERE session_id = $1 AND seq > $3
		ORDER BY seq LIMIT $2`)
	deleteEntries = writes(`DELETE FROM entries WHERE session_id = $1 AND seq <= $2 AND seq > $3`)
	someImages    = reads(`SELECT sha256, length(body) FROM images WHERE session_id = $1 ORDER BY sha256 LIMIT $2`)
	deleteImages  = writes(`DELETE FROM images WHERE session_id = $1 AND sha256 <= $2`)
	// holdBase makes others that delete what shares the entries of a session wait. It changes nothing.
	holdBase     = writes(`UPDATE session_bases SET after = after WHERE base_id = $1`)
	sharedUpTo   = reads(`SELECT COALESCE(max(upto), 0) FROM session_bases WHERE base_id = $1 AND session_id <> $2`)
	someBases    = reads(`SELECT base_id, upto FROM session_bases WHERE session_id = $1 ORDER BY upto LIMIT $2`)
	deleteBase   = writes(`DELETE FROM session_bases WHERE session_id = $1 AND upto = $2`)
	sessionThere = reads(`SELECT 1 FROM sessions WHERE session_id = $1`)
	someSegments = reads(`SELECT first_seq, length(body) FROM segments WHERE lane_id = $1 AND first_seq > $3
		ORDER BY first_seq LIMIT $2`)
	deleteStream  = writes(`DELETE FROM segments WHERE lane_id = $1 AND first_seq <= $2 AND first_seq > $3`)
	newestSegment = reads(`SELECT {age} FROM segments ORDER BY {age} DESC LIMIT 1`)
	lowerCursor   = writes(`UPDATE cursors SET at = $1, lane_id = $2, seq = 0, below = 0
		WHERE name = 'compaction' AND at > $1`)
	deleteSession = writes(`DELETE FROM sessions WHERE session_id = $1`)
	someSteps     = reads(`SELECT ord, COALESCE(length(output), 0) FROM run_steps WHERE run_id = $1 AND ord > $3
		ORDER BY ord LIMIT $2`)
	deleteSteps = writes(`DELETE FROM run_steps WHERE run_id = $1 AND ord <= $2 AND ord > $3`)
	someSignals = reads(`SELECT seq, COALESCE(length(body), 0) FROM run_signals WHERE run_id = $1 AND seq > $3
		ORDER BY seq LIMIT $2`)
	deleteSignals = writes(`DELETE FROM run_signals WHERE run_id = $1 AND seq <= $2 AND seq > $3`)
	someBlobs     = reads(`SELECT digest, length(body) FROM run_blobs WHERE run_id = $1 ORDER BY digest LIMIT $2`)
	deleteBlobs   = writes(`DELETE FROM run_blobs WHERE run_id = $1 AND digest <= $2`)
	deleteRun     = writes(`DELETE FROM runs WHERE run_id = $1`)
)

// PurgeSession implements deletion.Store.
func (t *Tables) PurgeSession(
	ctx context.Context, id string, keep time.Duration, limit int,
) (b deletion.Batch, err error) {
	err = t.port.Transact(ctx, func(ctx context.Context, p Port) error {
		b = deletion.Batch{}
		rows, err := p.Query(ctx, holdDeletion, id, keep.Microseconds())
		if err != nil || len(rows) == 0 { // somebody has finished it
			b.Done = err == nil
			return err
		}
		d, err := decodeDeletion(rows[0])
		if err != nil {
			return err
		}
		x := purge{port: p, limit: limit, budget: retention.NewBudget(limit)}
		if b.Done, err = x.tree(ctx, d.SessionID); err == nil && b.Done {
			err = finish(ctx, p, d)
		}
		b.Deleted = limit - x.budget.Rows
		return err
	})
	return b, wrap("delete the rows of a session", err)
}

// purge is a transaction that deletes rows of a session.
type purge struct {
	port   Port
	limit  int
	budget retention.Budget
}

// tree deletes from the leaves of the tree of conversations upwards. done is that nothing is left.
func (x *purge) tree(ctx context.Context, root string) (done bool, err error) {
	for {
		leaf, err := x.leaf(ctx, root)
		if err != nil {
			return false, err
		}
		steps := []func(context.Context, string) error{x.loops, x.entries, x.labels}
		if leaf == root {
			steps = append(steps, x.segments, x.grants, x.bases, x.run)
		}
		for _, step := range steps {
			if err := step(ctx, leaf); err != nil || x.budget.Spent() {
				return false, err
			}
		}
		if _, err := x.port.Exec(ctx, deleteSession, leaf); err != nil || leaf == root {
			return err == nil, err
		}
		if x.budget.Spend(0); x.budget.Spent() {
			return false, nil
		}
	}
}

// leaf is a conversation below root, or root itself, that no sub-agent has worked for.
func (x *purge) leaf(ctx context.Context, root string) (string, error) {
	for at := root; ; {
		rows, err := x.port.Query(ctx, oneChild, at)
		if err != nil || len(rows) == 0 {
			return at, err
		}
		at = rows[0].text(0)
	}
}

// loops deletes submissions, and before them their calls, turns and approvals.
func (x *purge) loops(ctx context.Context, sessionID string) error {
	for !x.budget.Spent() {
		found, err := x.port.Query(ctx, someLoops, sessionID, x.limit)
		if err != nil || len(found) == 0 {
			return err
		}
		var loops texts
		for _, r := range found {
			loops = append(loops, r.text(0))
		}
		if err := x.ofLoops(ctx, loops); err != nil || x.budget.Spent() {
			return err
		}
		loops = loops[:0]
		for _, r := range found {
			if !x.budget.Spent() {
				x.budget.Spend(int(r.int(1)))
				loops = append(loops, r.text(0))
			}
		}
		if _, err := x.port.Exec(ctx, deleteLoops, loops.json()); err != nil {
			return err
		}
	}
	return nil
}

// ofLoops deletes the calls, turns and approvals of loops. Where the budget is not spent, none is left.
func (x *purge) ofLoops(ctx context.Context, loops texts) error {
	for !x.budget.Spent() {
		calls, err := x.port.Query(ctx, callsOf, loops.json(), x.limit)
		if err != nil {
			return err
		}
		turns, err := x.port.Query(ctx, turnsOf, loops.json(), x.limit)
		if err != nil {
			return err
		}
		asked, err := x.port.Query(ctx, approvalsOf, loops.json(), x.limit)
		if err != nil || len(calls)+len(turns)+len(asked) == 0 {
			return err
		}
		var drop, decided texts
		for _, r := range asked {
			if !x.budget.Spent() {
				x.budget.Spend(int(r.int(1)))
				decided = append(decided, r.text(0))
			}
		}
		for _, r := range calls {
			if !x.budget.Spent() {
				x.budget.Spend(int(r.int(1)))
				drop = append(drop, r.text(0))
			}
		}
		var gone pairs
		for _, r := range turns {
			if !x.budget.Spent() {
				x.budget.Spend(int(r.int(2)))
				gone = append(gone, pair{r.text(0), r.int(1)})
			}
		}
		if len(decided) > 0 {
			if _, err := x.port.Exec(ctx, deleteApprovals, decided.json()); err != nil {
				return err
			}
		}
		if len(drop) > 0 {
			if _, err := x.port.Exec(ctx, deleteCalls, drop.json()); err != nil {
				return err
			}
		}
		if len(gone) > 0 {
			if _, err := x.port.Exec(ctx, deleteTurnsOf, gone.json()); err != nil {
				return err
			}
		}
	}
	return nil
}

// entries deletes those that no fork shares. The others go with the last of these forks, see bases.
func (x *purge) entries(ctx context.Context, sessionID string) error {
	return x.unshared(ctx, sessionID, sessionID)
}

// unshared deletes the entries of a session that nobody but one fork shares.
func (x *purge) unshared(ctx context.Context, sessionID, fork string) error {
	if _, err := x.port.Exec(ctx, holdBase, sessionID); err != nil {
		return err
	}
	keep, err := one(ctx, x.port, firstInt, nil, sharedUpTo, sessionID, fork)
	if err != nil {
		return err
	}
	if err := x.prefix(ctx, someEntries, deleteEntries, sessionID, keep); err != nil || keep > 0 {
		return err // which of the images the entries name that are left is not looked at
	}
	return x.images(ctx, sessionID)
}

func (x *purge) images(ctx context.Context, sessionID string) error {
	return x.digests(ctx, someImages, deleteImages, sessionID)
}

// digests deletes what is in order of a digest.
func (x *purge) digests(ctx context.Context, some, remove Statement, id string) error {
	for !x.budget.Spent() {
		found, err := x.port.Query(ctx, some, id, x.limit)
		if err != nil || len(found) == 0 {
			return err
		}
		upTo := ""
		for _, r := range found {
			if !x.budget.Spent() {
				x.budget.Spend(int(r.int(1)))
				upTo = r.text(0)
			}
		}
		if _, err := x.port.Exec(ctx, remove, id, upTo); err != nil {
			return err
		}
	}
	return nil
}

// bases deletes what says whose entries a fork shares, and those entries that nobody else has.
func (x *purge) bases(ctx context.Context, sessionID string) error {
	for !x.budget.Spent() {
		found, err := x.port.Query(ctx, someBases, sessionID, x.limit)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, b := range found {
			if err := x.base(ctx, sessionID, b.text(0), b.int(1)); err != nil || x.budget.Spent() {
				return err
			}
		}
	}
	return nil
}

func (x *purge) base(ctx context.Context, sessionID, base string, upTo int64) error {
	if _, err := x.port.Exec(ctx, holdBase, base); err != nil {
		return err
	}
	there, err := x.port.Query(ctx, sessionThere, base)
	if err != nil {
		return err
	}
	if len(there) == 0 {
		if err := x.unshared(ctx, base, sessionID); err != nil || x.budget.Spent() {
			return err
		}
	}
	x.budget.Spend(0)
	_, err = x.port.Exec(ctx, deleteBase, sessionID, upTo)
	return err
}

func (x *purge) labels(ctx context.Context, sessionID string) error {
	_, err := x.port.Exec(ctx, deleteLabels, sessionID)
	return err
}

func (x *purge) segments(ctx context.Context, laneID string) error {
	before := x.budget.Rows
	err := x.prefix(ctx, someSegments, deleteStream, laneID, 0)
	if err != nil || x.budget.Rows == before {
		return err
	}
	// SQLite numbers new rows from the last that is left: those must not be where compaction has been.
	newest := Instant(0)
	rows, err := x.port.Query(ctx, newestSegment)
	if err == nil && len(rows) > 0 {
		newest = Instant(rows[0].int(0))
	}
	if err == nil {
		_, err = x.port.Exec(ctx, lowerCursor, newest, noID)
	}
	return err
}

// grants deletes those of a lane, which people have made: there are few.
func (x *purge) grants(ctx context.Context, laneID string) error {
	n, err := x.port.Exec(ctx, deleteGrants, laneID)
	for range n {
		x.budget.Spend(0)
	}
	return err
}

// run deletes what only a run has.
func (x *purge) run(ctx context.Context, runID string) error {
	err := x.prefix(ctx, someSteps, deleteSteps, runID, 0)
	if err == nil {
		err = x.prefix(ctx, someSignals, deleteSignals, runID, 0)
	}
	if err == nil {
		err = x.digests(ctx, someBlobs, deleteBlobs, runID)
	}
	if err == nil && !x.budget.Spent() {
		_, err = x.port.Exec(ctx, deleteRun, runID)
	}
	return err
}

// prefix deletes what is in order of a seq, from its beginning.
func (x *purge) prefix(ctx context.Context, some, remove Statement, id string, after int64) error {
	for !x.budget.Spent() {
		found, err := x.port.Query(ctx, some, id, x.limit, after)
		if err != nil || len(found) == 0 {
			return err
		}
		upTo := int64(0)
		for _, r := range found {
			if !x.budget.Spent() {
				x.budget.Spend(int(r.int(1)))
				upTo = r.int(0)
			}
		}
		if _, err := x.port.Exec(ctx, remove, id, upTo, after); err != nil {
			return err
		}
	}
	return nil
}
