package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/replica"
)

const (
	// clockTolerance is how far the server's clock may run apart from this process's between two looks.
	clockTolerance = time.Second
	// vouchedFor is for how long the word of another replica is good. Those that live give it with every renewal of
	// their lease, every 4 s. It is shorter than what is left of any lease that is renewed.
	vouchedFor = 6 * time.Second
)

// clock is the platform's clock: what deadlines, pauses and leases are written and compared with. It is the server's
// clock without its jumps. The row of the table clock holds how far the two are apart. Each replica takes the time from
// there and counts it on its monotonic clock, so that no statement asks the server for the time. A replica that has
// counted and finds that the server's clock has jumped moves the row by the jump. One that has just started follows the
// row, if another replica has vouched for it just now.
//
// When all replicas died and one starts, nobody can tell the time for which none lived from a jump. The platform's
// clock then goes on with the server's, and never back. Until it is known that none lives (see sure), nobody
// counts as dead.
type clock struct {
	elapsed func() time.Duration // of this process, monotonic

	mu   sync.Mutex    // guards what follows
	at   time.Time     // the platform's time at here
	here time.Duration // zero at is that nobody has looked
	sure bool          // at is what this or another replica has counted
	// While not sure: when it was found what has been vouched for, and that.
	since time.Duration
	found time.Time
}

// look is what a transaction has found, between asked and now.
type look struct {
	server     time.Time
	ahead      time.Duration // the platform's clock is ahead of the server's by this
	seen       time.Time     // the platform's time when somebody vouched for it last
	leases     bool          // a replica may live that holds a lease: it has not ended it
	asked, now time.Duration
}

// verdict is what a look says about the row. It stays as it is unless this process may vouch for it.
type verdict struct {
	vouches bool
	ahead   time.Duration
	seen    time.Time
	jump    time.Duration // of the server's clock
}

// now is the platform's time.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time(c.elapsed()).Truncate(time.Microsecond)
}

// time is the platform's time. mu is held.
func (c *clock) time(here time.Duration) time.Time { return c.at.Add(here - c.here) }

// certain reports that the clock goes on with what replicas that lived have counted. Otherwise all leases may have
// expired by it, those of the living too.
func (c *clock) certain() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sure
}

// agrees takes in a look that confirms the time, and is false when the row has to be judged under its lock.
func (c *clock) agrees(l look) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sure || !c.near(l) {
		return false
	}
	c.follow(l)
	return true
}

// near reports whether the row and this process agree. mu is held.
func (c *clock) near(l look) bool {
	off := l.server.Add(l.ahead).Sub(c.time(l.now))
	return off <= clockTolerance && off+l.now-l.asked >= -clockTolerance
}

// follow moves the time no further than the row proves. mu is held.
func (c *clock) follow(l look) {
	t, least := c.time(l.now), l.server.Add(l.ahead)
	if most := least.Add(l.now - l.asked); t.After(most) {
		t = most
	}
	if t.Before(least) {
		t = least
	}
	c.at, c.here = t, l.now
}

// judge takes in a look under the row's lock.
func (c *clock) judge(l look) (v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := l.server.Add(l.ahead)
	age := said.Sub(l.seen)
	others := age >= -clockTolerance && age <= vouchedFor
	switch {
	case c.sure && c.near(l):
		c.follow(l)
	case others:
		c.at, c.here, c.sure = said, l.now, true
	case c.sure:
		v.jump = said.Sub(c.time(l.now))
		c.at, c.here = latest(c.time(l.now), l.seen), l.now
	case !l.leases: // nobody lives
		c.at, c.here, c.sure = latest(l.server, l.seen), l.now, true
	case c.at.IsZero(), !l.seen.Equal(c.found): // somebody lives, and will vouch again
		c.at, c.here, c.since, c.found = latest(said, l.seen), l.now, l.now, l.seen
		return v
	case l.now-c.since < replica.TTL:
		return v
	default: // who lived has renewed its lease meanwhile, or has given itself up
		c.at, c.here, c.sure = c.time(l.now), l.now, true
	}
	v.vouches, v.ahead, v.seen = true, l.ahead, latest(c.at, l.seen)
	if !c.near(l) { // else the row would creep on by what a look takes
		v.ahead = c.at.Sub(l.server)
	}
	return v
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// clockSQL is what a look sees of the row k.
const clockSQL = `clock_timestamp(), k.ahead_us, k.seen`

const (
	lockClockSQL = `SELECT 1 FROM clock FOR NO KEY UPDATE`
	lookClockSQL = `SELECT ` + clockSQL + `, EXISTS (SELECT 1 FROM replicas r WHERE r.expires > k.seen) FROM clock k`
	setClockSQL  = `UPDATE clock SET ahead_us = $1, seen = $2`
)

// now is the platform's time.
func (s *Store) now() time.Time { return s.clock.now() }

// server is a time on the server's clock as tests want it.
func (s *Store) server(t time.Time) time.Time {
	return t.Add(s.opts.ClockOffset() + s.opts.ServerOffset())
}

// tellTime compares the server's clock with this process's, and vouches for the time if it may.
func (s *Store) tellTime(ctx context.Context) error {
	return s.retry(ctx, func(ctx context.Context, _ bool) error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, lockClockSQL); err != nil {
				return err
			}
			var l look
			var ahead int64
			l.asked = s.clock.elapsed()
			if err := tx.QueryRow(ctx, lookClockSQL).Scan(&l.server, &ahead, &l.seen, &l.leases); err != nil {
				return err
			}
			l.now, l.server, l.ahead = s.clock.elapsed(), s.server(l.server), time.Duration(ahead)*time.Microsecond
			v := s.clock.judge(l)
			if v.jump != 0 {
				s.opts.Log.WarnContext(ctx, "the database's clock has jumped, the platform's goes on", "by", v.jump)
			}
			if !v.vouches {
				return nil
			}
			_, err := tx.Exec(ctx, setClockSQL, micros(v.ahead), v.seen)
			return err
		})
	})
}

// RegisterReplica implements replica.Store.
func (s *Store) RegisterReplica(
	ctx context.Context, r replica.Replica, ttl time.Duration,
) (predecessors []string, err error) {
	if err := s.tellTime(ctx); err != nil {
		return nil, wrap("register replica", err)
	}
	return s.Tables.RegisterReplica(ctx, r, ttl)
}

// RenewReplica implements replica.Store. The time comes first: who starts and sees nobody vouch for it while a lease
// would have been renewed knows that the lease is over.
func (s *Store) RenewReplica(ctx context.Context, id string, ttl time.Duration) (bool, error) {
	if err := s.tellTime(ctx); err != nil {
		return false, wrap("renew replica", err)
	}
	return s.Tables.RenewReplica(ctx, id, ttl)
}

// RemoveReplica implements replica.Store. The time comes last: no lease that is over by then may be a living one's.
func (s *Store) RemoveReplica(ctx context.Context, id string) error {
	if err := s.Tables.RemoveReplica(ctx, id); err != nil {
		return err
	}
	return wrap("remove replica", s.tellTime(ctx))
}
