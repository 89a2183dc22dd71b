package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/fair"
	"github.com/pawl-dev/pawl/services/control/lane"
)

// groupSize bounds how many operations one transaction holds.
const groupSize = 256

var (
	begin    = sql(`BEGIN IMMEDIATE`)
	commit   = sql(`COMMIT`)
	rollback = sql(`ROLLBACK`)
)

// tx is what an operation works on: the writer's connection inside a transaction, and the time of that transaction.
// mailed is what MoveMail is to tell of then.
type tx struct {
	*conn
	now     time.Time
	damaged func(error) // hears of rows that cannot be decoded
	mailed  *[]lane.Mailed
}

func (t tx) micros() int64 { return t.now.UnixMicro() }

// operation is one caller's write. do runs again from the start when another operation of its group fails, so it may
// depend on the database and on its own arguments only.
type operation struct {
	do    func(tx) error
	state atomic.Int32 // waiting, then begun or abandoned
	done  chan error
}

const (
	waiting int32 = iota
	begun
	abandoned
)

// writer owns all writes of the database. It runs whatever operations are queued as one transaction: with an fsync per
// group rather than per operation, throughput grows with the number of callers. Tenants take turns: however many
// operations of one wait, the next transaction has some of each. Operations that are of no tenant have turns as one
// has.
type writer struct {
	conns *pool // of one connection; the readers' pool too when the database is in memory
	now   func() time.Time
	hears func(error) // of damaged rows
	wake  await.Signal
	once  sync.Once
	stop  chan struct{}
	ended chan struct{}

	mu     sync.Mutex // guards what follows
	queue  fair.Queue[*operation]
	closed bool
}

func startWriter(conns *pool, now func() time.Time, damaged func(error)) *writer {
	w := &writer{
		conns: conns, now: now, hears: damaged,
		wake: await.NewSignal(), stop: make(chan struct{}), ended: make(chan struct{}),
	}
	go w.run()
	return w
}

// close finishes what is queued and ends the goroutine.
func (w *writer) close() {
	w.once.Do(func() {
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		close(w.stop)
	})
	<-w.ended
}

// write runs do in a transaction and returns when that is committed. When ctx ends first, do has not run and will not:
// an operation that has begun is waited for, so that its answer is definite.
func (w *writer) write(ctx context.Context, tenant string, do func(tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op := &operation{do: do, done: make(chan error, 1)}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	w.queue.Push(tenant, op)
	w.mu.Unlock()
	w.wake.Set()
	select {
	case err := <-op.done:
		return err
	case <-w.ended:
		return op.last()
	case <-ctx.Done():
	}
	if op.state.CompareAndSwap(waiting, abandoned) {
		return ctx.Err()
	}
	select {
	case err := <-op.done:
		return err
	case <-w.ended:
		return op.last()
	}
}

// last is the answer once the writer has ended, which may have been just after it gave one.
func (op *operation) last() error {
	select {
	case err := <-op.done:
		return err
	default:
		return ErrClosed
	}
}

func (w *writer) run() {
	defer close(w.ended)
	group := make([]*operation, 0, groupSize)
	for {
		stopped := false
		select {
		case <-w.wake:
		case <-w.stop:
			stopped = true
		}
		runtime.Gosched() // the callers that the last group answered are about to queue again
		for group = w.gather(group[:0]); len(group) > 0; group = w.gather(group[:0]) {
			w.transact(group)
			runtime.Gosched()
		}
		if stopped {
			return
		}
	}
}

// gather takes the operations whose turn it is.
func (w *writer) gather(group []*operation) []*operation {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(group) < groupSize {
		op, ok := w.queue.Pop()
		if !ok {
			break
		}
		group = append(group, op)
	}
	return group
}

// transact runs the group in one transaction and answers each operation. An operation that fails before it has written
// costs the others nothing. One that fails later takes the transaction with it, is answered, and the rest begins again:
// that is rare, and cheaper than a savepoint around every operation.
func (w *writer) transact(group []*operation) {
	group = started(group)
	for len(group) > 0 {
		results := make([]error, len(group))
		spoiler, err := w.attempt(group, results)
		if spoiler < 0 {
			for i, op := range group {
				if err != nil { // of the whole transaction
					results[i] = err
				}
				op.done <- results[i]
			}
			return
		}
		group[spoiler].done <- err
		group = append(group[:spoiler], group[spoiler+1:]...)
	}
}

// started leaves out the operations whose callers gave up.
func started(group []*operation) []*operation {
	live := group[:0]
	for _, op := range group {
		if op.state.CompareAndSwap(waiting, begun) {
			live = append(live, op)
		}
	}
	return live
}

// attempt runs the operations in a transaction. It returns which of them spoiled it and with what, or -1 and the
// failure of the transaction itself.
func (w *writer) attempt(group []*operation, results []error) (spoiler int, err error) {
	c, err := w.conns.get(context.Background())
	if err != nil {
		return -1, err
	}
	defer w.conns.put(c)
	spoiler = -1
	err = contain.Do(func() (err error) { spoiler, err = w.perform(c, group, results); return err })
	if contain.Is(err) && spoiler < 0 { // outside of the operations
		err = errors.Join(err, c.undo())
	}
	return spoiler, err
}

// perform is attempt on a connection.
func (w *writer) perform(c *conn, group []*operation, results []error) (spoiler int, err error) {
	if _, err := c.exec(begin); err != nil {
		return -1, fmt.Errorf("beginning a transaction: %w", err)
	}
	t := tx{conn: c, now: w.now(), damaged: w.hears}
	wrote := false
	for i, op := range group {
		c.wrote = false
		results[i] = contain.Do(func() error { return op.do(t) })
		// What an operation that panicked has written is not known.
		if err := results[i]; err != nil && (c.wrote || contain.Is(err)) {
			if undo := c.undo(); undo != nil {
				err = errors.Join(err, undo)
			}
			return i, err
		}
		wrote = wrote || c.wrote
	}
	if !wrote { // e.g. refused by a fence
		return -1, c.undo()
	}
	if _, err := c.exec(commit); err != nil {
		return -1, errors.Join(fmt.Errorf("committing: %w", err), c.undo())
	}
	return -1, nil
}

// undo ends the transaction without its writes. SQLite may have done so by itself, e.g. when the disk is full.
func (c *conn) undo() error {
	if _, err := c.exec(rollback); err != nil && c.inTransaction() {
		return fmt.Errorf("rolling back: %w", err)
	}
	return nil
}

// inTransaction reports whether a transaction is open: beginning another fails then.
func (c *conn) inTransaction() bool {
	if _, err := c.exec(begin); err != nil {
		return true
	}
	_, err := c.exec(rollback)
	return err != nil
}
