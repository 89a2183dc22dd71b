package replica

import "time"

// outage is what a reaper has seen of the database. While nobody could reach it nobody could renew: a lease that ended
// then proves no death, and after an outage the others get one full TTL to come back before their lanes are taken.
type outage struct {
	ever bool          // the database has answered
	seen time.Duration // when it last did
	hold time.Duration // no reaping before

	open  bool          // it was asked and has not answered yet
	asked time.Duration // when, first
}

// silentAfter is how long the database may take to answer before it counts as silent.
const silentAfter = 2 * time.Second

// asks notes that the database is asked now.
func (o *outage) asks(now time.Duration) {
	if !o.open {
		o.open, o.asked = true, now
	}
}

// silent reports whether the database was asked and has not answered since.
func (o *outage) silent(now time.Duration) bool { return o.open && now-o.asked > silentAfter }

// answered notes that the database answered now.
func (o *outage) answered(now time.Duration) {
	if o.away(now) {
		o.hold = now + TTL
	}
	o.ever, o.seen, o.open = true, now, false
}

func (o *outage) away(now time.Duration) bool { return o.ever && now-o.seen > TTL/2 }

// over reports whether the leases of others mean something at the time now.
func (o *outage) over(now time.Duration) bool { return !o.away(now) && now >= o.hold }
