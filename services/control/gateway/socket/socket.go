// Package socket is WebSocket as this server speaks it: text frames of bounded size, pings, and an end for readers that
// take nothing.
//
//	upgrade ─▶ Accept ─▶ Session: messages ─▶ tasks side by side ─▶ Write … ─▶ Close, with a code and reason
//
// Invariants: one reader; any number of writers, whose frames are never mixed. A peer that takes nothing, or does not
// answer pings, for Stalled is left. What a peer asked for has said its last words before the server closes the socket.
package socket

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/pawl-dev/pawl/internal/errs"
)

const (
	// MaxMessage is the largest message in bytes that a client may send.
	MaxMessage = 1 << 20
	// pingEvery keeps proxies from closing an idle socket, and finds peers that vanished.
	pingEvery = 30 * time.Second
	// Stalled is how long a reader may take nothing before it counts as gone.
	Stalled = 2 * time.Minute
	// pongLimit is how long a peer may take to answer a ping, which waits behind all that is on its way to the peer.
	pongLimit = Stalled - pingEvery
	// closeLimit is how long the last frame may take.
	closeLimit = 2 * time.Second
)

// Errors of Read.
var (
	ErrBinary   = errors.New("a binary message")
	ErrTooLarge = errors.New("a message that is too large")
)

// ErrStalled ends what goes on over a socket whose reader takes nothing.
var ErrStalled = errs.New(errs.ResourceExhausted, "READER_STALLED",
	"the reader took nothing for 2 minutes; connect again and go on after the cursor")

// Code says why a socket ends, as in RFC 6455.
type Code = websocket.StatusCode

// Codes.
const (
	Normal      = websocket.StatusNormalClosure
	GoingAway   = websocket.StatusGoingAway
	Unsupported = websocket.StatusUnsupportedData
	Policy      = websocket.StatusPolicyViolation
	TooBig      = websocket.StatusMessageTooBig
	Failed      = websocket.StatusInternalError
)

// Conn is a socket.
type Conn struct {
	ws      *websocket.Conn
	conn    net.Conn
	leaving atomic.Bool // last words are said, which are not waited for as others are
	closed  atomic.Bool
}

// IsUpgrade reports whether a request asks for a socket.
func IsUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// Accept makes a socket of a request that IsUpgrade. Who sent it and from which page must have been checked. On an
// error the request has been answered. The first subprotocol that the client offers is taken: none of them means
// anything.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	opts := &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the origin has been checked
		CompressionMode:    websocket.CompressionDisabled,
	}
	if first, _, _ := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), ","); first != "" {
		opts.Subprotocols = []string{strings.TrimSpace(first)}
	}
	from := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(from, r, opts)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1) // Read has a limit, and another answer to what exceeds it
	return &Conn{ws: ws, conn: from.conn}, nil
}

const (
	// readBuffer and writeBuffer are for each socket, and stay: those of the HTTP server are many times as large. What
	// is longer is read and written without them.
	readBuffer  = 512
	writeBuffer = 512
)

// hijacker takes a connection from the HTTP server with small buffers.
type hijacker struct {
	http.ResponseWriter
	conn net.Conn // once it is taken
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if n := rw.Reader.Buffered(); n > 0 { // frames of a client that did not wait for the answer
		b, err := rw.Reader.Peek(n)
		if err != nil {
			return nil, nil, errors.Join(err, conn.Close())
		}
		conn = &early{Conn: conn, rest: bytes.Clone(b)}
	}
	h.conn = conn
	return conn, bufio.NewReadWriter(
		bufio.NewReaderSize(conn, readBuffer), bufio.NewWriterSize(conn, writeBuffer)), nil
}

// early is a connection of which something has been read.
type early struct {
	net.Conn
	rest []byte
}

// Read implements net.Conn.
func (e *early) Read(b []byte) (int, error) {
	if len(e.rest) == 0 {
		return e.Conn.Read(b)
	}
	n := copy(b, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// ping asks the peer for a sign of life. It fails with ErrStalled when none comes in time, and otherwise when the
// socket has ended. Somebody has to Read meanwhile.
func (c *Conn) ping() error {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), pongLimit)
	defer cancel()
	err := c.ws.Ping(ctx)
	switch {
	case !errors.Is(err, context.DeadlineExceeded):
		return err
	case time.Since(begun) < pongLimit:
		return nil // something else is being written for long, which has a limit of its own
	}
	return ErrStalled
}

// Read returns the next text message. Fails with ErrBinary or ErrTooLarge for one that is not to be had, and otherwise
// when the socket has ended, by Close too.
func (c *Conn) Read() ([]byte, error) {
	kind, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageText {
		return nil, ErrBinary
	}
	text, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err == nil && len(text) > MaxMessage {
		err = ErrTooLarge
	}
	return text, err
}

// Write sends a message. It fails after Close, and when the reader has left, or has taken nothing for Stalled: the
// socket has ended then.
//
// It takes no context: one that ended in the middle of a frame would end the socket without its last words.
func (c *Conn) Write(text []byte) error {
	limit := Stalled
	if c.leaving.Load() {
		limit = closeLimit
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := c.ws.Write(ctx, websocket.MessageText, text)
	// What comes after the last words fails without a cut: the peer may not have read them yet, and has time to.
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.cut() // also when it waited for others: nothing may be missing between what the peer hears
	}
	return err
}

// cut ends the socket without a word: whoever reads, writes or closes finds out.
func (c *Conn) cut() { _ = c.conn.Close() }

// Close ends the socket, with what is said to the peer. Only the first one is.
func (c *Conn) Close(code Code, reason string) {
	if c.closed.Swap(true) {
		return
	}
	limit := time.AfterFunc(closeLimit, c.cut) // a peer that does not answer is not waited for
	defer limit.Stop()
	_ = c.ws.Close(code, reason)
}
