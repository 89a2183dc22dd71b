package loop

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

// look is why a loop looks at its calls.
type look uint8

const (
	firstLook   look = iota // it has just begun to wait for them
	nudgedLook              // something outside has changed
	routineLook             // it is time to
)

// await handles what is told of the turn's calls until all have ended, or the loop is stopped or handed over.
func (l *loop) await(ctx context.Context) error {
	timer := time.NewTimer(sweepEvery)
	defer timer.Stop()
	sweep, look := time.Now(), firstLook // at once: what this owner has not sent itself is asked for
	stopping := l.end.stop != nil
	for {
		if now := time.Now(); !now.Before(sweep) {
			if err := l.sweep(ctx, look); err != nil {
				return err
			}
			sweep, look = now.Add(l.pace()), routineLook
		}
		if l.turn.open == 0 || l.leaving() && !l.runsFunctions() {
			return nil
		}
		if parked, err := l.rest(ctx); err != nil {
			return err
		} else if parked {
			return errParked
		}
		wait := time.Until(sweep)
		if due, ok := l.flushDue(); ok {
			wait = min(wait, due)
		}
		timer.Reset(max(wait, 0))
		leave := l.tree.head.leave
		if l.leaving() {
			leave = l.tree.head.cut
		}
		nudged, err := l.hear(ctx, timer, leave)
		if err != nil {
			return err
		}
		if nudged {
			sweep, look = time.Now(), nudgedLook
		}
		if closed(l.tree.head.cut) && l.leaving() {
			return nil
		}
		if l.checkStop(); l.end.stop != nil && !stopping {
			return nil
		}
	}
}

// hear waits until there is something for the loop to do, and does what needs no look at the calls. nudged says that
// they are to be looked at.
func (l *loop) hear(ctx context.Context, timer *time.Timer, leave <-chan struct{}) (nudged bool, err error) {
	due, mail := false, false
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-leave:
	case <-l.over():
	case <-l.above():
	case <-l.timeout():
		l.timedOut()
	case <-timer.C:
		due = true
	case <-l.mail.ready:
		mail = true
	}
	if l.tree.stir(l) {
		return false, errParked
	}
	if mail {
		return l.readMail(ctx)
	}
	if in, ok := l.flushDue(); due && ok && in <= 0 {
		err = l.flush()
	}
	return false, err
}

