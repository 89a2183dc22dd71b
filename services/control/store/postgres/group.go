package postgres

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/contain"
)

const (
	// maxFlush bounds the operations of one statement.
	maxFlush = 256
	// maxQueue is how many operations wait before callers do.
	maxQueue = 10_000
	// flushers are the flushes that may be under way. There is one as long as it is fast: two would halve the batches,
	// and each prompt then costs control and the database a third more.
	flushers = 2
	// lateAfter is how long a flush may hold up what comes after it: a lock, a disk or a connection may be slow.
	lateAfter = 20 * time.Millisecond
)

// op is an operation with its answer. again says that an earlier try may have been committed.
type op[In, Out any] struct {
	in    In
	out   Out
	err   error
	again bool

	session string
	left    atomic.Bool // the caller is gone
	done    chan struct{}
}

// group commits independent operations together: what arrives while flushes are under way is the next batch, so that a
// lone caller never waits and many callers share the cost of a commit. A batch has one operation per session, and a
// session is in one batch at a time: operations on a session keep their order, and no statement meets a row twice.
type group[In, Out any] struct {
	flush func(ctx context.Context, ops []*op[In, Out]) error
	slots chan struct{} // back-pressure

	mu     sync.Mutex // guards what follows
	wake   sync.Cond
	queue  []*op[In, Out]
	busy   map[string]bool // sessions in a batch that is under way
	flying int             // flushes that are under way
	late   int             // those of them that take longer than lateAfter
	closed bool
}

func newGroup[In, Out any](flush func(context.Context, []*op[In, Out]) error) *group[In, Out] {
	g := &group[In, Out]{flush: flush, slots: make(chan struct{}, maxQueue), busy: map[string]bool{}}
	g.wake.L = &g.mu
	return g
}

// do queues an operation and waits for its answer. When ctx ends first, it may be carried out nevertheless.
func (g *group[In, Out]) do(ctx context.Context, session string, in In) (out Out, err error) {
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return out, ctx.Err()
	}
	o := &op[In, Out]{in: in, session: session, done: make(chan struct{})}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return out, errClosed
	}
	g.queue = append(g.queue, o)
	g.mu.Unlock()
	g.wake.Signal()
	select {
	case <-o.done:
		return o.out, o.err
	case <-ctx.Done():
		o.left.Store(true)
		return out, ctx.Err()
	}
}

// run flushes until close, and returns when the last flush has ended.
func (g *group[In, Out]) run(
	ctx context.Context, retry func(context.Context, func(context.Context, bool) error) error,
) {
	var wg sync.WaitGroup
	for range flushers {
		wg.Go(func() {
			for batch := g.next(); batch != nil; batch = g.next() {
				finish := g.begin(batch)
				g.settle(ctx, batch, retry)
				finish()
			}
		})
	}
	wg.Wait()
}

// next waits for a batch; nil after close.
func (g *group[In, Out]) next() []*op[In, Out] {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		if g.closed {
			return nil
		}
		if g.flying <= g.late {
			if batch := g.take(); len(batch) > 0 {
				g.flying++
				return batch
			}
		}
		g.wake.Wait()
	}
}

// take removes the first operations whose sessions are free from the queue.
func (g *group[In, Out]) take() (batch []*op[In, Out]) {
	rest := g.queue[:0]
	for i, o := range g.queue {
		switch {
		case o.left.Load():
		case len(batch) == maxFlush:
			rest = append(rest, g.queue[i:]...)
			clear(g.queue[len(rest):])
			g.queue = rest
			return batch
		case g.busy[o.session]:
			rest = append(rest, o)
		default:
			g.busy[o.session] = true
			batch = append(batch, o)
		}
	}
	clear(g.queue[len(rest):])
	g.queue = rest
	return batch
}

// settle answers every operation. One that spoils its batch is found by halving it.
func (g *group[In, Out]) settle(
	ctx context.Context, batch []*op[In, Out], retry func(context.Context, func(context.Context, bool) error) error,
) {
	err := retry(ctx, func(ctx context.Context, again bool) error {
		for _, o := range batch {
			o.again = o.again || again
		}
		return contain.Do(func() error { return g.flush(ctx, batch) })
	})
	switch {
	case err != nil && len(batch) > 1 && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrFull) &&
		ctx.Err() == nil:
		g.settle(ctx, batch[:len(batch)/2], retry)
		g.settle(ctx, batch[len(batch)/2:], retry)
	default:
		for _, o := range batch {
			if err != nil {
				o.err = err
			}
			close(o.done)
		}
	}
}

// begin watches over the flush of a batch: when it is late, the next may begin. What is returned ends that, and frees
// the batch's sessions.
func (g *group[In, Out]) begin(batch []*op[In, Out]) (finish func()) {
	late, over := false, false
	timer := time.AfterFunc(lateAfter, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if late = !over; late {
			g.late++
			g.wake.Signal()
		}
	})
	return func() {
		timer.Stop()
		g.mu.Lock()
		defer g.mu.Unlock()
		over = true
		g.flying--
		if late {
			g.late--
		}
		for _, o := range batch {
			delete(g.busy, o.session)
		}
		if len(g.queue) > 0 {
			g.wake.Signal()
		}
	}
}

// close ends the group; operations that are not under way fail.
func (g *group[In, Out]) close() {
	g.mu.Lock()
	g.closed = true
	for _, o := range g.queue {
		o.err = errClosed
		close(o.done)
	}
	g.queue = nil
	g.mu.Unlock()
	g.wake.Broadcast()
}

// send runs a batch on one connection. If what takes its rows panics, the connection is closed: nobody knows what it
// would say next.
func (s *Store) send(ctx context.Context, batch *pgx.Batch) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return conn.SendBatch(ctx, batch).Close()
}
