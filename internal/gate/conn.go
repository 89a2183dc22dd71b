package gate

import (
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// listener accepts connections that a gate counts.
type listener struct {
	net.Listener
	gate   *Gate
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener. It waits while there are as many connections as there may be, and while those that
// nobody has authenticated on yet are as many as there may be and new.
func (l *listener) Accept() (net.Conn, error) {
	if err := l.await(); err != nil {
		return nil, err
	}
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, gate: l.gate, source: hostOf(inner.RemoteAddr()), since: time.Now()}
	c.heard.Store(int64(uptime()))
	c.silence = time.AfterFunc(math.MaxInt64, c.checkSilence)
	c.silence.Reset(l.gate.limits.Silence) // now that checkSilence finds the timer
	for _, one := range l.gate.enter(c) {
		l.gate.log.Warn("a connection was closed to make room for others", "source", one.source)
		_ = one.Close() // a stranger's
	}
	return c, nil // closed already, perhaps: whoever serves it finds out
}

// await returns when one more connection may be accepted.
func (l *listener) await() error {
	for {
		changed, wait := l.gate.room()
		if changed == nil {
			return nil
		}
		if wait <= 0 {
			wait = math.MaxInt64
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-l.closed:
			timer.Stop()
			return net.ErrClosed
		}
		timer.Stop()
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func hostOf(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}

// conn is a connection that is counted until it is closed.
type conn struct {
	net.Conn
	gate    *Gate
	source  string
	since   time.Time    // when it was accepted
	heard   atomic.Int64 // when something came, by uptime; not kept up once it is proven
	proven  atomic.Bool
	counted bool // guarded by the gate's lock
	silence *time.Timer
	once    sync.Once
	err     error // of closing
}

// began is what silence is counted from: the host's clock may jump, and all would have been silent for hours.
var began = time.Now()

// uptime is the time since the program began, on the monotonic clock.
func uptime() time.Duration { return time.Since(began) }

// address is an end of a connection, from which the connection is found: servers hand on addresses, not connections.
type address struct {
	net.Addr
	conn *conn
}

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return address{c.Conn.RemoteAddr(), c} }

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return address{c.Conn.LocalAddr(), c} }

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.proven.Load() {
		c.heard.Store(int64(uptime()))
	}
	return n, err
}

// CloseWrite says that nothing more will be written, where the connection can: the peer then gets all that was.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.silence.Stop()
		c.err = c.Conn.Close()
		c.gate.leave(c)
	})
	return c.err
}

func (c *conn) prove() {
	if c.proven.Swap(true) {
		return
	}
	c.silence.Stop()
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	c.gate.proven(c)
}

// checkSilence closes an unproven connection that has sent nothing for too long.
func (c *conn) checkSilence() {
	if c.proven.Load() {
		return
	}
	quiet := uptime() - time.Duration(c.heard.Load())
	if quiet >= c.gate.limits.Silence {
		_ = c.Close() // a stranger's
		return
	}
	c.silence.Reset(c.gate.limits.Silence - quiet)
}
