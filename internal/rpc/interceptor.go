package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/pawl-dev/pawl/internal/bodies"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
)

// Hooks are what a server asks about calls.
type Hooks struct {
	// Admit decides on a call before a message of it is read, and returns the context for its handler. done is called
	// when the call has ended. The bearer token is in secret, "" for none. Nil refuses everything.
	Admit func(ctx context.Context, call Call, secret string) (admitted context.Context, done func(), err error)
	// Glance refuses a call that Admit would refuse, before it gets a stream. It holds up all calls of its connection,
	// so it must answer at once, from memory. call.Stream is not known. Nil leaves all calls to Admit.
	Glance func(ctx context.Context, call Call, secret string) error
	// Origins are those of pages in browsers that may call; a call of any other with the header Origin is refused. It
	// takes a Glance.
	Origins []string
	// Heard is told the first message of an admitted call. Nil is not.
	Heard func(ctx context.Context, m any)
	// Ended is asked when the handler of an admitted call has returned, before the call is answered: it returns with
	// what. It is not asked when the handler has panicked. Nil is not.
	Ended func(ctx context.Context, err error) error
	// MaxMessage is how many bytes a message to a method may have. Nil is MaxMessage for all.
	MaxMessage func(method string) int
	// Account counts the messages of an admitted call until it is answered; nil does not. It is asked with the context
	// from Admit, once for a call. Nil counts none.
	Account func(ctx context.Context) *bodies.Account
	// Stopping ends streams to a reader with ErrStopping. Nil ends none.
	Stopping context.Context
	// Log is nil for the default logger.
	Log *slog.Logger

	calls *counter
}

// Call is a call that has arrived.
type Call struct {
	Method string // full: /package.Service/Method
	Stream bool
}

func (h Hooks) logger() *slog.Logger {
	if h.Log != nil {
		return h.Log
	}
	return slog.Default()
}

func (h Hooks) admit(ctx context.Context, call Call) (context.Context, func(), error) {
	if h.Admit == nil {
		return nil, nil, fmt.Errorf("%s: the server admits nobody", call.Method)
	}
	return h.Admit(ctx, call, secret(ctx))
}

func (h Hooks) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return h.run(ss.Context(), Call{Method: info.FullMethod, Stream: true}, func(ctx context.Context) error {
		in, err := h.messages(ctx, info.FullMethod, !info.IsClientStream)
		if err != nil {
			return err
		}
		defer in.account.Release()
		s := &serverStream{ServerStream: ss, ctx: ctx, in: in, bounded: !info.IsClientStream}
		if !s.bounded || h.Stopping == nil {
			return handler(srv, s)
		}
		return h.untilStopped(ctx, func(ctx context.Context) error {
			s.ctx = ctx
			return handler(srv, s)
		})
	})
}

// ErrStopping ends what is under way when the server stops. The work goes on: here after a restart, or at another
// replica.
var ErrStopping = errs.New(errs.Unavailable, "SERVER_STOPPING",
	"the server is stopping; the work goes on, repeat the request with the same Idempotency-Key to follow it")

// untilStopped runs a handler in a context that ends with Stopping.
func (h Hooks) untilStopped(ctx context.Context, handle func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.Stopping, func() { cancel(ErrStopping) })()
	err := handle(ctx)
	if errors.Is(context.Cause(ctx), ErrStopping) && (err == nil || isContextError(err)) {
		return ErrStopping
	}
	return err
}

// stalled is how long a reader may take nothing of what only flows to it.
const stalled = 2 * time.Minute

// ErrStalled ends a stream whose reader takes nothing.
var ErrStalled = errs.New(errs.ResourceExhausted, "READER_STALLED",
	"the reader took nothing for 2 minutes; call again and go on after the last event, or byte, that arrived")

// serverStream is a stream with the context of an admitted call.
type serverStream struct {
	grpc.ServerStream
	ctx     context.Context
	in      *messages
	bounded bool // sending is; a stream in both directions has rules of its own
}

// RecvMsg implements grpc.ServerStream. After ErrLate the handler must return.
func (s *serverStream) RecvMsg(m any) error { return s.in.read(m) }

func (s *serverStream) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ServerStream. While a reader is waited for, nothing holds m: it is encoded before. After
// ErrStalled the handler must return: the send that is left behind ends with the stream, which nothing else can end.
func (s *serverStream) SendMsg(m any) error {
	s.in.answered()
	if !s.bounded {
		return s.ServerStream.SendMsg(m)
	}
	data, err := newCodec().Marshal(m)
	if err != nil {
		return status.Errorf(codes.Internal, "the message could not be encoded: %v", err)
	}
	sent := make(chan error, 1)
	go func() { sent <- contain.Do(func() error { return s.ServerStream.SendMsg(encoded{data}) }) }()
	limit := time.NewTimer(stalled)
	defer limit.Stop()
	select {
	case err := <-sent:
		return err
	case <-limit.C:
		return ErrStalled
	}
}

// run admits a call, runs its handler, turns panics into errors, and errors into statuses.
func (h Hooks) run(ctx context.Context, call Call, handle func(context.Context) error) error {
	begun := time.Now()
	err := contain.Do(func() error {
		leave, ok := h.calls.enter(Source(ctx))
		if !ok {
			return ErrTooManyCalls
		}
		defer leave()
		ctx, done, err := h.admit(ctx, call)
		if err != nil {
			return err
		}
		if done != nil {
			defer done()
		}
		err = handle(ctx)
		if h.Ended != nil {
			err = h.Ended(ctx, err)
		}
		return err
	})
	st, ok := ToStatus(err)
	if _, public := errs.Public(err); !public && ctx.Err() == nil && isContextError(err) {
		// A limit of ours has passed, or we gave up: the caller's deadline has not passed, and it did not leave.
		st, _ = ToStatus(ErrInternal)
		ok = false
	}
	if !ok && ctx.Err() != nil {
		// Nobody is there to answer, and what failed did most likely because of that.
		h.logger().DebugContext(ctx, "rpc abandoned", "method", call.Method, "error", err)
		st, ok = ToStatus(ctx.Err())
	}
	if !ok {
		h.logger().ErrorContext(ctx, "rpc failed", "method", call.Method, "error", err)
	}
	h.logger().DebugContext(ctx, "rpc", "method", call.Method, "code", status.Code(st).String(), "duration",
		time.Since(begun))
	return st
}

func secret(ctx context.Context) string {
	// More than one is nobody's intention.
	if v := metadata.ValueFromIncomingContext(ctx, "authorization"); len(v) == 1 {
		return Bearer(v[0])
	}
	return ""
}
