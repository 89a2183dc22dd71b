package platformtest

import (
	"context"
	"errors"
	"net"
	"sync"
)

var errCut = errors.New("the wire is cut")

// Wire is the network between two parties: whole, cut, or frozen.
type Wire struct {
	mu     sync.Mutex
	cut    bool
	frozen bool
	change chan struct{} // closed when either changes
	conns  map[*wireConn]struct{}
}

func newWire() *Wire { return &Wire{change: make(chan struct{}), conns: map[*wireConn]struct{}{}} }

// Cut ends every connection over the wire, which both ends see, and refuses new ones.
func (w *Wire) Cut() { w.set(true, false) }

// Freeze lets nothing through, not even the end of a connection: neither party is told.
func (w *Wire) Freeze() { w.set(false, true) }

// Mend makes the wire whole. Frozen connections go on.
func (w *Wire) Mend() { w.set(false, false) }

func (w *Wire) set(cut, frozen bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.frozen = cut, frozen
	close(w.change)
	w.change = make(chan struct{})
	for c := range w.conns {
		if cut || !frozen && c.isClosed() {
			c.drop()
		}
	}
}

// dial connects over the wire.
func (w *Wire) dial(ctx context.Context, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	if err := w.pass(ctx.Done()); err != nil {
		return nil, err
	}
	nc, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &wireConn{Conn: nc, wire: w, closed: make(chan struct{})}
	w.conns[c] = struct{}{}
	return c, nil
}

// pass returns when something can pass.
func (w *Wire) pass(done <-chan struct{}) error {
	for {
		w.mu.Lock()
		cut, frozen, change := w.cut, w.frozen, w.change
		w.mu.Unlock()
		if cut {
			return errCut
		}
		if !frozen {
			return nil
		}
		select {
		case <-change:
		case <-done:
			return net.ErrClosed
		}
	}
}

// wireConn is the dialling end of a connection.
type wireConn struct {
	net.Conn
	wire   *Wire
	once   sync.Once
	closed chan struct{}
}

func (c *wireConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if cut := c.wire.pass(c.closed); cut != nil {
		return 0, cut
	}
	return n, err
}

func (c *wireConn) Write(p []byte) (int, error) {
	if err := c.wire.pass(c.closed); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Close ends this end. Over a frozen wire the other one is told when it is mended.
func (c *wireConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	if !c.wire.frozen {
		c.drop()
	}
	return nil
}

func (c *wireConn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// drop ends both ends. The caller holds the wire's mu.
func (c *wireConn) drop() {
	_ = c.Conn.Close() // of a pipe in memory: cannot fail in a way that matters
	delete(c.wire.conns, c)
}

// host is a listener whose owner can die: its connections end with it.
type host struct {
	net.Listener
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	dead  bool
}

func newHost(l net.Listener) *host { return &host{Listener: l, conns: map[net.Conn]struct{}{}} }

// Accept implements net.Listener.
func (h *host) Accept() (net.Conn, error) {
	nc, err := h.Listener.Accept()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		_ = nc.Close()
		return nil, net.ErrClosed
	}
	c := &hostConn{Conn: nc, host: h}
	h.conns[c] = struct{}{}
	return c, nil
}

// die ends the listener and every connection at once.
func (h *host) die() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = true
	_ = h.Listener.Close() // it may be closed
	for c := range h.conns {
		_ = c.(*hostConn).Conn.Close()
	}
}

type hostConn struct {
	net.Conn
	host *host
}

func (c *hostConn) Close() error {
	c.host.mu.Lock()
	delete(c.host.conns, c)
	c.host.mu.Unlock()
	return c.Conn.Close()
}

// lobby is a listener in memory for HTTP. bufconn is not: a read deadline of it that is lifted can still strike later,
// which net/http takes for the end of its client.
type lobby struct {
	conns chan net.Conn
	once  sync.Once
	over  chan struct{}
}

func newLobby() *lobby { return &lobby{conns: make(chan net.Conn), over: make(chan struct{})} }

// Accept implements net.Listener.
func (l *lobby) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *lobby) Close() error {
	l.once.Do(func() { close(l.over) })
	return nil
}

// Addr implements net.Listener.
func (l *lobby) Addr() net.Addr { return &net.UnixAddr{Name: "lobby", Net: "pipe"} }

func (l *lobby) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.over:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
