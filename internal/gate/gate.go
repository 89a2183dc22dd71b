// Package gate bounds the connections of listeners, so that strangers cannot take the descriptors that the process
// needs for its work.
//
//	Accept ─▶ unproven ──Prove──▶ proven ─▶ closed
//	             └─ silent for too long, or one too many: closed
//
// A connection is unproven until somebody has authenticated on it. Invariants: unproven connections are few, in all and
// per source address; when there is one too many, the one that has been silent for longest is closed, of the same
// source if that has too many; when all connections that there may be are proven, no more are accepted until one ends.
package gate

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// Limits are how many connections a Gate lets be open.
type Limits struct {
	Total    int // open ones
	OfSource int // of one source address
	// Unproven is how many of them may be unproven, UnprovenOfSource how many of one source address.
	Unproven         int
	UnprovenOfSource int
	// Silence is how long an unproven one may send nothing.
	Silence time.Duration
}

const (
	// maxTotal bounds connections where descriptors do not: each also takes memory.
	maxTotal = 1 << 16
	// maxUnproven bounds those that nobody has authenticated on. Authentication takes milliseconds.
	maxUnproven = 1024
	silence     = 30 * time.Second
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
	l := Limits{Total: int(min(maxTotal, max(descriptors/2, 8))), Silence: silence}
	l.OfSource = l.Total - l.Total/8
	l.Unproven = min(maxUnproven, l.Total/4)
	l.UnprovenOfSource = max(1, l.Unproven/4)
	return l
}

// Gate counts the connections of its listeners. Its methods may be called concurrently.
type Gate struct {
	limits Limits

	mu       sync.Mutex // guards what follows
	total    int
	sources  map[string]*source
	unproven map[*conn]struct{}
	freed    chan struct{} // closed and made anew when a connection has ended
}

// source is what is open from one address.
type source struct{ open, unproven int }

// New makes a Gate.
func New(l Limits) *Gate {
	return &Gate{limits: l, sources: map[string]*source{}, unproven: map[*conn]struct{}{}, freed: make(chan struct{})}
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
	if s.unproven > g.limits.UnprovenOfSource || s.open > g.limits.OfSource {
		victims = append(victims, g.evict(c.source, c))
	}
	if len(g.unproven) > g.limits.Unproven || g.total > g.limits.Total {
		victims = append(victims, g.evict("", c))
	}
	return victims
}

// evict takes out the unproven connection that has been silent for longest, of a source unless that is empty; c when
// there is no other.
func (g *Gate) evict(source string, c *conn) *conn {
	victim := c
	for one := range g.unproven {
		if one == c || source != "" && one.source != source {
			continue
		}
		if victim == c || one.heard.Load() < victim.heard.Load() {
			victim = one
		}
	}
	g.uncount(victim)
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
	close(g.freed)
	g.freed = make(chan struct{})
}

// proven takes a connection out of the unproven ones. The caller holds the lock.
func (g *Gate) proven(c *conn) {
	if _, ok := g.unproven[c]; ok {
		delete(g.unproven, c)
		g.sources[c.source].unproven--
	}
}

func (g *Gate) leave(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uncount(c)
}

// full returns a channel that is closed when a connection has ended, nil when there is room for one more or an unproven
// one to close for it.
func (g *Gate) full() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total < g.limits.Total || len(g.unproven) > 0 {
		return nil
	}
	return g.freed
}
