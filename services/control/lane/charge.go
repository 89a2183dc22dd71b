package lane

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/plural"
)

const (
	// maxStalls is how many owners in a row may die with a loop, or hand it back after an error, before it is taken for
	// the cause.
	maxStalls = 3
	// stallsToEnd is after how many of them the head is settled from rows: ending it properly did not work either.
	stallsToEnd = 2 * maxStalls
	retryAfter  = time.Second // before what failed is tried again
	// retryFirst is before handing a lane back is tried again, which doubles up to maxRetry.
	retryFirst = 100 * time.Millisecond
	maxRetry   = 30 * time.Second
	// maxCause bounds what a lane's row keeps of an error, in bytes.
	maxCause = 500
)

// Exhausted reports that too many owners in a row have died or failed with a loop.
func (l *Loop) Exhausted() bool { return l.Stalls >= maxStalls }

// spent is a loop that has used up all tries, nil when none has: to end it properly did not work either, so that the
// head has to end.
func (l *Lease) spent() *Loop {
	for i := range l.Loops {
		if l.Loops[i].Stalls >= stallsToEnd {
			return &l.Loops[i]
		}
	}
	return nil
}

// Stalled is what is said of a loop that is given up.
func (l *Loop) Stalled() string { return stalled(l.Stalls, l.StallCause) }

func stalled(times int, cause string) string {
	text := fmt.Sprintf("%s in a row the control plane died or failed at this point of the work; it is given up "+
		"as the likely cause", plural.Of(times, "time"))
	if cause != "" {
		text += ". The last error: " + cause
	}
	return text
}

// charge decides what an error of a run costs: a stall of the loop that met it, with a pause that doubles from stall to
// stall. An error that may pass costs nothing if the database was away or full; else it costs a stall when it comes
// again and again. end says that the head is to be settled from rows: it was its third.
func (o *Owner) charge(cause error) (r Release, end bool) {
	l := o.Lease()
	at, loopID, cause := l.blamed(cause)
	times := at.Stalls
	if now := time.Now(); Outage(cause) {
		if full(cause) || !o.worker.looks.even(now) {
			return Release{Pause: retryAfter}, false
		}
		n := o.worker.troubles.again(loopID, now)
		if times = n - 1; n < maxTroubles {
			return Release{Pause: retryAfter << times}, false
		}
	}
	text := cause.Error()
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "") + "…"
	}
	return Release{Stalled: loopID, Cause: text, Pause: retryAfter << min(times, 5)},
		at.Root() && loopID == at.ID && at.Stalls+1 >= maxStalls || l.spent() != nil
}

// blamed is the loop that an error is charged to, and what it says. at is the root if that loop began meanwhile.
func (l *Lease) blamed(cause error) (at *Loop, loopID string, err error) {
	at = l.Root()
	var of *LoopError
	if !errors.As(cause, &of) {
		return at, at.ID, cause
	}
	for i := range l.Loops {
		if l.Loops[i].ID == of.LoopID {
			at = &l.Loops[i]
		}
	}
	return at, of.LoopID, of.Err
}
