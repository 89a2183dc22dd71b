package turn

import (
	"context"
	"errors"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/tool"
)

const (
	sweepEvery = 5 * time.Second // to look at executors and rows that no hint told of
	sweepSoon  = time.Second     // the same while something is to happen soon
	// survival is how long an owner waits beside a running call before it takes for granted that the call is not what
	// its predecessors died of.
	survival = time.Second
	// maxActions bounds what one look does with one call.
	maxActions = 8
)

// look is why a strand looks at its calls.
type look uint8

const (
	firstLook   look = iota // it has just begun to wait for them
	nudgedLook              // something outside has changed
	routineLook             // it is time to
)

// Await handles what is told of the turn's calls until all have ended, or the strand has to end and was not when it
// began to wait, or the lane is handed back. Its error is the work's: ErrParked, or one that ends it.
func (t *Strand) Await(ctx context.Context) error {
	timer := time.NewTimer(sweepEvery)
	defer timer.Stop()
	sweep, look := time.Now(), firstLook // at once: what this owner has not sent itself is asked for
	stopping := t.Stopped()
	for {
		if now := time.Now(); !now.Before(sweep) {
			if err := t.sweep(ctx, look); err != nil {
				return err
			}
			sweep, look = now.Add(t.pace()), routineLook
		}
		if t.turn.open == 0 || t.lane.Leaving() && !t.runsFunctions() {
			return nil
		}
		if parked, err := t.rest(); err != nil {
			return err
		} else if parked {
			return ErrParked
		}
		wait := time.Until(sweep)
		if due, ok := t.FlushDue(); ok {
			wait = min(wait, due)
		}
		timer.Reset(max(wait, 0))
		leave := t.lane.head.leave
		if t.lane.Leaving() {
			leave = t.lane.head.cut
		}
		nudged, err := t.hear(ctx, timer, leave)
		if err != nil {
			return err
		}
		if nudged {
			sweep, look = time.Now(), nudgedLook
		}
		if Closed(t.lane.head.cut) && t.lane.Leaving() {
			return nil
		}
		if t.Ends() && !stopping {
			return nil
		}
	}
}

// hear waits until there is something for the strand to do, and does what needs no look at the calls. nudged says that
// they are to be looked at.
func (t *Strand) hear(ctx context.Context, timer *time.Timer, leave <-chan struct{}) (nudged bool, err error) {
	due, mail := false, false
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-leave:
	case <-t.Over():
	case <-t.Above():
	case <-t.Timeout():
		t.timedOut = true
	case <-timer.C:
		due = true
	case <-t.mail.ready:
		mail = true
	}
	if t.lane.stir(t) {
		return false, ErrParked
	}
	if mail {
		return t.readMail(ctx)
	}
	if in, ok := t.FlushDue(); due && ok && in <= 0 {
		err = t.Flush()
	}
	return false, err
}

// pace is when to look at the calls again.
func (t *Strand) pace() time.Duration {
	if t.Stopped() || t.user.Stalled() != nil || !t.turn.undecided.IsZero() {
		return sweepSoon
	}
	pace := sweepEvery
	for _, c := range t.turn.calls {
		if !c.State.Terminal() && (c.watch.Ended || !c.watch.Resend.IsZero()) {
			return sweepSoon
		}
		if c.gate != nil && !c.gate.until.IsZero() {
			pace = min(pace, max(time.Until(c.gate.until), 0))
		}
	}
	return pace
}

// runsFunctions reports whether a function runs here that must not be run again.
func (t *Strand) runsFunctions() bool {
	for _, c := range t.turn.calls {
		if c.cancel != nil && !c.State.Terminal() && c.Safety == tool.AtMostOnce {
			return true
		}
	}
	return false
}

