package postgres

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/contain"
)

const (
	// maxFlush bounds the operations of one statement.
	maxFlush = 256
	// maxQueue is how many operations of a tenant wait before its callers do.
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

	origin
	left atomic.Bool // the caller is gone
	done chan struct{}
}

// origin is where an operation comes from.
type origin struct{ tenant, session string }

// line is the operations of a tenant that wait, in order.
type line[In, Out any] struct {
	tenant string
	ops    []*op[In, Out]
	at     int // how many of them take has looked at
	kept   int // how many of these it leaves
}

// door is where a tenant's callers wait before their operations do.
type door struct {
	slots   chan struct{}
	callers int
}

// group commits independent operations together: what arrives while flushes are under way is the next batch, so that a
// lone caller never waits and many callers share the cost of a commit. A batch has one operation per session, and a
// session is in one batch at a time: operations on a session keep their order, and no statement meets a row twice.
// Tenants take turns: however many operations of one wait, the next batch has some of each.
type group[In, Out any] struct {
	flush func(ctx context.Context, ops []*op[In, Out]) error

	mu     sync.Mutex // guards what follows
	wake   sync.Cond
	lines  []*line[In, Out] // the one whose turn it is first; none is empty
	doors  map[string]*door
	busy   map[string]bool // sessions in a batch that is under way
	flying int             // flushes that are under way
	late   int             // those of them that take longer than lateAfter
	closed bool
}

func newGroup[In, Out any](flush func(context.Context, []*op[In, Out]) error) *group[In, Out] {
	g := &group[In, Out]{flush: flush, doors: map[string]*door{}, busy: map[string]bool{}}
	g.wake.L = &g.mu
	return g
}

// do queues an operation and waits for its answer. When ctx ends first, it may be carried out nevertheless.
func (g *group[In, Out]) do(ctx context.Context, from origin, in In) (out Out, err error) {
	d := g.door(from.tenant)
	defer g.leave(from.tenant, d)
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return out, ctx.Err()
	}
	o := &op[In, Out]{in: in, origin: from, done: make(chan struct{})}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return out, errClosed
	}
	g.add(o)
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

// door is a tenant's, which is there for as long as it has callers.
func (g *group[In, Out]) door(tenant string) *door {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.doors[tenant]
	if d == nil {
		d = &door{slots: make(chan struct{}, maxQueue)}
		g.doors[tenant] = d
	}
	d.callers++
	return d
}

func (g *group[In, Out]) leave(tenant string, d *door) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d.callers--; d.callers == 0 {
		delete(g.doors, tenant)
	}
}

// add queues an operation behind the others of its tenant. The caller holds mu.
func (g *group[In, Out]) add(o *op[In, Out]) {
	for _, l := range g.lines {
		if l.tenant == o.tenant {
			l.ops = append(l.ops, o)
			return
		}
	}
	g.lines = append(g.lines, &line[In, Out]{tenant: o.tenant, ops: []*op[In, Out]{o}})
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

// take removes the first operations whose sessions are free from the lines: one of each tenant in turn, until there is
// none, or a batch is full.
func (g *group[In, Out]) take() (batch []*op[In, Out]) {
	turn := 0
	for idle := 0; len(batch) < maxFlush && idle < len(g.lines); turn++ {
		idle++
		if o := g.first(g.lines[turn%len(g.lines)]); o != nil {
			batch, idle = append(batch, o), 0
		}
	}
	if len(g.lines) > 0 {
		turn %= len(g.lines)
		g.lines = slices.Concat(g.lines[turn:], g.lines[:turn])
	}
	g.lines = slices.DeleteFunc(g.lines, func(l *line[In, Out]) bool { return l.tidy() == 0 })
	return batch
}

// first takes the first operation of a line whose session is free; nil when there is none.
func (g *group[In, Out]) first(l *line[In, Out]) *op[In, Out] {
	for l.at < len(l.ops) {
		o := l.ops[l.at]
		l.at++
		switch {
		case o.left.Load():
		case g.busy[o.session]:
			l.ops[l.kept] = o
			l.kept++
		default:
			g.busy[o.session] = true
			return o
		}
	}
	return nil
}

// tidy closes the gaps that take has left, and says how many operations wait.
func (l *line[In, Out]) tidy() int {
	n := l.kept + copy(l.ops[l.kept:], l.ops[l.at:])
	clear(l.ops[n:])
	l.ops, l.at, l.kept = l.ops[:n], 0, 0
	return n
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
		if len(g.lines) > 0 {
			g.wake.Signal()
		}
	}
}

// close ends the group; operations that are not under way fail.
func (g *group[In, Out]) close() {
	g.mu.Lock()
	g.closed = true
	for _, l := range g.lines {
		for _, o := range l.ops {
			o.err = errClosed
			close(o.done)
		}
	}
	g.lines = nil
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
