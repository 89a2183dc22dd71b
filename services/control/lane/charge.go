package lane

import (
	"errors"
	"fmt"
	"strings"
	"time"
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
	text := fmt.Sprintf("%d times in a row the control plane died or failed at this point of the work; it is given up "+
		"as the likely cause", times)
	if cause != "" {
		text += ". The last error: " + cause
	}
	return text
}

// charge decides what an error of a run costs: nothing if the database was away; else a stall of the loop that met it,
// with a pause that doubles from stall to stall. end says that the head is to be settled from rows: it was its third.
func (o *Owner) charge(cause error) (r Release, end bool) {
	if Outage(cause) {
		return Release{Pause: retryAfter}, false
	}
	l := o.Lease()
	at := l.Root()
	var of *LoopError
	if errors.As(cause, &of) {
		for i := range l.Loops {
			if l.Loops[i].ID == of.LoopID {
				at = &l.Loops[i]
			}
		}
		cause = of.Err
	}
	text := cause.Error()
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "") + "…"
	}
	loopID := at.ID
	if of != nil {
		loopID = of.LoopID // of a child that began meanwhile
	}
	return Release{Stalled: loopID, Cause: text, Pause: retryAfter << min(at.Stalls, 5)},
		at.Root() && loopID == at.ID && at.Stalls+1 >= maxStalls || l.spent() != nil
}
