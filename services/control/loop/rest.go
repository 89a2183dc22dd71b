package loop

import (
	"context"
	"errors"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// errParked ends a loop whose lane rests.
var errParked = errors.New("the lane rests")

// rests is what loops know that wait for nothing but decisions.
type rests struct {
	loops   map[*loop]rested
	parking chan struct{} // closed when it is known whether the lane rests; nil while nobody tries
	parked  bool
}

// rested is the last look of a loop that rests.
type rested struct {
	mail  int64     // of the lane, before the look
	until time.Time // when something of the loop is due, zero for never
	has   bool      // something to write, soon
}

// restsNow reports whether all that is open of the turn waits for decisions, and when the first of these is due. What
// could not be looked at may have been decided.
func (l *loop) restsNow() (at rested, ok bool) {
	if l.end.stop != nil || l.turn.open == 0 || l.turn.last != nil || !l.turn.undecided.IsZero() {
		return at, false
	}
	at = rested{mail: l.looked, until: l.ends, has: l.hasPending()}
	for _, c := range l.turn.calls {
		switch {
		case c.State.Terminal():
		case c.gate != nil:
			at.until = earlier(at.until, c.gate.until)
		case c.Kind != uint8(tool.KindTask) || c.State != call.Dispatched:
			return at, false
		}
	}
	return at, true
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// rest rests the lane if no loop of it has anything to do before a decision, or the time of one, comes. The last loop
// that has nothing to do writes so for all.
func (l *loop) rest(ctx context.Context) (parked bool, err error) {
	at, ok := l.restsNow()
	if !ok {
		return false, nil
	}
	last, all := l.tree.restsWith(l, at)
	if !last {
		return false, nil
	}
	defer func() { l.tree.tried(parked) }()
	if !all.until.IsZero() && time.Until(all.until) <= 0 {
		l.mail.nudge()
		return false, nil
	}
	park := &lane.Park{Mail: all.mail, For: lane.Never}
	if !all.until.IsZero() {
		park.For = time.Until(all.until)
	}
	for _, c := range l.turn.calls {
		if !c.State.Terminal() {
			c.waits = "" // a rest is told of, each time
			l.waits(c, l.restsFor(c))
			break
		}
	}
	done, err := l.commitWith(lane.Step{}, lane.With{Park: park})
	if err == nil && !done.Parked {
		l.tree.Nudge() // mail has come: everybody looks again
	}
	return done.Parked, err
}

// restsFor is what a call waits for.
func (l *loop) restsFor(c *toolCall) event.Wait {
	w := event.Wait{Reason: waitApproval, Since: c.watch.Made, Message: "a sub-agent waits for an approval"}
	if c.gate != nil {
		w.Until = c.gate.until
		w.Message = "it waits for an approval: `control approvals show " + c.gate.ID + "`"
	}
	return w
}

// restsWith notes that a loop rests. last says that all do, and that this one is to rest the lane: tried must follow.
func (t *tree) restsWith(l *loop, at rested) (last bool, all rested) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.resting.loops == nil {
		t.resting.loops = map[*loop]rested{}
	}
	t.resting.loops[l] = at
	if len(t.resting.loops) < len(t.loops) || t.gates.Load() == 0 || t.drains || t.outcome.cut != nil {
		return false, all
	}
	all = at
	for loop, one := range t.resting.loops {
		// The end of a sub-agent may be unread of which the loop does not know yet.
		if loop.mail.unread() || loop != l && one.has {
			return false, all
		}
		all.mail, all.until = min(all.mail, one.mail), earlier(all.until, one.until)
	}
	t.resting.parking = make(chan struct{})
	return true, all
}

// tried says whether the lane rests.
func (t *tree) tried(parked bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resting.parked = parked
	close(t.resting.parking)
	t.resting.parking = nil
}

// stir notes that a loop has something to do, once nobody tries to rest the lane; true when the lane rests.
func (t *tree) stir(l *loop) (parked bool) {
	for {
		t.mu.Lock()
		trying := t.resting.parking
		if trying == nil {
			delete(t.resting.loops, l)
			parked = t.resting.parked
			t.mu.Unlock()
			return parked
		}
		t.mu.Unlock()
		<-trying
	}
}
