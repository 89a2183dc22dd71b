package turn

import (
	"errors"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// ErrParked ends the work of a strand whose lane rests.
var ErrParked = errors.New("the lane rests")

// rests is what strands know that wait for nothing but decisions.
type rests struct {
	strands map[*Strand]rested
	parking chan struct{} // closed when it is known whether the lane rests; nil while nobody tries
	parked  bool
}

// rested is the last look of a strand that rests.
type rested struct {
	mail  int64     // of the lane, before the look
	until time.Time // when something of the strand is due, zero for never
	has   bool      // something to write, soon
}

// restsNow reports whether all that is open of the turn waits for decisions, and when the first of these is due. What
// could not be looked at may have been decided.
func (t *Strand) restsNow() (at rested, ok bool) {
	if t.Stopped() || t.turn.open == 0 || t.turn.last != nil || !t.turn.undecided.IsZero() {
		return at, false
	}
	at = rested{mail: t.looked, until: t.ends, has: t.hasPending()}
	for _, c := range t.turn.calls {
		switch {
		case c.State.Terminal():
		case c.gate != nil:
			at.until = earlier(at.until, c.gate.until)
		case c.Kind != uint8(tool.KindTask): // one that has not begun waits for others of the lane
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

// rest rests the lane if no strand of it has anything to do before a decision, or the time of one, comes. The last
// strand that has nothing to do writes so for all.
func (t *Strand) rest() (parked bool, err error) {
	at, ok := t.restsNow()
	if !ok {
		return false, nil
	}
	return t.restWith(at, func() {
		for _, c := range t.turn.calls {
			if !c.State.Terminal() {
				c.waits = "" // a rest is told of, each time
				t.waits(c, t.restsFor(c))
				break
			}
		}
	})
}

// restWith rests the lane if all strands of it rest. tell pushes what watchers are told then.
func (t *Strand) restWith(at rested, tell func()) (parked bool, err error) {
	last, all := t.lane.restsWith(t, at)
	if !last {
		return false, nil
	}
	defer func() { t.lane.tried(parked) }()
	if !all.until.IsZero() && time.Until(all.until) <= 0 {
		t.mail.nudge()
		return false, nil
	}
	park := &lane.Park{Mail: all.mail, For: lane.Never}
	if !all.until.IsZero() {
		park.For = time.Until(all.until)
	}
	tell()
	done, err := t.commitWith(lane.Step{}, lane.With{Park: park})
	if err == nil && !done.Parked {
		t.lane.Nudge() // mail has come: everybody looks again
	}
	return done.Parked, err
}

// restsFor is what a call waits for.
func (t *Strand) restsFor(c *Call) event.Wait {
	w := event.Wait{Reason: waitApproval, Since: c.watch.Made, Message: "a sub-agent waits for an approval"}
	if c.gate != nil {
		w.Until = c.gate.until
		w.Message = "it waits for an approval: `control approvals show " + c.gate.ID + "`"
	}
	return w
}

// restsWith notes that a strand rests. last says that all do, and that this one is to rest the lane: tried must follow.
func (l *Lane) restsWith(t *Strand, at rested) (last bool, all rested) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.resting.strands == nil {
		l.resting.strands = map[*Strand]rested{}
	}
	l.resting.strands[t] = at
	if len(l.resting.strands) < len(l.strands) || l.gates.Load() == 0 || l.drains || l.outcome.cut != nil ||
		Closed(l.head.over) { // a lane that has to end does not rest
		return false, all
	}
	all = at
	for other, one := range l.resting.strands {
		// The end of a sub-agent may be unread of which the strand does not know yet.
		if other.mail.unread() || other != t && one.has {
			return false, all
		}
		all.mail, all.until = min(all.mail, one.mail), earlier(all.until, one.until)
	}
	l.resting.parking = make(chan struct{})
	return true, all
}

// tried says whether the lane rests.
func (l *Lane) tried(parked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.resting.parked = parked
	close(l.resting.parking)
	l.resting.parking = nil
}

// stir notes that a strand has something to do, once nobody tries to rest the lane; true when the lane rests.
func (l *Lane) stir(t *Strand) (parked bool) {
	for {
		l.mu.Lock()
		trying := l.resting.parking
		if trying == nil {
			delete(l.resting.strands, t)
			parked = l.resting.parked
			l.mu.Unlock()
			return parked
		}
		l.mu.Unlock()
		<-trying
	}
}
