package postgres

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// commit is a commit with what is encoded outside of the flush.
type commit struct {
	submission.Commit
	segment      []byte
	digest       []byte   // of the whole commit
	bodies       [][]byte // of the entries
	usage        *string
	cancellation *string
	changes      []change
}

// commitOp is a commit in a group.
type commitOp = op[commit, submission.Committed]

var (
	errNoEvent  = errors.New("a commit needs an event: a retry is recognised by it")
	errNotDense = errors.New("a commit's entries and events must follow its heads")
)

// Commit implements submission.Store.
func (s *Store) Commit(ctx context.Context, c submission.Commit) (submission.Committed, error) {
	if !isID(c.Fence.SessionID) {
		return submission.Committed{}, submission.ErrFenced
	}
	prepared, err := prepare(c)
	if err != nil {
		return submission.Committed{}, wrap("commit", err)
	}
	out, err := s.commits.do(ctx, c.Fence.SessionID, prepared)
	return out, wrap("commit", err)
}

// prepare does what needs no database, on the caller's time.
func prepare(c submission.Commit) (commit, error) {
	if err := dense(c); err != nil {
		return commit{}, err
	}
	p := commit{Commit: c, segment: encodeEvents(c.Events)}
	if err := p.merge(); err != nil {
		return commit{}, err
	}
	for _, e := range c.Entries {
		body, err := json.Marshal(e.Message)
		if err != nil {
			return commit{}, fmt.Errorf("encode entry: %w", err)
		}
		p.bodies = append(p.bodies, body)
	}
	usage := model.Usage{}
	switch {
	case c.Settle != nil:
		usage = c.Settle.Usage
	case c.Progress != nil:
		usage = c.Progress.Usage
	}
	var err error
	if p.usage, err = encodeUsage(usage); err != nil {
		return p, err
	}
	if c.Settle != nil {
		if p.cancellation, err = encodeCancellation(c.Settle.Cancellation); err != nil {
			return p, err
		}
	}
	p.digest, err = digestOf(&p)
	return p, err
}

// dense checks the seqs of entries and events.
func dense(c submission.Commit) error {
	if len(c.Events) == 0 {
		return errNoEvent
	}
	for i, e := range c.Entries {
		if e.Seq != c.EntryHead+int64(i)+1 {
			return errNotDense
		}
	}
	for i, e := range c.Events {
		if e.Seq != c.EventHead+int64(i)+1 {
			return errNotDense
		}
	}
	return nil
}

// digestOf tells a repeated commit from another one on the same heads. It only ever has to tell commits of one owner
// apart, for which half a hash is plenty.
func digestOf(c *commit) ([]byte, error) {
	rest := c.Commit
	rest.Entries, rest.Events = nil, nil
	body, err := json.Marshal(rest)
	if err != nil {
		return nil, fmt.Errorf("digest of a commit: %w", err)
	}
	hash := sha256.New()
	for _, b := range append([][]byte{body, c.segment}, c.bodies...) {
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		hash.Write(b)
	}
	for _, e := range c.Entries {
		fmt.Fprint(hash, e.SubmissionID, e.Kind, e.CreatedAt.UnixMicro())
	}
	return hash.Sum(nil)[:16], nil
}

// flushCommits writes a batch in one transaction; each operation is fenced by itself.
func (s *Store) flushCommits(ctx context.Context, ops []*commitOp) error {
	slices.SortFunc(ops, func(a, b *commitOp) int { return cmp.Compare(a.in.Fence.SessionID, b.in.Fence.SessionID) })
	missing := make(map[int]bool, len(ops))
	var cols commitColumns
	for i, o := range ops {
		o.err, o.out = nil, submission.Committed{}
		missing[i] = true
		cols.add(i, &o.in)
	}
	batch := s.batch()
	batch.Queue(statements()[cols.parts()], cols.args(s.offset())...).Query(func(rows pgx.Rows) error {
		var i int
		var state int16
		var abort bool
		_, err := pgx.ForEachRow(rows, []any{&i, &state, &abort}, func() error {
			delete(missing, i)
			ops[i].out.Ready, ops[i].out.AbortRequested = state == ready, abort
			return nil
		})
		return err
	})
	var next []submission.Lease
	queueNext(batch, ops, s.offset(), &next)
	if err := s.send(ctx, batch); err != nil {
		return err
	}
	handOut(ops, next)
	for i := range missing {
		if err := s.recognise(ctx, ops[i]); err != nil {
			return err
		}
	}
	return nil
}

// States of a lane, as numbered in the database.
const (
	ready   = 1
	running = 2
)

// queueNext queues the statement that goes on with the next submissions of the lanes that are kept, if there are any.
func queueNext(batch *pgx.Batch, ops []*commitOp, offset int64, next *[]submission.Lease) {
	var sessions []string
	var epochs, heads []int64
	for _, o := range ops {
		if c := &o.in; c.Settle != nil && c.Settle.Continue {
			sessions, epochs = append(sessions, c.Fence.SessionID), append(epochs, c.Fence.Epoch)
			heads = append(heads, c.EventHead+int64(len(c.Events)))
		}
	}
	if len(sessions) > 0 {
		batch.Queue(nextSQL, 0, offset, sessions, epochs, heads).Query(collectLeases(next))
	}
}

// handOut gives the leases to the operations that asked for them; a batch has one operation per session.
func handOut(ops []*commitOp, next []submission.Lease) {
	leases := make(map[submission.Fence]*submission.Lease, len(next))
	for i := range next {
		leases[next[i].Fence] = &next[i]
	}
	for _, o := range ops {
		if lease := leases[o.in.Fence]; lease != nil && lease.Submission.Seq != o.in.SubmissionSeq {
			o.out.Next = lease
		}
	}
}

// recognise tells a commit that was written before, with its answer lost, from one that is fenced.
func (s *Store) recognise(ctx context.Context, o *commitOp) error {
	c := &o.in
	next := o.out.Next
	o.out = submission.Committed{}
	var epoch int64
	var state int16
	err := s.pool.QueryRow(ctx, recogniseSQL, c.Fence.SessionID, c.SubmissionSeq, c.EventHead+1,
		c.EventHead+int64(len(c.Events)),
		c.Fence.Epoch, c.digest, c.EntryHead+int64(len(c.Entries))).Scan(&epoch, &state, &o.out.AbortRequested)
	if errors.Is(err, pgx.ErrNoRows) {
		return s.refuse(ctx, o)
	}
	if err == nil {
		// The queue may have moved on since: what the lane is now is the better answer.
		o.out.Ready = c.Settle != nil && epoch == c.Fence.Epoch && state == ready
		o.out.Next = next
	}
	return err
}

// refuse tells a commit by a stale owner from one that names calls which are not there.
func (s *Store) refuse(ctx context.Context, o *commitOp) error {
	c := &o.in
	held := false
	if len(c.changes) > 0 {
		err := s.pool.QueryRow(ctx, heldSQL, c.Fence.SessionID, c.SubmissionSeq, c.Fence.Epoch, c.EntryHead,
			c.EventHead).Scan(&held)
		if err != nil {
			return err
		}
	}
	if !held {
		o.err = submission.ErrFenced
		return nil
	}
	err := s.refusal(ctx, c)
	if transient(err) {
		return err
	}
	o.err = err
	return nil
}
