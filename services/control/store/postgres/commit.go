package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store/rows"
)

// commit is a commit with what is encoded outside of the flush.
type commit struct {
	lane.Commit
	steps   []step
	segment event.Segment
	ended   string // ids of the loops that end, with commas between them
	joins   int32  // how many submissions leave the queue to join the head
}

// step is a step with what is encoded of it. Its calls are merged with what happens to them in the same step.
type step struct {
	lane.Step
	usage, turnUsage, cancellation *string
	options                        string   // of Begin
	subjects                       []string // of Approvals
	records                        []rows.StepRow
	changes                        []change
	shown                          []call.Shown
}

// commitOp is a commit in a group.
type commitOp = op[commit, lane.Committed]

var (
	errNoID        = errors.New("a commit needs an id: a retry is recognised by it")
	errNotDense    = errors.New("a commit's entries must follow its heads")
	errContradicts = errors.New("a commit contradicts the rows: one of its loops is not open, or its conversation " +
		"ends with another entry; or it parks a lane whose head it settles")
)

// Commit implements lane.Store.
func (s *Store) Commit(ctx context.Context, c lane.Commit) (lane.Committed, error) {
	if !isID(c.Fence.LaneID) {
		return lane.Committed{}, lane.ErrFenced
	}
	prepared, err := prepare(c)
	if err != nil {
		return lane.Committed{}, wrap("commit", err)
	}
	out, err := s.commits.do(ctx, origin{c.Tenant, c.Fence.LaneID}, prepared)
	return out, wrap("commit", err)
}

// prepare does what needs no database, on the caller's time.
func prepare(c lane.Commit) (commit, error) {
	p := commit{Commit: c}
	if !isID(c.ID) {
		return p, errNoID
	}
	var err error
	if p.segment, err = event.Pack(c.EventHead, c.Events()); err != nil {
		return p, err
	}
	var ended []string
	for i := range c.Steps {
		one, err := prepareStep(c.Steps[i])
		if err != nil {
			return p, err
		}
		if p.steps = append(p.steps, one); one.End != nil {
			ended = append(ended, one.LoopID)
		}
		p.joins += int32(len(one.Joins))
	}
	p.ended = strings.Join(ended, ",")
	return p, nil
}

func prepareStep(from lane.Step) (step, error) {
	p := step{Step: from}
	for i := range p.Entries {
		e := &p.Entries[i]
		if e.Seq != p.EntryHead+int64(i)+1 {
			return p, errNotDense
		}
		if _, err := e.Encode(); err != nil {
			return p, err
		}
	}
	for i := range p.Approvals {
		subject, err := rows.EncodeSubject(&p.Approvals[i])
		if err != nil {
			return p, err
		}
		p.subjects = append(p.subjects, subject)
	}
	var err error
	if p.records, err = rows.EncodeRecords(p.Records); err != nil {
		return p, err
	}
	if err := p.merge(); err != nil {
		return p, err
	}
	var errs [4]error
	if p.Progress != nil {
		p.usage, errs[0] = encodeUsage(p.Progress.Usage)
	}
	if p.Spent != nil {
		p.usage, errs[0] = encodeUsage(*p.Spent)
	}
	if p.End != nil {
		p.usage, errs[0] = encodeUsage(p.End.Usage)
		if p.End.Cancellation != nil {
			p.cancellation, errs[1] = encodeText(p.End.Cancellation)
		}
	}
	if p.Turn != nil {
		p.turnUsage, errs[2] = encodeUsage(p.Turn.Usage)
	}
	if p.Begin != nil {
		p.options, errs[3] = p.Begin.Options.Encode()
	}
	return p, errors.Join(errs[:]...)
}

// writes reports whether the step changes the row of its loop.
func (p *step) writes() bool {
	return p.Spent != nil || p.Model != "" || p.Progresses() || p.End != nil || len(p.Calls) > 0 || p.Turn != nil
}

// endsAtOnce reports whether the first answer of the loop's model ends it. Nothing has been asked for then, so that no
// loop is below it.
func (p *step) endsAtOnce() bool {
	return p.End != nil && p.Turn != nil && p.Turn.Turn == 1 && len(p.Calls) == 0
}

