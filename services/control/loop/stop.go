package loop

import (
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// checkStop turns an abort, a passed deadline, or the end of the loop that this one works for into a stop.
func (l *loop) checkStop() {
	switch {
	case l.end.stop != nil:
	case l.TimedOut():
		l.timedOut()
	case l.over() && l.tree.Owner().Why() == lane.Abort:
		l.halt(*abortStop())
	case l.over():
		l.halt(*l.headDeadline())
	case l.parent != nil && turn.Closed(l.parent.end.said):
		l.halt(*l.parent.end.stop)
	case l.guest != nil && turn.Closed(l.guest.Above):
		l.halt(l.guest.Stop())
	}
}

// over reports whether the loop has to end because the head has to.
func (l *loop) over() bool { return !l.late && turn.Closed(l.tree.Over()) }

// halt makes the loop end, for the first reason that is given.
func (l *loop) halt(s Stop) {
	if l.end.stop == nil {
		l.end.stop = &s
		l.Stop()
		close(l.end.said)
	}
}

// fromAbove reports whether whoever the loop works for ends, too.
func (l *loop) fromAbove() bool {
	switch {
	case l.parent == nil && l.guest == nil:
		return false
	case l.over():
		return true
	case l.parent != nil:
		return turn.Closed(l.parent.end.said)
	}
	return turn.Closed(l.guest.Above)
}

// headDeadline is why the head's time is over.
func (l *loop) headDeadline() *Stop {
	head := l.tree.Head()
	if head.Kind == lane.KindRun {
		return deadlineStop(ofRun, head.Root().Timeout)
	}
	return deadlineStop(ofAgent, head.Root().Timeout)
}

func (l *loop) timedOut() { l.halt(*deadlineStop(ofAgent, l.as.def.Limits.Timeout)) }
