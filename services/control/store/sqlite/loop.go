package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

const (
	refColumns = `SELECT s.rowid, s.submission_id, s.lane_id, s.session_id, s.seq, s.parent_call IS NULL, s.entry_head,
		s.turn, s.status, s.has_calls + 2 * (s.when_busy = 2) + 4 * (s.wakes IS NOT NULL)`
	loopColumns = refColumns + `, ifnull(s.root_id, s.submission_id), k.tenant, k.agent, k.instance, k.name,
		s.parent_call, s.agent_digest, s.input, s.input_entry, s.phase, s.usage, s.attempts, s.stalls,
		s.stall_cause, s.timeout_us, s.started_at, k.executor,
		s.idem_key, s.outcome, s.reason, s.message, s.result_entry, s.model, s.abort_requested_at, s.cancellation,
		s.accepted_at, s.settled_at, s.event_base, s.options, s.data, s.when_busy, s.host_id
		FROM submissions s JOIN sessions k ON k.session_id = s.session_id `
)

var (
	selectRef  = sql(refColumns + ` FROM submissions s WHERE s.submission_id = ?`)
	selectHead = sql(loopColumns + `WHERE s.session_id = ? AND s.seq >= ? AND s.status < 2 ORDER BY s.seq LIMIT 1`)
	// Parents come before their children.
	selectChildren = sql(loopColumns + `WHERE s.root_id = ? AND s.parent_call IS NOT NULL AND s.status = 1
		ORDER BY s.rowid`)
	// A fork begins at the entry where it was cut.
	entryHead = sql(`SELECT coalesce((SELECT max(seq) FROM entries WHERE session_id = ?1),
		(SELECT forked_at FROM sessions WHERE session_id = ?1), 0)`)
)

// loopRef is what a commit has to know of a loop.
type loopRef struct {
	rowid     int64
	id        string
	laneID    string
	sessionID string
	seq       int64
	root      bool
	entryHead int64
	turn      int
	status    submission.Status
	calls     bool // it has asked for calls, of which some may be sub-agents
	urgent    bool // it interrupts
	awaited   bool // a lane rests on its end
}

func (r row) ref() loopRef {
	return loopRef{
		rowid: r.int(0), id: r.text(1), laneID: r.text(2), sessionID: r.text(3), seq: r.int(4), root: r.bool(5),
		entryHead: r.int(6), turn: int(r.int(7)), status: submission.Status(r.int(8)), calls: r.int(9)&1 != 0,
		urgent: r.int(9)&2 != 0, awaited: r.int(9)&4 != 0,
	}
}

// loopRow is a loop, or a submission, as it is stored. It is decoded where it is used: one that cannot be must not stop
// the others.
type loopRow struct {
	loopRef
	row row
}

func (r *loopRow) key() session.Key {
	return session.Key{
		Tenant: r.row.text(11), Agent: r.row.text(12), Instance: r.row.text(13), Name: r.row.text(14),
	}
}

func (r *loopRow) timeout() time.Duration { return time.Duration(r.row.int(24)) * time.Microsecond }
func (r *loopRow) usage() string          { return r.row.text(20) }
func (r *loopRow) executor() string       { return r.row.text(26) }
func (r *loopRow) eventBase() int64       { return r.row.int(37) }

// loop is the row but for what cannot be decoded, and why that cannot be.
func (r *loopRow) loop() (lane.Loop, error) {
	c := r.row
	l := lane.Loop{
		ID: r.id, LaneID: r.laneID, RootID: c.text(10), SessionID: r.sessionID, Key: r.key(), Seq: r.seq,
		ParentCall: c.text(15), AgentDigest: c.text(16), Input: c.blob(17), InputEntry: c.int(18),
		EntryHead: r.entryHead,
		Phase:     lane.Phase(c.int(19)), Turn: r.turn, Attempts: int(c.int(21)), Stalls: int(c.int(22)),
		StallCause: c.text(23), Timeout: r.timeout(), StartedAt: c.time(25), Model: c.text(32),
	}
	if n := c.int(19); n < 0 || n > int64(lane.PhaseTools) {
		return l, fmt.Errorf("decoding loop %s: no phase %d", l.ID, n)
	}
	if err := decode(r.usage(), &l.Usage); err != nil {
		return l, fmt.Errorf("decoding the usage of loop %s: %w", l.ID, err)
	}
	var err error
	if l.Options, err = lane.DecodeOptions(c.text(38)); err != nil {
		return l, fmt.Errorf("loop %s: %w", l.ID, err)
	}
	return l, nil
}

// submission is the row without what cannot be decoded of it: nothing is decided by what it says.
func (r *loopRow) submission(damaged func(error)) submission.Submission {
	c := r.row
	l, err := r.loop()
	s := submission.Submission{
		Loop: l, IdempotencyKey: c.text(27), Status: r.status, Outcome: lane.Outcome(c.text(28)), Reason: c.text(29),
		Message: c.text(30), ResultEntry: c.int(31), AbortRequested: c.bool(33),
		AcceptedAt: c.time(35), SettledAt: c.time(36), WhenBusy: submission.WhenBusy(c.int(40)), Host: c.text(41),
	}
	if data := c.text(39); data != "" {
		s.Data = json.RawMessage(data)
	}
	if err = errors.Join(err, decode(c.text(34), &s.Cancellation)); err != nil {
		damaged(fmt.Errorf("submission %s, without what cannot be read: %w", s.ID, err))
	}
	return s
}

// loops collects the rows of a query.
func (c *conn) loops(q statement, args ...any) (found []*loopRow, err error) {
	err = c.rows(q, func(r row) (bool, error) {
		found = append(found, &loopRow{r.ref(), slices.Clone(r)})
		return true, nil
	}, args...)
	return found, err
}

// loop returns nil when there is none.
func (c *conn) loop(q statement, args ...any) (*loopRow, error) {
	found, err := c.loops(q, args...)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

func (c *conn) entryHead(sessionID string) (int64, error) {
	r, err := c.row(entryHead, sessionID)
	if err != nil {
		return 0, err
	}
	return r.int(0), nil
}

// encode stores the zero value as NULL: it is what most rows have.
func encode[V comparable](v V) (any, error) {
	var zero V
	if v == zero {
		return nil, nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// decode leaves the zero value where nothing is stored, or what cannot be decoded.
func decode[V *call.Cancellation | model.Usage](text string, v *V) error {
	if text == "" {
		return nil
	}
	var got V
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return err
	}
	*v = got
	return nil
}
