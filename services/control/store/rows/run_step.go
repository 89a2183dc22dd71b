package rows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/step"
)

const stepSelect = `SELECT ` + stepColumns + `, {now} FROM run_steps WHERE run_id = $1 AND ord > $2 `

var (
	listSteps     = reads(stepSelect + `ORDER BY ord LIMIT $3`)
	listOpenSteps = reads(stepSelect + `AND NOT folded ORDER BY ord LIMIT $3`)
	listParts     = reads(stepSelect + `AND parent = $4 ORDER BY ord LIMIT $3`)
	findBlob      = reads(`SELECT body FROM run_blobs WHERE run_id = $1 AND digest = $2`)
)

// StepRow is a record as it is stored.
type StepRow struct {
	step.Record
	Inline []byte // the output if it is small
	Blob   string // the digest of one that is large; Body is that
	Body   []byte
	Cause  string // JSON of Failed
	// Folded says that the record of a step that this one is part of, later in the same commit, folds it.
	Folded bool
}

// EncodeRecords is the records of a commit as they are stored: one for each step, as the last one says. What is folded
// of what there was before is folded first. Fails with step.ErrEnded.
func EncodeRecords(records []step.Record) (all []StepRow, err error) {
	at := map[int]int{}
	for i := range records {
		r := StepRow{Record: records[i]}
		if r.Failed != nil {
			cause, err := json.Marshal(r.Failed)
			if err != nil {
				return nil, err
			}
			r.Cause = string(cause)
		}
		b := newBlob(r.Output)
		r.Inline, r.Blob, r.Body = b.inline, b.digest, b.body
		if r.Folds {
			for j := range all {
				all[j].Folded = all[j].Folded || all[j].Parent == r.Ord
			}
		}
		n, known := at[r.Ord]
		if !known {
			at[r.Ord] = len(all)
			all = append(all, r)
			continue
		}
		if all[n].State.Ended() {
			return nil, fmt.Errorf("step %s: %w", r.Path, step.ErrEnded)
		}
		r.Folds, r.Folded = r.Folds || all[n].Folds, all[n].Folded
		all[n] = r
	}
	return all, nil
}

// Due is when something of the step is due, in one of two ways; neither is never.
func (r *StepRow) Due() (at time.Time, after time.Duration, ok bool) {
	switch {
	case r.State.Ended():
		return at, 0, false
	case !r.At.IsZero():
		return r.At, 0, true
	}
	return at, r.Wait, r.Wait < longest
}

// longest is a time that is as good as never, and that databases can still add to their clocks.
const longest = 100 * 365 * 24 * time.Hour

// decodeStep decodes a record without an output that is a blob, of which it returns the digest.
func decodeStep(r Row) (rec step.Record, digest string, err error) {
	rec = step.Record{
		Ord: int(r.int(0)), Parent: int(r.int(1)), Path: r.text(2), Kind: r.text(3), State: step.State(r.int(4)),
		Try: int(r.int(5)), Pausing: r.bool(6), Took: time.Duration(r.int(7)) * time.Microsecond, Output: r.blob(8),
		Ref: r.text(11), Left: step.Never, StartedAt: r.time(14), EndedAt: r.time(15),
	}
	if n := r.int(4); n < int64(step.Started) || n > int64(step.Unknown) {
		return rec, "", fmt.Errorf("no state %d", n)
	}
	if rec.Output != nil && !json.Valid(rec.Output) {
		return rec, "", errNoBlob
	}
	if err := r.json(10, &rec.Failed); err != nil {
		return rec, "", err
	}
	if due := r.time(12); !due.IsZero() {
		rec.Left = due.Sub(r.time(16))
	}
	return rec, r.text(9), nil
}

// steps is a page of records. It ends early where the outputs are large. damaged is told of a record that cannot be
// read, and says whether the page goes on without it.
func (t *Tables) steps(
	ctx context.Context, damaged func(error) error, s Statement, runID string, after, limit int, more ...any,
) (page []step.Record, err error) {
	if !ident.IsUUID(runID) || limit <= 0 {
		return nil, nil
	}
	for budget := (retention.Budget{Rows: limit, Bytes: step.PageBytes}); len(page) == 0; {
		found, err := t.port.Query(ctx, s, append([]any{runID, after, limit}, more...)...)
		if err != nil || len(found) == 0 {
			return nil, err
		}
		for _, r := range found {
			rec, err := t.step(ctx, runID, r)
			if errors.Is(err, step.ErrUnreadable) {
				err = damaged(err)
			} else if err == nil {
				page = append(page, rec)
				budget.Spend(len(rec.Output))
			}
			if err != nil {
				return nil, err
			}
			if after = int(r.int(0)); budget.Spent() {
				break
			}
		}
	}
	return page, nil
}

// step is a record with its output.
func (t *Tables) step(ctx context.Context, runID string, r Row) (step.Record, error) {
	rec, digest, err := decodeStep(r)
	if err == nil && digest != "" {
		var body []byte
		body, err = one(ctx, t.port, firstBlob, errNoBlob, findBlob, runID, digest)
		if err != nil && !errors.Is(err, errNoBlob) {
			return rec, err
		}
		if rec.Output = body; err == nil && !json.Valid(body) {
			err = errNoBlob
		}
	}
	if err != nil {
		err = fmt.Errorf("step %s of run %s: %w: %w", rec.Path, runID, step.ErrUnreadable, err)
	}
	return rec, err
}

var errNoBlob = errors.New("its output is gone, or no JSON")

// strictly ends at a record that cannot be read.
func strictly(err error) error { return err }

// OpenSteps implements run.Store.
func (t *Tables) OpenSteps(ctx context.Context, runID string, after, limit int) ([]step.Record, error) {
	page, err := t.steps(ctx, strictly, listOpenSteps, runID, after, limit)
	return page, wrap("read steps", err)
}

// PartsOf implements run.Store.
func (t *Tables) PartsOf(ctx context.Context, runID string, ord, after, limit int) ([]step.Record, error) {
	page, err := t.steps(ctx, strictly, listParts, runID, after, limit, ord)
	return page, wrap("read steps", err)
}

// ListSteps implements run.Store.
func (t *Tables) ListSteps(ctx context.Context, runID string, after, limit int) ([]step.Record, error) {
	page, err := t.steps(ctx, func(err error) error { t.Damaged(err); return nil }, listSteps, runID, after, limit)
	return page, wrap("list steps", err)
}
