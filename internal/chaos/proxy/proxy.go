// Package proxy is a TCP proxy that breaks connections on purpose: it cuts them, lets them go silent in one direction
// or both, and delays what passes. It knows bytes and no protocol: a message that is sent twice comes of an answer that
// is held back and cut.
package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Mode is what happens to the bytes of all connections.
type Mode struct {
	HoldUp   bool          // from the dialler: accepted, not passed on
	HoldDown bool          // to the dialler
	Delay    time.Duration // of each piece
	Refuse   bool          // new connections are closed at once
}

// Dial makes the far half of a connection.
type Dial func(ctx context.Context) (net.Conn, error)

// To dials an address.
func To(addr string) Dial {
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) }
}

// Proxy is one listener.
type Proxy struct {
	listener net.Listener
	dial     Dial
	ctx      context.Context
	cancel   context.CancelFunc
	wait     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	mode    Mode
	changed chan struct{} // closed by the next Set
	pairs   map[*pair]struct{}
}

// pair is one connection through the proxy.
type pair struct {
	near, far net.Conn
	cut       chan struct{}
	once      sync.Once
}

// Listen opens a proxy on a free port of this host.
func Listen(dial Dial) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{
		listener: l, dial: dial, ctx: ctx, cancel: cancel, changed: make(chan struct{}),
		pairs: map[*pair]struct{}{},
	}
	p.wait.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close ends the proxy with all its connections.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.listener.Close() // nothing is left to lose
	p.Cut()
	p.wait.Wait()
}

// Set changes the mode, for open connections too. What was held back passes when it may.
func (p *Proxy) Set(m Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	close(p.changed)
	p.changed = make(chan struct{})
}

// Cut ends the open connections, both halves at once and without a farewell; what was held back is lost. It returns how
// many.
func (p *Proxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		c.end()
	}
	return len(p.pairs)
}

func (c *pair) end() {
	c.once.Do(func() {
		close(c.cut)
		for _, half := range []net.Conn{c.near, c.far} {
			if tcp, ok := half.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // a reset, not an orderly end
			}
			_ = half.Close()
		}
	})
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wait.Go(func() { p.serve(near) })
	}
}

func (p *Proxy) serve(near net.Conn) {
	p.mu.Lock()
	refuse := p.mode.Refuse
	p.mu.Unlock()
	if refuse {
		_ = near.Close()
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	far, err := p.dial(ctx)
	cancel()
	if err != nil {
		_ = near.Close()
		return
	}
	c := &pair{near: near, far: far, cut: make(chan struct{})}
	p.mu.Lock()
	p.pairs[c] = struct{}{}
	ended := p.ctx.Err() != nil
	p.mu.Unlock()
	if ended {
		c.end() // Close has been here already
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(c, far, near, true) })
	both.Go(func() { p.pump(c, near, far, false) })
	both.Wait()
	c.end()
	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
}

// pump passes bytes on in one direction until it ends. An orderly end is passed on, too.
func (p *Proxy) pump(c *pair, dst, src net.Conn, up bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if !p.pass(c, up) {
			return
		}
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				c.end()
				return
			}
		}
		if err != nil {
			if half, ok := dst.(interface{ CloseWrite() error }); ok && !errors.Is(err, net.ErrClosed) {
				_ = half.CloseWrite()
				return
			}
			c.end()
			return
		}
	}
}

// pass waits until a piece may go on; false when the connection was cut.
func (p *Proxy) pass(c *pair, up bool) bool {
	delayed := false
	for {
		p.mu.Lock()
		m, changed := p.mode, p.changed
		p.mu.Unlock()
		var late <-chan time.Time
		switch {
		case up && m.HoldUp || !up && m.HoldDown:
		case m.Delay > 0 && !delayed:
			late = time.After(m.Delay)
		default:
			return true
		}
		select {
		case <-c.cut:
			return false
		case <-changed:
		case <-late:
			delayed = true
		}
	}
}
