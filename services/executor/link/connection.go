package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/services/executor/work"
)

type stream = grpc.BidiStreamingClient[pawlv1.ConnectRequest, pawlv1.ConnectResponse]

// connect makes one connection and serves it until it ends.
func (l *linker) connect(ctx context.Context) error {
	cc, err := l.cfg.Dial(ctx)
	if err != nil {
		return err
	}
	defer cc.Close()
	l.addr = cc.Target()
	// The stream outlives ctx for the last frames.
	sctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	s, welcome, err := l.greet(ctx, sctx, cancel, cc)
	if err != nil {
		return err
	}
	c := &connection{
		stream: s, cancel: cancel, ttl: welcome.GetTtl().AsDuration(), over: make(chan struct{}), clock: l.cfg.Clock,
	}
	if c.ttl <= 0 {
		c.ttl = defaultTTL
	}
	c.work = l.cfg.Work.Connect(welcome.GetWindow())
	defer c.work.Close()
	l.met(welcome)
	return c.run(ctx, sctx)
}

// greet says Hello and waits for the Welcome, not for ever.
func (l *linker) greet(
	ctx, sctx context.Context, cancel context.CancelCauseFunc, cc *grpc.ClientConn,
) (stream, *pawlv1.Welcome, error) {
	late := time.AfterFunc(greet, func() { cancel(fmt.Errorf("control did not answer within %v", greet)) })
	defer late.Stop()
	defer context.AfterFunc(ctx, func() { cancel(ctx.Err()) })()
	s, err := pawlv1.NewExecutorServiceClient(cc).Connect(sctx)
	if err != nil {
		return nil, nil, because(sctx, err)
	}
	hello, err := l.cfg.Hello()
	if err != nil {
		return nil, nil, err
	}
	hello.LastConnectionEpoch = l.epoch
	hello.Protocol, hello.Inflight, hello.Draining = Protocol, l.cfg.Work.Inflight(), l.cfg.Work.Draining()
	if err := s.Send(&pawlv1.ConnectRequest{Frame: &pawlv1.ConnectRequest_Hello{Hello: hello}}); err != nil &&
		!errors.Is(err, io.EOF) {
		return nil, nil, because(sctx, err)
	}
	m, err := s.Recv() // tells why, too, when Send could not
	if err != nil {
		return nil, nil, because(sctx, err)
	}
	if m.GetWelcome() == nil {
		return nil, nil, errors.New("control's first frame was not Welcome")
	}
	return s, m.GetWelcome(), nil
}

// because prefers our own reason for the end of a stream.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// connection is one that was welcomed.
type connection struct {
	stream stream
	cancel context.CancelCauseFunc
	work   *work.Conn
	ttl    time.Duration
	over   chan struct{} // receive has ended

	clock   mono.Clock
	heard   atomic.Int64 // when the last frame came, see now
	sending atomic.Int64 // since when the present frame is being sent, 0 while none is
}

// now is the time by the clock, and never 0.
func (c *connection) now() int64 { return 1 + int64(c.clock()) }

// run serves until the stream ends, or ctx does and the last frames are out.
func (c *connection) run(ctx, sctx context.Context) error {
	c.heard.Store(c.now())
	g, gctx := errgroup.WithContext(sctx)
	// The first that fails ends the stream, which wakes the others.
	defer context.AfterFunc(gctx, func() {
		c.cancel(context.Cause(gctx))
		c.work.Close()
	})()
	g.Go(func() error { return contain.Do(func() error { return c.send(ctx) }) })
	g.Go(func() error {
		defer close(c.over)
		return contain.Do(c.receive)
	})
	g.Go(func() error { return c.watch(gctx) })
	err := g.Wait()
	if cause := context.Cause(sctx); errors.Is(cause, errSilent) {
		return cause
	}
	return err
}

func (c *connection) receive() error {
	for {
		m, err := c.stream.Recv()
		if err != nil {
			return err
		}
		c.heard.Store(c.now())
		c.work.Receive(m)
	}
}

func (c *connection) send(ctx context.Context) error {
	for {
		m, err := c.work.Next(ctx)
		if ctx.Err() != nil {
			return c.part()
		}
		if err != nil {
			return err
		}
		c.sending.Store(c.now())
		err = c.stream.Send(m)
		c.sending.Store(0)
		if errors.Is(err, io.EOF) {
			<-c.over // receive knows why
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// part ends the connection in order: control sees the end after the last frame.
func (c *connection) part() error {
	if err := c.stream.CloseSend(); err != nil {
		return err
	}
	select {
	case <-c.over:
	case <-time.After(partTimeout):
	}
	return context.Canceled
}

// watch ends a connection on which nothing came, or one frame did not leave, for a whole ttl.
func (c *connection) watch(ctx context.Context) error {
	tick := time.NewTicker(c.ttl / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			now, since := c.now(), c.sending.Load()
			if now-c.heard.Load() > int64(c.ttl) || since != 0 && now-since > int64(c.ttl) {
				return errSilent
			}
		}
	}
}
