package lane

import "time"

// looks is since when this process has looked at its lanes without an outage: a head is settled from rows only after
// its owner could have ended it.
type looks struct{ since, last time.Time }

// answered takes in that the database has answered a look.
func (l *looks) answered(now time.Time) {
	if l.last.IsZero() || now.Sub(l.last) > ForceGrace {
		l.since = now
	}
	l.last = now
}

// steady reports that this process has looked for a force grace.
func (l *looks) steady(now time.Time) bool { return !l.last.IsZero() && now.Sub(l.since) >= ForceGrace }
