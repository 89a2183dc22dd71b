package lane

import "time"

// clockTolerance is how far the database's clock may run apart from this process's between two looks.
const clockTolerance = time.Second

// clock watches the database's clock for jumps, as at a failover: what is settled by it because its time has passed
// must have had that time.
type clock struct {
	db, here time.Time // of the last look
	trusted  time.Time // not before
}

// see takes in the database's time, which was read between asked and now. It reports a jump. Nobody knows what the
// clock did before the first look, or during an outage that was longer than the force grace: nor could anybody end a
// head.
func (c *clock) see(db, asked, now time.Time) (jump time.Duration) {
	if c.db.IsZero() || now.Sub(c.here) > ForceGrace {
		c.trusted = now.Add(ForceGrace)
	}
	if !c.db.IsZero() {
		drift := db.Sub(c.db) - now.Sub(c.here)
		if slack := clockTolerance + now.Sub(asked); drift > slack || drift < -slack {
			jump, c.trusted = drift, now.Add(ForceGrace)
		}
	}
	c.db, c.here = db, now
	return jump
}

// steady reports that the clock was watched for a force grace, and has not jumped.
func (c *clock) steady(now time.Time) bool { return !c.db.IsZero() && !now.Before(c.trusted) }
