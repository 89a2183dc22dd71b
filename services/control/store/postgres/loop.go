package postgres

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
)

// loopColumns of submissions s and sessions k, as scanned by loopRow.
const loopColumns = `s.submission_id, s.lane_id, s.root_id, s.session_id, k.tenant, k.agent, k.instance, k.name,
  k.parent_id, s.seq, s.parent_call, s.agent_digest, s.input, s.input_entry, s.entry_head, s.phase, s.turn,
  s.usage::text, s.attempts, s.stalls, s.stall_cause, s.timeout_us, s.started_at, s.options, s.model`

// loopRow receives loopColumns, as types that take whatever a column can hold: an error of Scan would close the rows,
// and one damaged row would keep all others from being read. It is decoded afterwards, by itself.
type loopRow struct {
	loop    lane.Loop
	parent  *string // the conversation that asked
	call    *string
	phase   int16
	usage   *string
	options *string
	timeout int64
	started pgtype.Timestamptz
}

func (r *loopRow) targets(more ...any) []any {
	l := &r.loop
	return append([]any{
		&l.ID, &l.LaneID, &l.RootID, &l.SessionID, &l.Key.Tenant, &l.Key.Agent, &l.Key.Instance, &l.Key.Name,
		&r.parent, &l.Seq, &r.call, &l.AgentDigest, (*[]byte)(&l.Input), &l.InputEntry, &l.EntryHead, &r.phase, &l.Turn,
		&r.usage, &l.Attempts, &l.Stalls, &l.StallCause, &r.timeout, &r.started,
		&r.options, &l.Model,
	}, more...)
}

// decode is the loop, with an error as far as it can be read if that is not all of it.
func (r *loopRow) decode() (lane.Loop, error) {
	l := r.loop
	l.ParentCall, l.StartedAt = value(r.call), r.started.Time
	l.Timeout = time.Duration(r.timeout) * time.Microsecond
	if r.phase < 0 || lane.Phase(r.phase) > lane.PhaseTools {
		return l, fmt.Errorf("loop %s: no phase %d", l.ID, r.phase)
	}
	l.Phase = lane.Phase(r.phase)
	if err := decodeUsage(r.usage, &l.Usage); err != nil {
		return l, fmt.Errorf("usage of loop %s: %w", l.ID, err)
	}
	var err error
	if l.Options, err = lane.DecodeOptions(value(r.options)); err != nil {
		return l, fmt.Errorf("loop %s: %w", l.ID, err)
	}
	return l, nil
}

// inOrder puts the root first and parents before their children, which are otherwise in order of their ids: what these
// say of the time at which a loop began is the clock of one of many machines.
func inOrder(root loopRow, children []loopRow) []loopRow {
	ordered, waiting := []loopRow{root}, map[string]bool{}
	for _, c := range children {
		waiting[c.loop.SessionID] = true
	}
	for len(children) > 0 {
		var later []loopRow
		for _, c := range children {
			if waiting[value(c.parent)] { // one whose parent has ended waits for nobody
				later = append(later, c)
				continue
			}
			delete(waiting, c.loop.SessionID)
			ordered = append(ordered, c)
		}
		if len(later) == len(children) {
			return append(ordered, later...) // a circle, which only damage can make
		}
		children = later
	}
	return ordered
}

// collectLoops scans rows of loopColumns by the lane that they are in.
func collectLoops(loops map[string][]loopRow) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			var row loopRow
			if err := rows.Scan(row.targets()...); err != nil {
				return err
			}
			loops[row.loop.LaneID] = append(loops[row.loop.LaneID], row)
		}
		return rows.Err()
	}
}

// remaining is the time that is left, of microseconds on the platform's clock; NULL is that there is no end.
func remaining(us *int64) time.Duration {
	if us == nil {
		return lane.Never
	}
	return time.Duration(*us) * time.Microsecond
}

// encodeUsage is NULL for no usage at all.
func encodeUsage(u model.Usage) (*string, error) {
	if u == (model.Usage{}) {
		return nil, nil
	}
	return encodeText(u)
}

func encodeText(v any) (*string, error) {
	b, err := json.Marshal(v)
	text := string(b)
	return &text, err
}

func decodeUsage(text *string, u *model.Usage) error {
	if text == nil {
		return nil
	}
	err := json.Unmarshal([]byte(*text), u)
	if err != nil {
		*u = model.Usage{}
	}
	return err
}
