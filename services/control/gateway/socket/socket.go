// Package socket is WebSocket as this server speaks it: text frames of bounded size, pings, and an end for readers that
// take nothing.
//
//	upgrade ─▶ Accept ─▶ Session: messages ─▶ tasks side by side ─▶ Write … ─▶ Close, with a code and a reason
//
// Invariants: one reader; any number of writers, whose frames are never mixed. A peer that neither reads nor answers
// pings is left within Stalled. What a peer asked for has said its last words before the server closes the socket.
package socket

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/pawl-dev/pawl/internal/contain"
)

const (
	// MaxMessage is the largest message in bytes that a client may send.
	MaxMessage = 1 << 20
	// pingEvery keeps proxies from closing an idle socket, and finds peers that vanished.
	pingEvery = 30 * time.Second
	// pongLimit is how long a peer may take to answer a ping.
	pongLimit = 20 * time.Second
	// Stalled is how long a reader may take nothing before it counts as gone.
	Stalled = 2 * time.Minute
	// closeLimit is how long the last frame may take.
	closeLimit = 2 * time.Second
)

// Errors of Read.
var (
	ErrBinary   = errors.New("a binary message")
	ErrTooLarge = errors.New("a message that is too large")
)

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
	ws   *websocket.Conn
	ping *time.Timer

	mu     sync.Mutex // guards what follows
	closed bool
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
	ws, err := websocket.Accept(w, r, opts)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1) // Read has a limit, and another answer to what exceeds it
	c := &Conn{ws: ws}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ping = time.AfterFunc(pingEvery, c.beat)
	return c, nil
}

// beat pings the peer, and leaves it when it does not answer.
func (c *Conn) beat() {
	ctx, cancel := context.WithTimeout(context.Background(), pongLimit)
	defer cancel()
	if err := contain.Do(func() error { return c.ws.Ping(ctx) }); err != nil {
		_ = c.ws.CloseNow() // whoever reads finds out
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.ping.Reset(pingEvery)
	}
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

// Write sends a message. It fails when the reader has left, or has taken nothing for Stalled: the socket is closed
// then.
//
// It takes no context: one that ended in the middle of a frame would end the socket without its last words.
func (c *Conn) Write(text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), Stalled)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageText, text)
}

// Close ends the socket, with what is said to the peer. Only the first one is.
func (c *Conn) Close(code Code, reason string) {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.ping.Stop()
	c.mu.Unlock()
	if was {
		return
	}
	// A peer that does not answer is not waited for.
	limit := time.AfterFunc(closeLimit, func() { _ = c.ws.CloseNow() })
	defer limit.Stop()
	_ = c.ws.Close(code, reason)
}