// flushCommits writes a batch in one transaction; each operation is fenced by itself.
func (s *Store) flushCommits(ctx context.Context, ops []*commitOp) error {
	slices.SortFunc(ops, func(a, b *commitOp) int { return cmp.Compare(a.in.Fence.LaneID, b.in.Fence.LaneID) })
	var rows commitRows
	missing := make(map[int]bool, len(ops))
	for i, o := range ops {
		o.err, o.out = nil, lane.Committed{}
		missing[i] = true
		rows.add(i, &o.in)
	}
	batch, next := s.batch(), claimed{}
	rows.queue(batch, uuid.NewString(), s.now(), func(rows pgx.Rows) error {
		var i int
		var row movedRow
		_, err := pgx.ForEachRow(rows, append([]any{&i}, row.targets()...), func() error {
			delete(missing, i)
			ops[i].out = row.answer(&ops[i].in)
			return nil
		})
		return err
	})
	endRuns(batch, rows.runs, s.now())
	s.queueNext(batch, ops, &next)
	if err := s.send(ctx, batch); err != nil {
		return s.failed(ctx, ops, err)
	}
	s.handOut(ctx, ops, &next)
	for i := range missing {
		if err := s.recognise(ctx, ops[i]); err != nil {
			return err
		}
	}
	return nil
}

// failed says what a commit that fails by itself is refused for; a batch of several is tried again in halves.
func (s *Store) failed(ctx context.Context, ops []*commitOp, err error) error {
	pg := (*pgconn.PgError)(nil)
	if len(ops) > 1 || !errors.As(err, &pg) || pg.Code != "22012" {
		return err
	}
	refusal := s.refusal(ctx, &ops[0].in)
	if transient(refusal) {
		return refusal
	}
	ops[0].err = refusal
	return nil
}

// movedRow is a lane after a commit.
type movedRow struct {
	state   int16
	mail    int64
	endsIn  *int64
	endsWhy int16
}

func (r *movedRow) targets() []any { return []any{&r.state, &r.mail, &r.endsIn, &r.endsWhy} }

func (r *movedRow) answer(c *commit) lane.Committed {
	rests := r.state != running && c.Park != nil
	return lane.Committed{
		Parked: rests, Ready: r.state == due && !rests, Mail: r.mail,
		Ends: lane.Ends{In: remaining(r.endsIn), Why: lane.Why(r.endsWhy)},
	}
}

// States of a lane, as numbered in the database.
const (
	due     = 1
	running = 2
)

// queueNext queues the statements that go on with the next submissions of the lanes that are kept, if there are any.
func (s *Store) queueNext(batch *pgx.Batch, ops []*commitOp, next *claimed) {
	var kept []laneRow
	for _, o := range ops {
		if o.in.Continue && o.in.ended != "" {
			kept = append(kept, laneRow{commit: &o.in})
		}
	}
	if len(kept) > 0 {
		batch.Queue(nextHeadsSQL, keptTable.args(kept, 0, s.now(), graces)...).Query(next.collect)
	}
}

// handOut gives the leases to the operations that asked for them; a batch has one operation per lane.
func (s *Store) handOut(ctx context.Context, ops []*commitOp, next *claimed) {
	leases, unreadable := make(map[lane.Fence]*lane.Lease, len(next.heads)), map[lane.Fence]error{}
	for i := range next.heads {
		lease, err := next.heads[i].lease(nil)
		if err != nil {
			unreadable[lease.Fence] = err
			continue
		}
		leases[lease.Fence] = &lease
	}
	for _, o := range ops {
		if lease := leases[o.in.Fence]; lease != nil && !strings.Contains(o.in.ended, lease.Root().ID) {
			o.out.Next = lease
		}
		if err := unreadable[o.in.Fence]; err != nil {
			// The claim that follows settles the head. If the lane cannot be handed back, its owner finds that nothing
			// runs there.
			failed := s.Release(ctx, o.in.Fence, lane.Release{})
			o.out.Ready = failed == nil
			s.opts.Log.ErrorContext(ctx, "the next submission of a lane cannot be read", "lane_id", o.in.Fence.LaneID,
				"error", errors.Join(err, failed))
		}
	}
}

// recognise tells a commit that was written before, with its answer lost, from one that is fenced.
func (s *Store) recognise(ctx context.Context, o *commitOp) error {
	c := &o.in
	next := o.out.Next
	o.out = lane.Committed{}
	var epoch int64
	var settled bool
	var row movedRow
	err := s.pool.QueryRow(ctx, recogniseSQL, c.Fence.LaneID, s.now(), c.EventHead+1, c.ID, c.ended).
		Scan(append([]any{&epoch, &settled}, row.targets()...)...)
	mine := epoch == c.Fence.Epoch && (row.state == running || c.Park != nil)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && !settled && !mine: // not written, or gone since
		o.err = lane.ErrFenced
		return nil
	case err == nil && epoch == c.Fence.Epoch:
		// The queue may have moved on since: what the lane is now is the better answer.
		o.out, o.out.Next = row.answer(c), next
	}
	if settled { // the end in the lane's row is that of the next head
		o.out.Ends = lane.Ends{In: lane.Never}
	}
	return err
}
