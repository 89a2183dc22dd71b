package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/pawl-dev/pawl/internal/bodies"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
)

// Limits of what is read.
var (
	ErrTooLarge = errs.New(errs.ResourceExhausted, "MESSAGE_TOO_LARGE", "the message is larger than this call takes")
	ErrLate     = errs.New(errs.DeadlineExceeded, "MESSAGE_LATE",
		"the call's first message did not arrive in time; send it with the call")
)

// firstLimit is how long the first message of an admitted call may take to arrive.
const firstLimit = 30 * time.Second

// small is how many bytes a message has that is not counted: the call itself costs more. So whoever has large messages
// under way can ask what becomes of them.
const small = 4 << 10

// source is what the library's streams have, though no type of it says so, to tell how long a message is before it is
// read. The library itself reads a message as a whole, up to a limit that all methods share, before it asks anybody.
type source interface {
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
}

// messages reads the messages of one call. What is too long, or too much beside the other messages of its account, is
// refused before it is read: its sender gets no room for it.
type messages struct {
	source
	ctx     context.Context
	limit   int             // of one message in bytes
	one     bool            // the call has one message
	account *bodies.Account // nil counts nothing
	heard   func(ctx context.Context, m any)

	begun  bool         // a message was read, or is being read
	first  atomic.Int64 // bytes of the first message, until the answer begins
	latest int64        // bytes of the message that was read last, if it is not the first
	later  bool         // the next message is not the first
}

// messages are those of an admitted call; one says that it has one. The caller must release their account.
func (h Hooks) messages(ctx context.Context, method string, one bool) (*messages, error) {
	from, ok := grpc.ServerTransportStreamFromContext(ctx).(source)
	if !ok {
		return nil, fmt.Errorf("%s: the stream does not tell how long its messages are", method)
	}
	m := &messages{source: from, ctx: ctx, limit: MaxMessage, one: one, heard: h.Heard}
	if h.MaxMessage != nil {
		m.limit = min(m.limit, h.MaxMessage(method))
	}
	if h.Account != nil {
		m.account = h.Account(ctx)
	}
	return m, nil
}

// read reads the next message into m. Fails with io.EOF after the last one, ErrTooLarge, bodies.ErrFull, and ErrLate,
// after which the handler must return: the read that is left behind ends with the stream, which nothing else can end.
func (r *messages) read(m any) error {
	if r.begun {
		return r.next(m)
	}
	r.begun = true
	done := make(chan error, 1)
	go func() { done <- contain.Do(func() error { return r.next(m) }) }()
	limit := time.NewTimer(firstLimit)
	defer limit.Stop()
	select {
	case err := <-done:
		if err == nil && r.heard != nil {
			r.heard(r.ctx, m)
		}
		return err
	case <-limit.C:
		return ErrLate
	}
}

// next reads a message. Its reader is done with the one before, unless that is the first.
func (r *messages) next(m any) error {
	r.account.Give(r.latest)
	r.latest = 0
	size, err := r.size()
	if err != nil {
		return err
	}
	if err := r.take(size); err != nil {
		return err
	}
	data, err := r.Read(int(size))
	if err != nil {
		return broken(err)
	}
	defer data.Free()
	if err := newCodec().Unmarshal(data, m); err != nil {
		return status.Errorf(codes.Internal, "the message could not be decoded: %v", err)
	}
	return nil
}

// take counts a message that is about to be read.
func (r *messages) take(size int64) error {
	if size <= small {
		size = 0
	}
	if err := r.account.Take(size); err != nil {
		return err
	}
	if r.later {
		r.latest = size
	} else {
		r.first.Store(size)
	}
	r.later = true
	return nil
}

// size reads how many bytes the next message has.
func (r *messages) size() (int64, error) {
	var header [5]byte // whether it is compressed, and how long it is
	err := r.ReadMessageHeader(header[:])
	switch {
	case errors.Is(err, io.EOF) && r.one:
		return 0, status.Error(codes.Internal, "the call has no message")
	case err != nil:
		return 0, broken(err)
	case header[0] != 0:
		return 0, status.Error(codes.Unimplemented, "compressed messages are not taken: send them as they are")
	}
	size := int64(binary.BigEndian.Uint32(header[1:]))
	if size > int64(r.limit) {
		return 0, ErrTooLarge.With("the message has %d bytes, and this call takes at most %d", size, r.limit)
	}
	return size, nil
}

// broken is why a stream could not be read.
func broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return status.Error(codes.Internal, "the call ended within a message")
	}
	return err
}

// answered is told when the answer begins: the first message is not needed any more.
func (r *messages) answered() { r.account.Give(r.first.Swap(0)) }
