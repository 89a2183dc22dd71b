// Package gate bounds the connections of listeners, so that strangers cannot take the descriptors that the process
// needs for its work.
//
//	Accept ─▶ unproven ──Prove──▶ proven ─▶ closed
//	             └─ silent for too long, or one too many: closed
//
// A connection is unproven until somebody has authenticated on it. Invariants: unproven connections are few; when there
// is one too many, one of the source address that has most of them is closed, the one that has been silent for longest;
// none is closed for another before it had time to authenticate: meanwhile no more are accepted, and a burst of
// connections waits in the kernel's queue; when all connections that there may be are proven, no more are accepted
// until one ends.
package gate

import (
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// Limits are how many connections a Gate lets be open.
type Limits struct {
	Total    int // open ones
	OfSource int // of one source address
	Unproven int // unproven ones
	// Patience is how long an unproven one is kept, at least, before it is closed for another.
	Patience time.Duration
	// Silence is how long an unproven one may send nothing.
	Silence time.Duration
}

const (
	// maxTotal bounds connections where descriptors do not: each also takes memory.
	maxTotal = 1 << 16
	// maxUnproven bounds those that nobody has authenticated on. Authentication takes milliseconds.
	maxUnproven = 1024
	silence     = 30 * time.Second
	// patience is short, because strangers can make everybody wait for so long: 10,000 of them are accepted in a
	// second.
	patience = 100 * time.Millisecond
)

// OfDescriptors are limits that leave half of the process's descriptors to its work.
func OfDescriptors() (Limits, error) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return Limits{}, err
	}
	return limitsOf(files.Cur), nil
}

func limitsOf(descriptors uint64) Limits {
	l := Limits{Total: int(min(maxTotal, max(descriptors/2, 8))), Patience: patience, Silence: silence}
	l.OfSource = l.Total - l.Total/8
	l.Unproven = min(maxUnproven, l.Total/4)
	return l
}

// Gate counts the connections of its listeners. Its methods may be called concurrently.
type Gate struct {
	limits Limits
	log    *slog.Logger

	mu       sync.Mutex // guards what follows
	total    int
	sources  map[string]*source
	unproven map[*conn]struct{}
	changed  chan struct{} // closed and made anew when a connection has ended or is proven
}

// source is what is open from one address.
type source struct{ open, unproven int }

// New makes a Gate. It logs each connection that it closes to make room.
func New(l Limits, log *slog.Logger) *Gate {
	return &Gate{
		limits: l, log: log, sources: map[string]*source{}, unproven: map[*conn]struct{}{},
		changed: make(chan struct{}),
	}
}

// Listen makes a listener's connections ones that the gate counts. TLS goes around the result, not into it.
func (g *Gate) Listen(l net.Listener) net.Listener {
	return &listener{Listener: l, gate: g, closed: make(chan struct{})}
}

// Prove notes that somebody has authenticated on a connection. addr is what the connection's RemoteAddr or LocalAddr
// has returned; of connections that no gate counts it may be too.
func Prove(addr net.Addr) {
	if a, ok := addr.(address); ok {
		a.conn.prove()
	}
}

// enter counts a connection and returns those that have to be closed for it, itself perhaps.
func (g *Gate) enter(c *conn) (victims []*conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sources[c.source]
	if s == nil {
		s = &source{}
		g.sources[c.source] = s
	}
	g.total++
	s.open++
	s.unproven++
	c.counted = true
	g.unproven[c] = struct{}{}
	if s.open > g.limits.OfSource {
		victims = append(victims, g.evict(c.source, c))
	}
	if len(g.unproven) > g.limits.Unproven || g.total > g.limits.Total {
		victims = append(victims, g.evict(g.largest(c), c))
	}
	return victims
}

// largest is the source that has most unproven connections beside c, that of c when there are no others.
func (g *Gate) largest(c *conn) string {
	most, n := c.source, 0
	for one := range g.unproven {
		if u := g.sources[one.source].unproven; one != c && u > n {
			most, n = one.source, u
		}
	}
	return most
}

// evict takes out the source's unproven connection that has been silent for longest; c when it has no other.
func (g *Gate) evict(source string, c *conn) *conn {
	victim := g.silent(source, c)
	if victim == nil {
		victim = c
	}
	g.uncount(victim)
	return victim
}

// silent is the source's unproven connection that has been silent for longest, c apart, nil when there is none.
func (g *Gate) silent(source string, c *conn) (victim *conn) {
	for one := range g.unproven {
		if one != c && one.source == source && (victim == nil || one.heard.Load() < victim.heard.Load()) {
			victim = one
		}
	}
	return victim
}

// uncount takes a connection out, once. The caller holds the lock.
func (g *Gate) uncount(c *conn) {
	if !c.counted {
		return
	}
	g.proven(c)
	c.counted = false
	g.total--
	if s := g.sources[c.source]; s.open > 1 {
		s.open--
	} else {
		delete(g.sources, c.source)
	}
	g.change()
}

// change wakes those who wait for room. The caller holds the lock.
func (g *Gate) change() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// proven takes a connection out of the unproven ones. The caller holds the lock.
func (g *Gate) proven(c *conn) {
	if _, ok := g.unproven[c]; ok {
		delete(g.unproven, c)
		g.sources[c.source].unproven--
		g.change()
	}
}

func (g *Gate) leave(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uncount(c)
}

// room reports what has to be waited for before one more connection is accepted: nothing when changed is nil, else that
// changed is closed or that the time has passed, which is for ever when it is 0.
func (g *Gate) room() (changed <-chan struct{}, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	full := g.total >= g.limits.Total
	switch {
	case !full && len(g.unproven) < g.limits.Unproven:
		return nil, 0
	case len(g.unproven) == 0:
		return g.changed, 0
	}
	victim := g.silent(g.largest(nobody), nobody)
	if wait = g.limits.Patience - time.Since(victim.since); wait > 0 {
		return g.changed, wait
	}
	return nil, 0
}

// nobody is a connection that is not there.
var nobody = &conn{}
