// Package idle keeps HTTP/1 connections that say nothing at a fraction of what net/http holds for one: two buffers and
// a stack, 18 KiB together.
//
//	Accept ─▶ http.Server ── answered, and nothing comes ──▶ set aside ── a byte comes ──▶ Accept
//
// A connection that is set aside has ended for the server, and is one goroutine that waits for a byte. Its client
// notices nothing. Invariants: no byte is lost, because a connection is set aside only while the server's buffer is
// empty; what is set aside is closed when the server's idle time is over, and when the listener is closed.
//
// Connections over TLS are left to the server, which has to see that they are.
package idle

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// after is how long nothing has to come until a connection is set aside: setting one aside and taking it back costs
// about as much as accepting one.
const after = time.Second

// Listener gives a server connections, those that were set aside again when something comes on them.
type Listener struct {
	net.Listener
	begin, end sync.Once
	ready      chan accepted
	closed     chan struct{}

	mu    sync.Mutex // guards aside
	aside map[net.Conn]struct{}
}

// accepted is what Accept returns.
type accepted struct {
	conn net.Conn
	err  error
}

// Listen makes a listener for an http.Server whose ConnState is State.
func Listen(l net.Listener) *Listener {
	return &Listener{
		Listener: l, ready: make(chan accepted), closed: make(chan struct{}), aside: map[net.Conn]struct{}{},
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	l.begin.Do(func() { go l.accept() })
	select {
	case one := <-l.ready:
		return one.conn, one.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// accept hands on new connections until the listener below is closed.
func (l *Listener) accept() {
	for {
		c, err := l.Listener.Accept()
		if _, secure := c.(*tls.Conn); err == nil && !secure {
			c = &conn{Conn: c, listener: l}
		}
		if !l.hand(accepted{c, err}) || errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// hand gives the server a connection, which is closed if the listener is.
func (l *Listener) hand(one accepted) bool {
	select {
	case l.ready <- one:
		return true
	case <-l.closed:
		if one.conn != nil {
			_ = one.conn.Close() // its client finds out
		}
		return false
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.end.Do(func() { close(l.closed) })
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.aside {
		_ = c.Close() // its client finds out
	}
	return l.Listener.Close()
}

// set sets a connection aside until something comes, at most until then; zero is for ever.
func (l *Listener) set(c net.Conn, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aside[c] = struct{}{}
	go l.await(c, until)
}

func (l *Listener) await(c net.Conn, until time.Time) {
	first := make([]byte, 1)
	err := c.SetReadDeadline(until)
	select {
	case <-l.closed: // Close may have come before the connection was set aside
		err = net.ErrClosed
	default:
	}
	if err == nil {
		_, err = c.Read(first)
	}
	l.mu.Lock()
	delete(l.aside, c)
	l.mu.Unlock()
	if err != nil {
		_ = c.Close() // it has ended, or is idle for too long
		return
	}
	l.hand(accepted{conn: &conn{Conn: c, listener: l, first: first}})
}

// conn is a connection as the server has it.
type conn struct {
	net.Conn
	listener *Listener
	idle     atomic.Bool
	first    []byte // that came before the server had it; of who reads
	room     int    // of the server's buffer when it is empty; of who reads

	mu            sync.Mutex // guards what follows
	until         time.Time  // when a read fails, zero is never
	leaves, ended bool       // it is to be set aside, or closed; it is
}

// State is for http.Server.ConnState.
func State(c net.Conn, s http.ConnState) {
	if one, ok := c.(*conn); ok {
		one.idle.Store(s == http.StateIdle)
	}
}

// errAside ends what the server does with a connection that is set aside.
var errAside = errors.New("the connection is idle")

// Read implements net.Conn. The first read is into an empty buffer, so one into as much room is too.
func (c *conn) Read(b []byte) (int, error) {
	if c.room == 0 {
		c.room = len(b)
	}
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	if !c.idle.Load() || len(b) < c.room {
		return c.Conn.Read(b)
	}
	return c.wait(b)
}

// wait reads what comes soon.
func (c *conn) wait(b []byte) (int, error) {
	c.mu.Lock()
	until := c.until
	c.mu.Unlock()
	soon := time.Now().Add(after)
	if !until.IsZero() && until.Before(soon) {
		return c.Conn.Read(b)
	}
	if err := c.Conn.SetReadDeadline(soon); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.leave() {
		return 0, errAside
	}
	c.idle.Store(false) // a request begins, of which more may come
	return n, errors.Join(err, c.Conn.SetReadDeadline(until))
}

// leave notes that a connection is set aside when the server closes it, unless it has.
func (c *conn) leave() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaves = !c.ended
	return c.leaves
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	return c.Conn.SetReadDeadline(t)
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil
	}
	c.ended = true
	if c.leaves {
		c.listener.set(c.Conn, c.until)
		return nil
	}
	return c.Conn.Close()
}