// pace is when to look at the calls again.
func (l *loop) pace() time.Duration {
	if l.end.stop != nil || l.row.Stalls > 0 || !l.turn.undecided.IsZero() {
		return sweepSoon
	}
	pace := sweepEvery
	for _, c := range l.turn.calls {
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
func (l *loop) runsFunctions() bool {
	for _, c := range l.turn.calls {
		if c.cancel != nil && !c.State.Terminal() && c.Safety == tool.AtMostOnce {
			return true
		}
	}
	return false
}

func (l *loop) readMail(ctx context.Context) (nudged bool, err error) {
	reports, own, nudged := l.mail.take()
	for id, p := range l.mail.takeProgress() {
		l.showProgress(id, p)
	}
	for _, e := range own {
		if c := l.turn.byID[e.callID]; c != nil && !c.State.Terminal() {
			if err := l.tookOwn(ctx, c, e); err != nil {
				return nudged, err
			}
		}
	}
	for _, rep := range reports {
		c := l.turn.byID[rep.CallID]
		if c == nil || c.State.Terminal() || c.Executor != rep.Executor {
			l.missed(rep)
			continue
		}
		c.watch.Heard = time.Now()
		switch body := rep.Body.(type) {
		case call.Output:
			err = l.tookOutput(ctx, c, body)
		case call.Progress:
			l.showProgress(rep.CallID, tool.Progress(body))
		case call.Slot:
			if c.State == call.Pending {
				l.granted(ctx, c, body.Dispatch, body.Journal)
			}
		default:
			err = l.decide(ctx, c, rep.Body, nil)
		}
		if err != nil {
			return nudged, err
		}
	}
	return nudged, nil
}

// missed asks again for a result that was posted when nobody waited for it any more: the connection, which may have to
// record it, has left it to this loop.
func (l *loop) missed(rep call.Report) {
	if _, ok := rep.Body.(call.Ended); ok {
		f := l.tree.owner.Fence()
		l.send(rep.Executor, &call.Attach{CallID: rep.CallID, LaneID: f.LaneID, Epoch: f.Epoch})
	}
}

// sweep looks at every open call: whether its row was completed elsewhere, whether its executor is there, whether it
// waits for one.
func (l *loop) sweep(ctx context.Context, why look) error {
	l.looked = l.tree.owner.Mail() // before the look at what it may be about
	if err := l.lookAtGates(ctx); err != nil {
		return err
	}
	if l.recordedElsewhere(why) {
		if _, err := l.reload(ctx); err != nil {
			return err
		}
	}
	if err := l.lookWhere(ctx); err != nil {
		return err
	}
	l.turn.roughly = why == routineLook
	defer func() { l.turn.roughly = false }()
	seen := sights{}
	for _, c := range l.turn.calls {
		if c.State.Terminal() {
			continue
		}
		if l.moved(c) {
			if err := l.place(ctx, c); err != nil {
				return err
			}
			continue
		}
		if err := l.decide(ctx, c, nil, seen); err != nil {
			return err
		}
	}
	return l.survive()
}

// survive clears the stalls once this owner has lived beside a running call for a moment: what killed those before it
// was something else, and a long command is not to be given up for deaths that have nothing to do with it. What kills
// an owner by what it says does so at once. The empty piece of output tells watchers that it runs on.
func (l *loop) survive() error {
	if l.row.Stalls == 0 || l.end.stop != nil {
		return nil
	}
	for _, c := range l.turn.calls {
		w := &c.watch
		if c.State.Terminal() || w.Ended || w.Running.IsZero() || time.Since(w.Running) < survival {
			continue
		}
		l.push(l.outputOf(c.ID, event.Output{Offset: c.output.end(0)}))
		return l.commit(lane.Step{Progress: &lane.Progress{
			Phase: l.row.Phase, Turn: l.row.Turn, Usage: l.row.Usage,
		}}, lane.With{})
	}
	return nil
}

// recordedElsewhere reports whether an outcome, or the grant of a slot, may have been recorded by others than this
// loop: by another replica, or by this one before the loop waited for the call. Of these calls nobody knows more than
// the loop does: of one that has no executor, at the first look of one that the loop has just sent, and of one whose
// executor has been connected to this replica since the loop last spoke of it. Rows that many wait for are read for
// nothing otherwise.
func (l *loop) recordedElsewhere(why look) bool {
	for _, c := range l.turn.calls {
		if c.State.Terminal() || c.Kind != uint8(tool.KindExecutor) || c.Executor == "" {
			continue
		}
		if c.watch.Connection == 0 {
			return true
		}
		here, ok := l.tree.deps.Fleet.Local(c.Executor)
		ours := ok && here.ConnectionEpoch == c.watch.Connection && c.State == call.Dispatched
		if why != firstLook && !ours {
			return true
		}
	}
	return false
}

// reload takes over what was recorded elsewhere. read is false when the rows cannot be read now: nothing may be
// concluded from them then, and the next sweep asks executors and rows again. It is an error when that has lasted.
func (l *loop) reload(ctx context.Context) (read bool, err error) {
	rows, err := l.tree.deps.Store.TurnCalls(ctx, l.row.ID, l.row.Turn)
	if err != nil {
		l.tree.deps.Log.Warn("reading calls failed, trying again", "session_id", l.row.SessionID, "error", err)
		for _, c := range l.turn.calls {
			c.watch.Connection = 0
		}
		return false, l.fails(&l.turn.unread, err)
	}
	l.turn.unread = time.Time{}
	for _, row := range rows {
		c := l.turn.byID[row.ID]
		switch {
		case c == nil || c.State.Terminal():
		case c.Kind == uint8(tool.KindTask): // its loop tells what it came to, and has told watchers
		case row.State.Terminal():
			if err := l.take(ctx, c, l.reply(row), &row); err != nil {
				return false, err
			}
		case c.State == call.Pending && row.State == call.Dispatched: // a slot was granted
			l.granted(ctx, c, row.Dispatch, row.Journal)
		}
	}
	return true, nil
}

// lookWhere looks whether the workspace was moved. While that cannot be read it is where it was, and the next sweep
// looks again. It is an error when that has lasted.
func (l *loop) lookWhere(ctx context.Context) error {
	if err := l.tree.lookWhere(ctx); err != nil {
		l.tree.deps.Log.Warn("reading where a session's files are failed, trying again", "session_id", l.row.SessionID,
			"error", err)
		return l.fails(&l.turn.astray, err)
	}
	l.turn.astray = time.Time{}
	return nil
}

// fails notes since when something that is tried again fails. It returns an error that is no outage of the database,
// and one that says so once that has lasted although the database answers otherwise: nothing is tried for ever.
func (l *loop) fails(since *time.Time, err error) error {
	if since.IsZero() {
		*since = time.Now()
	}
	if !lane.Outage(err) || l.tree.owner.Lasting(err, *since) {
		return err
	}
	return nil
}

// sights is what is known of executors during one sweep.
type sights map[string]fleet.Executor

func (l *loop) sight(ctx context.Context, seen sights, id string) (e fleet.Executor, known bool, err error) {
	if e, ok := seen[id]; ok {
		return e, true, nil
	}
	e, err = l.tree.deps.Fleet.Find(ctx, id)
	switch {
	case errors.Is(err, fleet.ErrNotFound):
		e = fleet.Executor{ID: id}
	case err != nil:
		l.tree.deps.Log.Warn("looking for an executor failed, trying again", "executor_id", id, "error", err)
		return e, false, l.fails(&l.turn.unseen, err)
	}
	l.turn.unseen = time.Time{}
	if seen != nil {
		seen[id] = e
	}
	return e, true, nil
}

// situation is what is known of a call now.
func (l *loop) situation(
	ctx context.Context, c *toolCall, said call.ReportBody, seen sights,
) (call.Situation, error) {
	s := call.Situation{
		Call: c.Call, Said: said, Epoch: l.tree.owner.Fence().Epoch, Complete: c.complete(), Stopped: l.end.since,
		Grace: l.tree.deps.DisconnectGrace, Bound: l.tree.bound(), Now: time.Now(), Gated: c.gate != nil,
		Demands:   l.demands(c.Call),
		Connected: said != nil, Connection: c.watch.Connection, // what speaks is there
	}
	if said == nil && c.Executor != "" {
		e, known, err := l.sight(ctx, seen, c.Executor)
		if err != nil {
			return s, err
		}
		s.Unknown, s.Connected, s.Connection = !known, e.Connected(), e.ConnectionEpoch
		l.seeConnection(c, &s)
	}
	s.Watch = c.watch
	return s, nil
}

// seeConnection notes since when an executor is away, and tells watchers.
func (l *loop) seeConnection(c *toolCall, s *call.Situation) {
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
				l.waits(c, l.unplaced(s.Now, fleet.Executor{ID: c.Executor}, true))
			case !c.watch.Ended:
				l.waits(c, l.cutOff(c.Call, s.Now))
			}
		}
	}
}
