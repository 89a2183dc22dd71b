package sqlite

import (
	"errors"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store/rows"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var (
	advance = sql(`UPDATE submissions SET entry_head = ?, phase = ?, turn = ?, usage = ?,
		input_entry = iif(input_entry = 0, ?, input_entry), input = iif(? > 0, NULL, input), stalls = 0,
		stall_cause = '' WHERE rowid = ?`)
	unstall    = sql(`UPDATE submissions SET entry_head = ?, stalls = 0, stall_cause = '' WHERE rowid = ?`)
	spend      = sql(`UPDATE submissions SET usage = ? WHERE rowid = ?`)
	switchTo   = sql(`UPDATE submissions SET model = ? WHERE rowid = ?`)
	insertTurn = sql(`INSERT INTO turns (submission_id, turn, tenant, lane_id, model, request, prefix, usage, attempts,
		first_token_us, duration_us, stop, error, purpose, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	insertPrefix = sql(`INSERT INTO prefixes (digest, tenant, body, used_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at WHERE used_at < excluded.used_at - 3600000000`)
	insertChild = sql(`INSERT INTO sessions (session_id, tenant, lane_id, parent_id, parent_call, agent, instance, name,
		created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	joinable = sql(`SELECT 1 FROM submissions WHERE submission_id = ? AND host_id = ? AND when_busy = 1
		AND status = 0`)
	joinLoop = sql(`UPDATE submissions SET status = 3, input = NULL, input_entry = ?, started_at = ?
		WHERE submission_id = ?`)
	insertLoop = sql(`INSERT INTO submissions (submission_id, tenant, lane_id, session_id, root_id, parent_call, seq,
		agent_digest, event_base, status, accepted_at, started_at, options, entry_head)
		SELECT ?1, ?2, ?3, ?4, ?5, ?6, COALESCE((SELECT max(seq) FROM submissions WHERE session_id = ?4), 0) + 1,
		?7, ?8, 1, ?9, ?9, ?10, ?11 WHERE EXISTS (SELECT 1 FROM sessions WHERE session_id = ?4 AND lane_id = ?3)`)
)

// step is a step with everything encoded.
type step struct {
	*lane.Step
	entries []entry
	usage   any      // of Progress, or Spent; of neither when the loop ends
	turn    any      // usage of Turn
	asked   []string // subjects of Approvals
	records []rows.StepRow
	end     settlement
}

// head is the conversation's, after the step.
func (s step) head() int64 { return s.EntryHead + int64(len(s.entries)) }

func encodeStep(s *lane.Step) (st step, err error) {
	st.Step = s
	if st.entries, err = encodeEntries(s); err != nil {
		return st, err
	}
	if b := s.Begin; b != nil && !b.GoesOn && s.EntryHead != 0 {
		return st, errors.New("a conversation that begins has no entries yet")
	}
	switch {
	case s.End != nil: // whose usage is the last word
	case s.Progress != nil:
		st.usage, err = encode(s.Progress.Usage)
	case s.Spent != nil:
		st.usage, err = encode(*s.Spent)
	}
	if err == nil && s.Turn != nil {
		st.turn, err = encode(s.Turn.Usage)
	}
	for i := range s.Approvals {
		if err == nil {
			var subject string
			subject, err = rows.EncodeSubject(&s.Approvals[i])
			st.asked = append(st.asked, subject)
		}
	}
	if err == nil && s.End != nil {
		st.end, err = encodeSettlement(s.End)
	}
	if err == nil && len(s.Records) > 0 {
		st.records, err = rows.EncodeRecords(s.Records)
	}
	return st, err
}

// takeSteps writes the steps of a commit. It looks at all before it writes any: what is refused without having written
// costs the others of a transaction nothing. It returns the head if that has ended.
func (t tx) takeSteps(l *laneRow, w write) (ended *loopRef, err error) {
	loops := make([]loopRef, len(w.steps))
	for i, s := range w.steps {
		if s.Begin == nil {
			if loops[i], err = t.running(l, s); err != nil {
				return nil, err
			}
		}
		if err := errors.Join(t.mayLose(s), t.mayJoin(s), t.mayWithdraw(l, s)); err != nil {
			return nil, err
		}
	}
	head := -1
	for i, s := range w.steps {
		if s.Begin != nil {
			if loops[i], err = t.beginLoop(l, s); err != nil {
				return nil, fmt.Errorf("beginning loop %s: %w", s.LoopID, err)
			}
		}
		err := t.takeStep(l, s, loops[i])
		if s.End != nil && loops[i].root {
			head = i
		} else if err == nil && s.End != nil {
			err = t.finish(s, loops[i])
		}
		if err != nil {
			return nil, fmt.Errorf("writing a step of loop %s: %w", s.LoopID, err)
		}
	}
	if head < 0 {
		return nil, nil
	}
	return &loops[head], t.finish(w.steps[head], loops[head]) // last: it settles those that are open then
}

// running is the loop of a step.
func (t tx) running(l *laneRow, s step) (loop loopRef, err error) {
	r, err := t.row(selectRef, s.LoopID)
	if err != nil {
		return loop, err
	}
	if r != nil {
		loop = r.ref()
	}
	switch {
	case loop.laneID != l.id || loop.sessionID != s.SessionID:
		return loop, fmt.Errorf("lane %s has no loop %s of session %s", l.id, s.LoopID, s.SessionID)
	case loop.status != submission.Running:
		return loop, fmt.Errorf("loop %s does not run", s.LoopID)
	case loop.entryHead != s.EntryHead:
		return loop, fmt.Errorf("session %s has %d entries, and the step of loop %s follows %d", s.SessionID,
			loop.entryHead, s.LoopID, s.EntryHead)
	}
	return loop, nil
}

// mayLose refuses a step that would call an outcome unknown which is recorded.
func (t tx) mayLose(s step) error {
	for _, o := range s.Outcomes {
		if o.State != call.Lost {
			continue
		}
		r, err := t.row(selectState, o.CallID)
		if err != nil {
			return err
		}
		if r != nil && call.State(r.int(0)).Terminal() && call.State(r.int(0)) != call.Lost {
			return &lane.Refused{LoopID: s.LoopID, Err: call.ErrEnded}
		}
	}
	return nil
}

// beginLoop makes the loop of a sub-agent, or of a guest, and its conversation unless that is there.
func (t tx) beginLoop(l *laneRow, s step) (loopRef, error) {
	b, now := s.Begin, t.micros()
	options, err := b.Options.Encode()
	if err != nil {
		return loopRef{}, err
	}
	if !b.GoesOn {
		if _, err := t.exec(insertChild, s.SessionID, b.Key.Tenant, l.id, optional(b.ParentID), b.ParentCall,
			b.Key.Agent, b.Key.Instance, b.Key.Name, now); err != nil {
			return loopRef{}, err
		}
	}
	head, err := t.entryHead(s.SessionID)
	if err != nil {
		return loopRef{}, err
	}
	if _, err := t.exec(insertLoop, s.LoopID, b.Key.Tenant, l.id, s.SessionID, b.RootID, b.ParentCall, b.AgentDigest,
		l.eventHead, now, optional(options), head); err != nil {
		return loopRef{}, err
	}
	return t.running(l, s)
}

// takeStep writes what a step says but for the end of its loop.
func (t tx) takeStep(l *laneRow, s step, loop loopRef) (err error) {
	for _, e := range s.entries {
		if err := t.addEntry(s.SessionID, l.tenant, e); err != nil {
			return err
		}
	}
	if err := t.commitCalls(l, s, loop); err != nil {
		return err
	}
	if err := t.commitApprovals(l, s); err != nil {
		return err
	}
	switch p := s.Progress; {
	case s.End != nil && (p == nil || p.InputEntry == 0): // see finish
	case p != nil:
		_, err = t.exec(advance, s.head(), int64(p.Phase), p.Turn, s.usage, p.InputEntry, p.InputEntry, loop.rowid)
	case s.Progresses():
		_, err = t.exec(unstall, s.head(), loop.rowid)
	}
	if err == nil && s.Spent != nil && s.Progress == nil && s.End == nil {
		_, err = t.exec(spend, s.usage, loop.rowid)
	}
	if err == nil && s.Model != "" && s.End == nil {
		_, err = t.exec(switchTo, s.Model, loop.rowid)
	}
	if err == nil && s.Turn != nil {
		err = t.addTurn(l, s)
	}
	if err == nil && len(s.Joins) > 0 {
		err = t.join(l, s)
	}
	if err == nil && len(s.records)+len(s.Taken) > 0 {
		err = t.commitRun(l, s)
	}
	return err
}

// mayJoin refuses a step that joins what does not wait for its loop any more.
func (t tx) mayJoin(s step) error {
	for _, j := range s.Joins {
		r, err := t.row(joinable, j.SubmissionID, s.LoopID)
		if err != nil {
			return err
		}
		if r == nil {
			return &lane.Refused{LoopID: s.LoopID, Err: lane.ErrNotQueued}
		}
	}
	return nil
}

// join takes submissions off the queue that join the loop of a step.
func (t tx) join(l *laneRow, s step) error {
	for _, j := range s.Joins {
		if _, err := t.exec(joinLoop, j.InputEntry, t.micros(), j.SubmissionID); err != nil {
			return err
		}
	}
	l.pending -= int64(len(s.Joins))
	return t.save(l)
}

func (t tx) addTurn(l *laneRow, s step) error {
	if s.Turn.PrefixBody != nil {
		_, err := t.exec(insertPrefix, s.Turn.Prefix, l.tenant, s.Turn.PrefixBody, t.micros())
		if err != nil {
			return err
		}
	}
	n := s.Turn
	_, err := t.exec(insertTurn, s.LoopID, n.Turn, l.tenant, l.id, n.Model, n.Request, n.Prefix, s.turn, n.Attempts,
		n.FirstToken.Microseconds(), n.Duration.Microseconds(), n.Stop, n.Error, n.Purpose, t.micros())
	return err
}
