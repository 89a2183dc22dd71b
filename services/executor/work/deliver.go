package work

import (
	"errors"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// errLostResult stands for a result that the journal has and cannot give.
var errLostResult = sandbox.ErrInterrupted.With("the call ended, and the executor cannot read the record of its result")

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
	if call.running() || f.resultSent {
		return nil
	}
	switch {
	case f.attached && f.unsent(call.streams()) && (!f.lingered || call.loose()) && call.src != nil:
		// The window is exhausted. A watcher that keeps taking gets everything; one that does not is not waited for.
		// The result of a call of no lane is the end of what a client hears: control ends it if that client stalls.
		if f.linger == nil && !call.loose() {
			gen := f.gen
			f.linger = time.AfterFunc(linger, func() { c.giveUp(call, gen) })
		}
		return nil
	case !f.attached && !c.released && f.untaken(call.streams()) && call.src != nil:
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
	f.resultSent = true
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
	c.feed.resultSent = false
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
			Outcome: &pawlv1.Result_Failure{Failure: &pawlv1.Failure{
				Reason: "INTERNAL", Message: "the result could not be encoded",
			}},
		})
	}
	return b
}
