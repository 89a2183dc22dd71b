package work

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// ErrSuperseded ends a connection in whose place another one has come.
var ErrSuperseded = errs.New(errs.Aborted, "SUPERSEDED", "the connection was replaced or closed")

// errLostResult stands for a result that the journal has and cannot give.
var errLostResult = sandbox.ErrInterrupted.With("the call ended, and the executor cannot read the record of its result")

// ErrRenamed ends a connection that introduced this executor with a journal that has another id by now: the next one
// says so.
var ErrRenamed = errs.New(errs.Aborted, "JOURNAL_RENAMED", "the journal had to forget what is young, and has a new id")

// Conn is one connection as the work sees it. Receive is for one goroutine, Next for one other.
type Conn struct {
	s       *Service
	window  int64
	journal string // id, when it was made
	wake    chan struct{}
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
	c := &Conn{s: s, window: window, journal: s.j.ID(), wake: make(chan struct{}, 1)}
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
	c.signal()
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
		c.signal()
	}
}

// push queues a call that may have something to send.
func (c *Conn) push(call *call) {
	if !c.closed && !call.feed.inRing {
		call.feed.inRing = true
		c.ring = append(c.ring, call)
		c.signal()
	}
}

func (c *Conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
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
	c.signal()
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
			c.frames = c.frames[1:]
			return m, nil
		}
		if len(c.ring) == 0 {
			c.tellIdlers()
			return nil, nil
		}
		call := c.ring[0]
		c.ring = c.ring[1:]
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

// output reads one chunk of a call. It lets go of the lock while it reads.
func (c *Conn) output(call *call) *pawlv1.ConnectRequest {
	all := call.streams()
	for i := range all {
		f := &call.feed
		s := all[(f.first+i)%len(all)]
		credit := f.acked[s] + c.window - f.sent[s]
		if !f.attached || call.src == nil || !f.dirty[s] || credit <= 0 || f.ended[s] && f.sent[s] >= f.size[s] {
			continue
		}
		f.dirty[s] = false
		n, err := c.read(call, s, credit)
		if err != nil || n == 0 {
			if errors.Is(err, errMoved) {
				return nil // whoever moved it has put it into the ring again
			}
			continue
		}
		off := f.sent[s]
		f.sent[s] += int64(n)
		f.dirty[s] = true
		f.first = (f.first + i + 1) % len(all)
		f.stopLinger()
		return &pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Output{Output: &pawlv1.Output{
			CallId: call.id(), Stream: s, Offset: off, Data: c.buf[:n],
		}}}
	}
	return nil
}

var errMoved = errors.New("attached elsewhere")

func (c *Conn) read(call *call, s pawlv1.Stream, credit int64) (int, error) {
	f := &call.feed
	gen, off, src := f.gen, f.sent[s], call.src
	if c.buf == nil {
		c.buf = make([]byte, maxChunk)
	}
	n, err := func() (int, error) {
		c.s.mu.Unlock()
		defer c.s.mu.Lock()
		return src.read(s, c.buf[:min(credit, maxChunk)], off)
	}()
	if c.closed || f.gen != gen {
		return 0, errMoved
	}
	switch {
	case err == nil && n > 0:
		f.failures = 0
	case err == nil:
	case errors.Is(err, io.EOF):
		f.size[s], f.ended[s] = off+int64(n), true
	case c.again(call):
	default:
		// The watcher goes without the rest; the result says how much that is.
		c.s.log.Warn("output could not be read", "call_id", call.id(), "err", err)
		f.size[s], f.ended[s] = off+int64(n), true
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

const (
	// rereadEvery is how long after a failure output, or a result in the journal, is read again, maxRereads how often
	// at most.
	rereadEvery = 100 * time.Millisecond
	maxRereads  = 50
)

// again has a call looked at once more after a failure to read, unless that was done often enough. Who attaches anew
// does so too.
func (c *Conn) again(call *call) bool {
	f, gen := &call.feed, call.feed.gen
	if f.rereading || f.failures >= maxRereads {
		return f.rereading
	}
	f.rereading = true
	f.failures++
	time.AfterFunc(rereadEvery, func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		if f.gen == gen {
			f.rereading = false
			f.touch()
			c.push(call)
		}
	})
	return true
}

// resultOf is the result of a call if it is time for it.
func (c *Conn) resultOf(call *call) *pawlv1.ConnectRequest {
	f := &call.feed
	if call.running() || f.told {
		return nil
	}
	switch {
	case f.attached && f.unsent(call.streams()) && !f.lingered && call.src != nil:
		// The window is exhausted. A watcher that keeps taking gets everything; one that does not is not waited for.
		if f.linger == nil {
			gen := f.gen
			f.linger = time.AfterFunc(linger, func() { c.giveUp(call, gen) })
		}
		return nil
	case !f.attached && !c.released && f.owes(call.streams()) && call.src != nil:
		return nil // release comes
	}
	r := call.result
	if r == nil {
		var err error
		if r, err = c.s.load(call); err != nil && c.again(call) {
			return nil
		}
		if err != nil {
			c.s.log.Error("a result could not be read", "call_id", call.id(), "err", err)
			r = failure(call, errLostResult)
		}
	}
	if call.kept && proto.Size(r) > 4<<10 {
		call.result = nil // the journal has it
	}
	f.told = true
	return &pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Result{Result: &pawlv1.Result{
		CallId: call.id(), LaneId: call.begin.LaneID, Epoch: call.epoch, Outcome: r.Outcome,
	}}}
}

func (c *Conn) giveUp(call *call, gen int) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if call.feed.gen == gen {
		call.feed.lingered = true
		c.push(call)
	}
}

// resend gives the result of a call that ended once more.
func (s *Service) resend(c *call) {
	c.feed.told = false
	s.push(c)
}

func (s *Service) load(c *call) (*pawlv1.Result, error) {
	b, err := s.j.Outcome(c.id())
	if err != nil {
		return nil, err
	}
	r := &pawlv1.Result{}
	return r, proto.Unmarshal(b, r)
}

func encode(r *pawlv1.Result) []byte {
	b, err := proto.Marshal(r)
	if err != nil {
		// Only a string that is not UTF-8 can do that, and those are made valid where results are built.
		b, _ = proto.Marshal(&pawlv1.Result{
			CallId: r.GetCallId(), LaneId: r.GetLaneId(), Epoch: r.GetEpoch(),
			Outcome: &pawlv1.Result_Failure{
				Failure: &pawlv1.Failure{Reason: "INTERNAL", Message: "the result could not be encoded"},
			},
		})
	}
	return b
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