func (t *Strand) readMail(ctx context.Context) (nudged bool, err error) {
	reports, own, nudged := t.mail.take()
	for id, p := range t.mail.takeProgress() {
		t.showProgress(id, p)
	}
	for _, e := range own {
		if c := t.turn.byID[e.callID]; c != nil && !c.State.Terminal() {
			if err := t.tookOwn(ctx, c, e); err != nil {
				return nudged, err
			}
		}
	}
	for _, rep := range reports {
		c := t.turn.byID[rep.CallID]
		if c == nil || c.State.Terminal() || c.Executor != rep.Executor {
			t.missed(rep)
			continue
		}
		c.watch.Heard = time.Now()
		switch body := rep.Body.(type) {
		case call.Output:
			err = t.tookOutput(ctx, c, body)
		case call.Progress:
			t.showProgress(rep.CallID, tool.Progress(body))
		case call.Slot:
			if c.State == call.Pending {
				t.granted(ctx, c, body.Dispatch, body.Journal)
			}
		default:
			err = t.decide(ctx, c, rep.Body, nil)
		}
		if err != nil {
			return nudged, err
		}
	}
	return nudged, nil
}

// missed asks again for a result that was posted when nobody waited for it any more: the connection, which may have to
// record it, has left it to this strand.
func (t *Strand) missed(rep call.Report) {
	if _, ok := rep.Body.(call.Ended); ok {
		f := t.lane.owner.Fence()
		t.send(rep.Executor, &call.Attach{CallID: rep.CallID, LaneID: f.LaneID, Epoch: f.Epoch})
	}
}

// sweep looks at every open call: whether its row was completed elsewhere, whether its executor is there, whether it
// waits for one.
func (t *Strand) sweep(ctx context.Context, why look) error {
	t.looked = t.lane.owner.Mail() // before the look at what it may be about
	if err := t.lookAtGates(ctx); err != nil {
		return err
	}
	if t.recordedElsewhere(why) {
		if _, err := t.reload(ctx); err != nil {
			return err
		}
	}
	if err := t.lookWhere(ctx); err != nil {
		return err
	}
	t.turn.roughly = why == routineLook
	defer func() { t.turn.roughly = false }()
	seen := sights{}
	for _, c := range t.turn.calls {
		if c.State.Terminal() {
			continue
		}
		if t.moved(c) {
			if err := t.place(ctx, c); err != nil {
				return err
			}
			continue
		}
		if err := t.decide(ctx, c, nil, seen); err != nil {
			return err
		}
	}
	return t.survive()
}

// survive clears the stalls once this owner has lived beside a running call for a moment: what killed those before it
// was something else, and a long command is not to be given up for deaths that have nothing to do with it. What kills
// an owner by what it says does so at once. The empty piece of output tells watchers that it runs on.
func (t *Strand) survive() error {
	progress := t.user.Stalled()
	if progress == nil || t.Stopped() {
		return nil
	}
	for _, c := range t.turn.calls {
		w := &c.watch
		if c.State.Terminal() || w.Ended || w.Running.IsZero() || time.Since(w.Running) < survival {
			continue
		}
		t.Push(t.outputOf(c.ID, event.Output{Offset: c.output.end(0)}))
		return t.Commit(lane.Step{Progress: progress}, lane.With{})
	}
	return nil
}

// recordedElsewhere reports whether an outcome, or the grant of a slot, may have been recorded by others than this
// strand: by another replica, or by this one before the strand waited for the call. Of these calls nobody knows more
// than the strand does: of one that has no executor, at the first look of one that it has just sent, and of one whose
// executor has been connected to this replica since the strand last spoke of it. Rows that many wait for are read for
// nothing otherwise.
func (t *Strand) recordedElsewhere(why look) bool {
	for _, c := range t.turn.calls {
		if c.State.Terminal() || c.Kind != uint8(tool.KindExecutor) || c.Executor == "" {
			continue
		}
		if c.watch.Connection == 0 {
			return true
		}
		here, ok := t.lane.deps.Fleet.Local(c.Executor)
		ours := ok && here.ConnectionEpoch == c.watch.Connection && c.State == call.Dispatched
		if why != firstLook && !ours {
			return true
		}
	}
	return false
}

