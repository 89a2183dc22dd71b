package replica

import "time"

// outage is what a reaper has seen of the database. While nobody could reach it nobody could renew: a lease that ended
// then proves no death, and after an outage the others get one full TTL to come back before their lanes are taken.
type outage struct {
	ever bool          // the database has answered
	seen time.Duration // when it last did
	hold time.Duration // no reaping before
}

// answered notes that the database answered now.
func (o *outage) answered(now time.Duration) {
	if o.away(now) {
		o.hold = now + TTL
	}
	o.ever, o.seen = true, now
}

func (o *outage) away(now time.Duration) bool { return o.ever && now-o.seen > TTL/2 }

// over reports whether the leases of others mean something at the time now.
func (o *outage) over(now time.Duration) bool { return !o.away(now) && now >= o.hold }
