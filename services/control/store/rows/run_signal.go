package rows

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/step"
)

const signalSelect = `SELECT seq, name, message_id, body, told_by, at, taken_by FROM run_signals WHERE run_id = $1 `

var (
	// holdRun makes others wait that tell the run something, retry or copy it. It changes nothing. Whoever needs the
	// lane too has held that before, and enters a concurrency key after it.
	holdRun = writes(`UPDATE runs SET attempt = attempt WHERE run_id = $1 AND tenant = $2
		RETURNING status, submission_id`)
	findSignal = reads(signalSelect + `AND name = $2 AND message_id = $3 AND message_id IS NOT NULL`)
	untaken    = reads(signalSelect + `AND taken_by IS NULL ORDER BY seq LIMIT $2`)
	untakenSum = reads(`SELECT count(*), COALESCE(sum(length(f.body)), 0) FROM (SELECT body FROM run_signals
		WHERE run_id = $1 AND taken_by IS NULL) f`)
	lastSignal = reads(`SELECT seq FROM run_signals WHERE run_id = $1 ORDER BY seq DESC LIMIT 1`)
	addSignal  = writes(`INSERT INTO run_signals (run_id, seq, tenant, name, message_id, body, told_by, at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, {now}) RETURNING seq, name, message_id, body, told_by, at, taken_by`)
)

func decodeSignal(r Row) (step.Signal, error) {
	s := step.Signal{
		Seq: r.int(0), Name: r.text(1), MessageID: r.text(2), Body: r.blob(3), By: r.text(4), At: r.time(5),
		TakenBy: r.text(6),
	}
	if s.Body != nil && !json.Valid(s.Body) {
		return s, fmt.Errorf("decoding signal %s (%d) of a run: it is no JSON", s.Name, s.Seq)
	}
	return s, nil
}

// TellRunIn is run.Store's Tell in a transaction. The run is to hear of what is not replayed.
func TellRunIn(ctx context.Context, p Port, n run.Telling) (s step.Signal, replayed bool, err error) {
	if !ident.IsUUID(n.RunID) {
		return s, false, run.ErrNotFound
	}
	held, err := p.Query(ctx, holdRun, n.RunID, n.Tenant)
	if err != nil || len(held) == 0 {
		return s, false, orMissing(err)
	}
	if n.MessageID != "" {
		found, err := p.Query(ctx, findSignal, n.RunID, n.Name, n.MessageID)
		if err != nil || len(found) > 0 {
			if err == nil {
				s, err = decodeSignal(found[0])
			}
			return s, true, err
		}
	}
	if run.Status(held[0].int(0)).Ended() {
		return s, false, run.ErrEnded
	}
	sum, err := p.Query(ctx, untakenSum, n.RunID)
	if err != nil {
		return s, false, err
	}
	if count, bytes := sum[0].int(0), sum[0].int(1); count >= step.MaxSignals {
		return s, false, run.ErrSignals.With("%v: it has not received %d", run.ErrSignals, count)
	} else if bytes+int64(len(n.Body)) > step.MaxSignalBytes {
		return s, false, run.ErrSignals.With("%v: those that it has not received have %d bytes, with this one more "+
			"than 1 MiB", run.ErrSignals, bytes)
	}
	last, err := p.Query(ctx, lastSignal, n.RunID)
	if err != nil {
		return s, false, err
	}
	seq := int64(1)
	if len(last) > 0 {
		seq += last[0].int(0)
	}
	s, err = one(ctx, p, decodeSignal, run.ErrNotFound, addSignal, n.RunID, seq, n.Tenant, n.Name,
		optional(n.MessageID), null(n.Body), n.By)
	if err == nil && n.Record != nil {
		err = AppendAudit(ctx, p, *n.Record)
	}
	return s, false, err
}

// Untaken implements run.Store.
func (t *Tables) Untaken(ctx context.Context, runID string) ([]step.Signal, error) {
	if !ident.IsUUID(runID) {
		return nil, nil
	}
	all, err := list(ctx, t, decodeSignal, untaken, runID, step.MaxSignals)
	return all, wrap("read signals", err)
}