// reload takes over what was recorded elsewhere. read is false when the rows cannot be read now: nothing may be
// concluded from them then, and the next sweep asks executors and rows again. It is an error when that has lasted.
func (t *Strand) reload(ctx context.Context) (read bool, err error) {
	rows, err := t.lane.deps.Store.TurnCalls(ctx, t.who.LoopID, t.user.Turn())
	if err != nil {
		t.lane.deps.Log.Warn("reading calls failed, trying again", "session_id", t.who.SessionID, "error", err)
		for _, c := range t.turn.calls {
			c.watch.Connection = 0
		}
		return false, t.fails(&t.turn.unread, err)
	}
	t.turn.unread = time.Time{}
	for _, row := range rows {
		c := t.turn.byID[row.ID]
		switch {
		case c == nil || c.State.Terminal():
		case c.Kind == uint8(tool.KindTask): // its loop tells what it came to, and has told watchers
		case row.State.Terminal():
			if err := t.take(ctx, c, t.reply(row), &row); err != nil {
				return false, err
			}
		case c.State == call.Pending && row.State == call.Dispatched: // a slot was granted
			t.granted(ctx, c, row.Dispatch, row.Journal)
		}
	}
	return true, nil
}

// lookWhere looks whether the workspace was moved. While that cannot be read it is where it was, and the next sweep
// looks again. It is an error when that has lasted.
func (t *Strand) lookWhere(ctx context.Context) error {
	if err := t.lane.lookWhere(ctx); err != nil {
		t.lane.deps.Log.Warn("reading where a session's files are failed, trying again", "session_id", t.who.SessionID,
			"error", err)
		return t.fails(&t.turn.astray, err)
	}
	t.turn.astray = time.Time{}
	return nil
}

// fails notes since when something that is tried again fails. It returns an error that is no outage of the database,
// and one that says so once that has lasted although the database answers otherwise: nothing is tried for ever.
func (t *Strand) fails(since *time.Time, err error) error {
	if since.IsZero() {
		*since = time.Now()
	}
	if !lane.Outage(err) || t.lane.owner.Lasting(err, *since) {
		return err
	}
	return nil
}

// sights is what is known of executors during one sweep.
type sights map[string]fleet.Executor

func (t *Strand) sight(ctx context.Context, seen sights, id string) (e fleet.Executor, known bool, err error) {
	if e, ok := seen[id]; ok {
		return e, true, nil
	}
	e, err = t.lane.deps.Fleet.Find(ctx, id)
	switch {
	case errors.Is(err, fleet.ErrNotFound):
		e = fleet.Executor{ID: id}
	case err != nil:
		t.lane.deps.Log.Warn("looking for an executor failed, trying again", "executor_id", id, "error", err)
		return e, false, t.fails(&t.turn.unseen, err)
	}
	t.turn.unseen = time.Time{}
	if seen != nil {
		seen[id] = e
	}
	return e, true, nil
}

// situation is what is known of a call now.
func (t *Strand) situation(
	ctx context.Context, c *Call, said call.ReportBody, seen sights,
) (call.Situation, error) {
	s := call.Situation{
		Call: c.Call, Said: said, Epoch: t.lane.owner.Fence().Epoch, Complete: c.complete(), Stopped: t.since,
		Grace: t.lane.deps.DisconnectGrace, Bound: t.lane.Executor(), Now: time.Now(), Gated: c.gate != nil,
		Demands:   t.demands(c.Call),
		Connected: said != nil, Connection: c.watch.Connection, // what speaks is there
	}
	if said == nil && c.Executor != "" {
		e, known, err := t.sight(ctx, seen, c.Executor)
		if err != nil {
			return s, err
		}
		s.Unknown, s.Connected, s.Connection = !known, e.Connected(), e.ConnectionEpoch
		t.seeConnection(c, &s)
	}
	s.Watch = c.watch
	return s, nil
}

// seeConnection notes since when an executor is away, and tells watchers.
func (t *Strand) seeConnection(c *Call, s *call.Situation) {
	switch {
	case s.Unknown:
	case s.Connected:
		c.watch.Away = time.Time{}
	default:
		c.watch.Unreached = time.Time{}
		if c.watch.Away.IsZero() {
			c.watch.Away = s.Now
			switch {
			case c.State == call.Pending:
				t.waits(c, t.unplaced(s.Now, fleet.Executor{ID: c.Executor}, true))
			case !c.watch.Ended:
				t.waits(c, t.cutOff(c.Call, s.Now))
			}
		}
	}
}
