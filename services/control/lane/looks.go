package lane

import (
	"sync"
	"time"
)

// lookGap is how long after a look the next one is late.
const lookGap = 3 * lookEvery

// looks is since when this process has looked at its lanes without an outage: a head is settled from rows only after
// its owner could have ended it, and nobody is charged for what an outage may have caused. Safe for concurrent use.
type looks struct {
	mu          sync.Mutex // guards what follows
	since, last time.Time
	evenSince   time.Time // since when every look was answered in time
}

// answered takes in that the database has answered a look.
func (l *looks) answered(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.IsZero() || now.Sub(l.last) > ForceGrace {
		l.since = now
	}
	if l.last.IsZero() || now.Sub(l.last) > lookGap {
		l.evenSince = now
	}
	l.last = now
}

// steady reports that this process has looked for a force grace.
func (l *looks) steady(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.last.IsZero() && now.Sub(l.since) >= ForceGrace
}

// even reports that the database has answered all looks of the last while in time.
func (l *looks) even(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.last.IsZero() && now.Sub(l.last) <= lookGap && now.Sub(l.evenSince) >= patience
}
