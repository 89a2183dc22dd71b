package gateway_test

import (
	"io"
	"net"
	"sync"
)

// wires is a listener in memory, for fake time. What the server sends waits for the client in so many bytes, and what
// the client sends does not wait. The server's ends are those of net.Pipe, whose deadlines net/http may set and clear.
type wires struct {
	buffer int
	conns  chan net.Conn
	close  func()
	closed chan struct{}
}

func newWires(buffer int) *wires {
	w := &wires{buffer: buffer, conns: make(chan net.Conn), closed: make(chan struct{})}
	w.close = sync.OnceFunc(func() { close(w.closed) })
	return w
}

// Accept implements net.Listener.
func (w *wires) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (w *wires) Addr() net.Addr { return &net.UnixAddr{Name: "wires", Net: "unix"} }

// Close implements net.Listener.
func (w *wires) Close() error { w.close(); return nil }

func (w *wires) dial() (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case w.conns <- far:
	case <-w.closed:
		return nil, net.ErrClosed
	}
	c := &wire{Conn: near, in: make(chan byte, w.buffer), closed: make(chan struct{})}
	c.close = sync.OnceFunc(func() { close(c.closed) })
	go c.fill()
	return c, nil
}

// wire is a client's end, which holds what was not read.
type wire struct {
	net.Conn
	in     chan byte
	close  func()
	closed chan struct{}
}

// fill takes what comes until either end closes.
func (c *wire) fill() {
	defer close(c.in)
	for b := make([]byte, 256); ; {
		n, err := c.Conn.Read(b)
		for _, one := range b[:n] {
			select {
			case c.in <- one:
			case <-c.closed:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader. It waits for the first byte only.
func (c *wire) Read(p []byte) (n int, err error) {
	b, open := <-c.in
	for ; open && n < len(p); n++ {
		p[n] = b
		if len(c.in) == 0 || n+1 == len(p) {
			return n + 1, nil
		}
		b, open = <-c.in
	}
	return n, io.EOF
}

// Close implements io.Closer.
func (c *wire) Close() error {
	c.close()
	return c.Conn.Close()
}
