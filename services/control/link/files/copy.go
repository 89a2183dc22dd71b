package files

import (
	"context"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
)

// pass gives the client what the executor sends, one piece at a time, and the executor what the client sends, as far as
// it has room for it, until the result. What the client has taken makes room for more.
func (s *Transfers) pass(ctx context.Context, t *transfer, q *Request) (*pawlv1.Result, error) {
	quit := make(chan struct{})
	defer close(quit)
	out, in := s.giver(t, q, quit), s.feeder(t, q, quit)
	stall := time.NewTimer(StallLimit)
	defer stall.Stop()
	for {
		if out.offer() {
			stall.Reset(StallLimit)
		}
		if res, err := t.over(); err != nil || res != nil && !out.taking {
			return res, err
		}
		if in.feed() {
			stall.Reset(StallLimit)
		}
		var late <-chan time.Time
		if out.taking || in.waits() {
			late = stall.C
		}
		select {
		case <-t.ready:
		case err := <-out.given:
			if err != nil {
				return nil, err
			}
			out.gave()
		case p := <-in.more():
			if p.err != nil {
				return nil, p.err
			}
			in.left, in.last = p.in, p.in.GetLast()
		case <-late:
			return nil, stalled(q)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// stalled is what a client is told that did nothing for StallLimit.
func stalled(q *Request) error {
	w := q.Verb.GetWriteFile()
	if w == nil || w.GetArchive() != 0 {
		return ErrStalled
	}
	return ErrStalled.With("no content came for %s; nothing was written", StallLimit)
}

// giver hands a client what comes for it.
type giver struct {
	s      *Transfers
	t      *transfer
	give   chan<- chunk
	given  <-chan error
	opened bool
	taking bool // the client has a piece and is not done with it
	last   chunk
}

// giver starts to hand out; for a request that takes nothing it does nothing.
func (s *Transfers) giver(t *transfer, q *Request, quit <-chan struct{}) *giver {
	if q.Take == nil {
		return &giver{}
	}
	give, given := make(chan chunk), make(chan error, 1)
	go func() { // ends with the client's RPC at the latest
		for {
			var c chunk
			select {
			case c = <-give:
			case <-quit:
				return
			}
			given <- contain.Do(func() error {
				if c.data == nil {
					return q.Opened(t.facts) // they do not change once it is open
				}
				return q.Take(c.stream, c.data)
			})
		}
	}()
	return &giver{s: s, t: t, give: give, given: given}
}

// offer gives the client the next piece if it is done with the last one.
func (g *giver) offer() bool {
	if g.give == nil || g.taking {
		return false
	}
	if g.last, g.taking = g.t.piece(&g.opened); g.taking {
		g.give <- g.last
	}
	return g.taking
}

// gave gives the executor credit for what the client has taken.
func (g *giver) gave() {
	g.taking = false
	if len(g.last.data) == 0 {
		return
	}
	g.s.send(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_OutputAck{OutputAck: &pawlv1.OutputAck{
		CallId: g.t.id, Stream: g.last.stream, Upto: g.t.take(g.last.stream, len(g.last.data)),
	}}})
	g.last = chunk{}
}

// feeder sends an executor what comes from a client.
type feeder struct {
	s      *Transfers
	t      *transfer
	pieces <-chan piece
	left   *pawlv1.Input // of the piece that came last, what was not sent
	last   bool          // it was the last one
	quiet  bool          // the client may take its time
}

func (s *Transfers) feeder(t *transfer, q *Request, quit <-chan struct{}) *feeder {
	if q.Next == nil {
		return &feeder{last: true}
	}
	return &feeder{s: s, t: t, pieces: read(q.Next, quit), quiet: q.Verb.GetExec() != nil}
}

// feed sends what the executor has room for. It is true when there was something to send and nothing is left.
func (f *feeder) feed() bool {
	if f.left == nil {
		return false
	}
	f.left = f.s.sendContent(f.t, f.left)
	return f.left == nil
}

// more is where the next piece comes from, nil while there is no room for it.
func (f *feeder) more() <-chan piece {
	if f.left != nil || f.last {
		return nil
	}
	return f.pieces
}

// waits reports whether it is for the client to send something.
func (f *feeder) waits() bool { return f.more() != nil && !f.quiet }

// piece is one of a client's content, or why there are no more.
type piece struct {
	in  *pawlv1.Input
	err error
}

// read reads a client's content until its last piece, an error, or quit.
func read(next func() (*pawlv1.Input, error), quit <-chan struct{}) <-chan piece {
	pieces := make(chan piece)
	go func() { // ends with the client's RPC at the latest
		for {
			var p piece
			p.err = contain.Do(func() (err error) { p.in, err = next(); return err })
			select {
			case pieces <- p:
			case <-quit:
				return
			}
			if p.err != nil || p.in.GetLast() {
				return
			}
		}
	}()
	return pieces
}

// sendContent sends of a piece what the executor has room for and returns what is left, nil for nothing.
func (s *Transfers) sendContent(t *transfer, in *pawlv1.Input) *pawlv1.Input {
	for in != nil {
		data := in.GetData()
		n := int(min(int64(len(data)), MaxFrame, t.credit()))
		whole := n == len(data)
		if n == 0 && !whole {
			return in
		}
		part := &pawlv1.Input{CallId: t.id, Data: data[:n]}
		if whole && in.GetLast() {
			part.Last, part.Sha256 = true, in.GetSha256()
		}
		if n > 0 || part.Last {
			s.queue(t, part)
		}
		if whole {
			return nil
		}
		in = &pawlv1.Input{Data: data[n:], Last: in.GetLast(), Sha256: in.GetSha256()}
	}
	return nil
}

// queue leaves content to the sender, within the transfer's credit.
func (s *Transfers) queue(t *transfer, in *pawlv1.Input) {
	in.Offset = t.spend(len(in.GetData()), in.GetLast())
	s.mu.Lock()
	if !s.over {
		s.content = append(s.content, in)
	}
	s.mu.Unlock()
	s.more()
}
