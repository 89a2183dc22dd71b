package files

import (
	"context"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
)

// hand gives a file to its client, one piece at a time. What the client has taken makes room for more.
func (s *Transfers) hand(ctx context.Context, t *transfer, q *Request) (*pawlv1.Result, error) {
	give, given := make(chan []byte), make(chan error, 1)
	defer close(give)
	go func() { // ends with the client's RPC at the latest
		for data := range give {
			given <- contain.Do(func() error {
				if data == nil {
					return q.Opened(t.size) // does not change once it is open
				}
				return q.Take(data)
			})
		}
	}()
	stall := time.NewTimer(StallLimit)
	defer stall.Stop()
	opened, taking, n := false, false, 0
	for {
		var late <-chan time.Time
		if !taking {
			var data []byte
			if data, taking = t.piece(&opened); taking {
				give <- data
				n = len(data)
				stall.Reset(StallLimit)
			}
		}
		if taking {
			late = stall.C
		}
		if res, err := t.over(); err != nil || res != nil && !taking {
			return res, err
		}
		select {
		case <-t.ready:
		case err := <-given:
			if err != nil {
				return nil, err
			}
			taking = false
			s.acknowledge(t, n)
		case <-late:
			return nil, ErrStalled
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// acknowledge gives the executor credit for n bytes that the client has taken.
func (s *Transfers) acknowledge(t *transfer, n int) {
	if n == 0 {
		return
	}
	s.send(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_OutputAck{OutputAck: &pawlv1.OutputAck{
		CallId: t.id, Stream: pawlv1.Stream_STREAM_FILE, Upto: t.take(n),
	}}})
}

// supply sends the client's content while the executor has room for it.
func (s *Transfers) supply(
	ctx context.Context, t *transfer, next func() (*pawlv1.Input, error),
) (*pawlv1.Result, error) {
	quit := make(chan struct{})
	defer close(quit)
	pieces := read(next, quit)
	stall := time.NewTimer(StallLimit)
	defer stall.Stop()
	var left *pawlv1.Input // of the piece that came last, what was not sent
	last := false
	for {
		if res, err := t.over(); res != nil || err != nil {
			return res, err
		}
		if left = s.sendContent(t, left); left == nil && !last {
			stall.Reset(StallLimit)
		}
		var more <-chan piece
		var late <-chan time.Time
		if left == nil && !last {
			more, late = pieces, stall.C
		}
		select {
		case <-t.ready:
		case p := <-more:
			if p.err != nil {
				return nil, p.err
			}
			left, last = p.in, p.in.GetLast()
		case <-late:
			return nil, ErrStalled.With("no content came for %s; nothing was written", StallLimit)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

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
