package lane

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
)

const (
	// patience is how long what may pass is tried again, while the database answers otherwise, before it counts as a
	// trouble.
	patience = 30 * time.Second
	// maxTroubles is the first trouble of a loop in a row that is charged, as all after it are.
	maxTroubles = 5
	// maxYields is the same of lanes that are left to others: long enough for a network to come back.
	maxYields = 8
	// forgetAfter is how long a loop's last trouble is remembered: it has gone on elsewhere, or has ended.
	forgetAfter = 10 * time.Minute
	// giveUpAfter is how long handing a lane back is tried, while the database answers otherwise.
	giveUpAfter = 5 * time.Minute
)

// Outage reports whether err says that the database could not answer, rather than what it answered. Stores mark such
// errors as temporary.
func Outage(err error) bool { return errs.Temporary(err) || errors.Is(err, context.DeadlineExceeded) }

// full reports whether err says that the database's disk is full. It may write small rows nevertheless, and that is
// nobody's fault who wants to write more.
func full(err error) bool {
	e, ok := errs.Public(err)
	return ok && e.Reason() == "DATABASE_FULL"
}

// lasting reports whether an outage that began then is none of the database: it has answered all looks since. What
// nobody else suffers from is not tried for ever.
func (w *Worker) lasting(err error, since time.Time) bool {
	now := time.Now()
	return Outage(err) && !full(err) && now.Sub(since) >= patience && w.looks.even(now)
}

// Lasting reports whether an error that began then, and says that the database is away, is to be taken for an error:
// the database has answered otherwise for long.
func (o *Owner) Lasting(err error, since time.Time) bool { return o.worker.lasting(err, since) }

// troubles counts, by loop, how often in a row this process had to hand a lane back for something that may pass and
// does not. Progress of the loop ends the row. Safe for concurrent use.
type troubles struct {
	mu sync.Mutex // guards of
	of map[string]trouble
}

type trouble struct {
	times int
	last  time.Time
}

// again counts one more, and returns how many it were.
func (t *troubles) again(loopID string, now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]trouble{}
	}
	n := t.of[loopID].times + 1
	t.of[loopID] = trouble{n, now}
	return n
}

// forget ends the row of a loop.
func (t *troubles) forget(loopID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, loopID)
}

// expire forgets loops that nothing was heard of for long.
func (t *troubles) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, x := range t.of {
		if now.Sub(x.last) > forgetAfter {
			delete(t.of, id)
		}
	}
}
