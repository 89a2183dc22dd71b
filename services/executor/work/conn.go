package work

import (
	"context"
	"slices"
	"strings"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/executor/journal"
)

// ErrSuperseded ends a connection in whose place another one has come.
var ErrSuperseded = errs.New(errs.Aborted, "SUPERSEDED", "the connection was replaced or closed")

// ErrRenamed ends a connection that introduced this executor with a journal that has another id by now: the next one
// says so.
var ErrRenamed = errs.New(errs.Aborted, "JOURNAL_RENAMED", "the journal had to forget what is young, and has a new id")

// Conn is one connection as the work sees it. Receive is for one goroutine, Next for one other.
type Conn struct {
	s       *Service
	window  int64
	journal string // id, when it was made
	wake    await.Signal
	buf     []byte // belongs to Next

	// Service.mu
	lastCall string
	frames   []*pawlv1.ConnectRequest
	ring     []*call
	released bool // attachWait is over
	timer    *time.Timer
	idlers   []chan struct{}
	closed   bool
}

// Connect begins a connection that control has welcomed; an older one ends. Every result that was not acknowledged is
// sent.
func (s *Service) Connect(window int64) *Conn {
	if window <= 0 {
		window = DefaultWindow
	}
	c := &Conn{s: s, window: window, journal: s.j.ID(), wake: await.NewSignal()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.close()
	}
	s.conn = c
	c.timer = time.AfterFunc(attachWait, c.release)
	if s.draining {
		c.put(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Draining{Draining: &pawlv1.Draining{}}})
	}
	for _, call := range s.live {
		call.feed.detach()
		if !call.orphan {
			c.push(call)
		}
	}
	return c
}

// Close ends the connection. Calls go on.
func (c *Conn) Close() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.close()
}

func (c *Conn) close() {
	if c.closed {
		return
	}
	c.closed = true
	c.timer.Stop()
	c.tellIdlers()
	c.wake.Set()
	if c.s.conn != c {
		return
	}
	c.s.conn = nil
	for _, call := range c.s.live {
		call.feed.detach()
		if call.loose() {
			c.s.abandon(call)
		}
	}
}

// release lets results go that waited for an Attach.
func (c *Conn) release() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.released = true
	for _, call := range c.s.live {
		c.push(call)
	}
}

// put queues a frame that answers.
func (c *Conn) put(m *pawlv1.ConnectRequest) {
	if !c.closed {
		c.frames = append(c.frames, m)
		c.wake.Set()
	}
}

// push queues a call that may have something to send.
func (c *Conn) push(call *call) {
	if !c.closed && !call.feed.inRing {
		call.feed.inRing = true
		c.ring = append(c.ring, call)
		c.wake.Set()
	}
}

func (s *Service) answer(m *pawlv1.ConnectRequest) {
	if s.conn != nil {
		s.conn.put(m)
	}
}

func (s *Service) push(c *call) {
	if s.conn != nil {
		s.conn.push(c)
	}
}

// Next waits for the next frame to send. The frame's bytes are good until the next call. ErrSuperseded or ErrRenamed at
// the end.
func (c *Conn) Next(ctx context.Context) (*pawlv1.ConnectRequest, error) {
	for {
		m, err := c.poll()
		if m != nil || err != nil {
			return m, err
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// idle returns a channel that is closed when there is nothing to send.
func (c *Conn) idle() <-chan struct{} {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	ch := make(chan struct{})
	c.idlers = append(c.idlers, ch)
	c.wake.Set()
	return ch
}

// renamed reports whether the journal is another one than the one that this connection introduced. What control sent
// over the connection it sent to a journal that knew more.
func (c *Conn) renamed() bool { return c.journal != c.s.j.ID() }

func (c *Conn) tellIdlers() {
	for _, ch := range c.idlers {
		close(ch)
	}
	c.idlers = nil
}

func (c *Conn) poll() (*pawlv1.ConnectRequest, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for {
		if c.closed {
			return nil, ErrSuperseded
		}
		if c.renamed() {
			c.close()
			return nil, ErrRenamed
		}
		if len(c.frames) > 0 {
			m := c.frames[0]
			c.frames[0], c.frames = nil, c.frames[1:]
			return m, nil
		}
		if len(c.ring) == 0 {
			c.tellIdlers()
			return nil, nil
		}
		call := c.ring[0]
		c.ring[0], c.ring = nil, c.ring[1:]
		if c.s.live[call.id()] != call {
			continue // acknowledged meanwhile
		}
		call.feed.inRing = false
		if m := c.output(call); m != nil {
			c.push(call)
			return m, nil
		}
		if m := c.resultOf(call); m != nil {
			return m, nil
		}
	}
}

// Inflight tells of every call whose result was not acknowledged, for Hello.
func (s *Service) Inflight() []*pawlv1.CallState {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*pawlv1.CallState, 0, len(s.live))
	for _, c := range s.live {
		if c.loose() {
			continue
		}
		all = append(all, c.callState())
	}
	slices.SortFunc(all, func(a, b *pawlv1.CallState) int { return strings.Compare(a.GetCallId(), b.GetCallId()) })
	return all
}

func (c *call) callState() *pawlv1.CallState {
	st := &pawlv1.CallState{CallId: c.id(), LaneId: c.begin.LaneID, Epoch: c.epoch, State: stateOf(c.state)}
	if c.verb == verbExec && c.ex != nil {
		st.StdoutSize, st.StderrSize = c.sizeOf(pawlv1.Stream_STREAM_STDOUT), c.sizeOf(pawlv1.Stream_STREAM_STDERR)
	}
	return st
}

// sizeOf is how much output there is by now.
func (c *call) sizeOf(s pawlv1.Stream) int64 {
	if c.feed.ended[s] || c.state != journal.Begun {
		return c.feed.size[s]
	}
	return max(c.feed.sent[s], c.ex.Size(streamOf(s)))
}
