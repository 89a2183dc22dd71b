package replica

import "time"

// outage is what a reaper has seen of the database. While nobody could reach it nobody could renew: a lease that ended
// then proves no death, and after an outage the others get one full TTL to come back before their lanes are taken.
type outage struct {
	seen time.Time // when the database last answered, zero for never
	hold time.Time // no reaping before
}

// answered notes that the database answered now.
func (o *outage) answered(now time.Time) {
	if o.away(now) {
		o.hold = now.Add(TTL)
	}
	o.seen = now
}

func (o *outage) away(now time.Time) bool { return !o.seen.IsZero() && now.Sub(o.seen) > TTL/2 }

// over reports whether the leases of others mean something at the time now.
func (o *outage) over(now time.Time) bool { return !o.away(now) && !now.Before(o.hold) }
