package lane

import (
	"context"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/session"
)

// Owner is an owned lane in this process: its fence, the head of its stream, and the commits of its loops, which it
// merges. Methods may be called by several loops at once.
type Owner struct {
	worker *Worker
	key    session.Key     // of the stream
	ctx    context.Context // of the run
	cancel context.CancelFunc
	merge  merger

	mu    sync.Mutex // guards what follows
	lease Lease
	since int64   // the head of the stream when the head was taken
	end   *ending // of the head
}

func newOwner(w *Worker, l Lease) *Owner {
	o := &Owner{worker: w, key: l.Root().Key}
	o.ctx, o.cancel = context.WithCancel(w.ctx)
	o.merge.write = o.write
	o.take(l)
	return o
}

// take makes the head of a lease the present one.
func (o *Owner) take(l Lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end != nil {
		o.end.stop()
	}
	o.lease, o.since, o.end = l, l.EventHead, newEnding(l.Ends)
}

// Lease is the lane as it is now: as it was taken, with what commits have changed. After Commit has gone on with the
// next head, it is that one's. Its Loops are those that were open when the head was taken.
func (o *Owner) Lease() Lease {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lease
}

// head is the id of the loop at the head.
func (o *Owner) head() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lease.Root().ID
}

// Fence is the ownership that messages to executors carry. It changes with Raise.
func (o *Owner) Fence() Fence {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lease.Fence
}

// Ending is closed once the head has to end; Why says for what reason. It belongs to the head that Lease returns.
func (o *Owner) Ending() <-chan struct{} { return o.ending().done }

// Why is NoEnd before Ending is closed.
func (o *Owner) Why() Why { return o.ending().reason() }

// Ends is how much time the head has left, counted on the monotonic clock; Never.
func (o *Owner) Ends() Ends { return o.ending().left() }

func (o *Owner) ending() *ending {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.end
}

// Mail is the mail counter of the last claim, commit or look at the row.
func (o *Owner) Mail() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lease.Mail
}

// heard takes in what a look at the lane's row has found; true when mail came.
func (o *Owner) heard(h Held) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if h.Fence != o.lease.Fence || h.Mail < o.lease.Mail || h.EventHead < o.since { // older than what is known
		return false
	}
	came := h.Mail > o.lease.Mail
	o.lease.Mail = h.Mail
	o.end.set(h.Ends)
	return came
}

// HandBack releases the lane with nothing charged; Drive returns after it. It tries again while the database is away: a
// take-over would be charged. If it fails for long although the database answers otherwise, the head is settled.
func (o *Owner) HandBack(ctx context.Context) error {
	return o.merge.alone(func() error {
		o.giveBack(ctx, func(ctx context.Context, f Fence) error {
			return o.worker.deps.Store.Release(ctx, f, Release{})
		}, "")
		return nil
	})
}

// Yield is HandBack, and this process claims nothing for a moment: another one can do for a loop what this one cannot.
// When that was said too often in a row, nobody can: cause is the loop's error then, and the lane is not handed back.
func (o *Owner) Yield(ctx context.Context, loopID string, cause error) error {
	if o.worker.troubles.again(loopID, time.Now()) >= maxYields {
		return &LoopError{LoopID: loopID, Err: cause}
	}
	o.worker.deferClaims()
	return o.HandBack(ctx)
}

// Raise lifts the epoch above one that an executor knows, as after a restore of an older database. The lane's commits
// rest meanwhile.
func (o *Owner) Raise(ctx context.Context, above int64) error {
	return o.merge.alone(func() error {
		before := o.Fence()
		if before.Epoch > above {
			return nil // another loop's call has raised it
		}
		after, err := o.worker.deps.Store.Raise(ctx, before, above)
		if err != nil {
			return err
		}
		o.worker.deps.Log.Warn("the epoch of a lane was raised above one that an executor knows",
			"lane_id", before.LaneID, "epoch", before.Epoch, "raised_to", after.Epoch,
			"reason", "the database is older than the executor's journal, as after a restore")
		o.mu.Lock()
		defer o.mu.Unlock()
		o.lease.Fence = after
		return nil
	})
}

// ending is when one head has to end, on this process's monotonic clock.
type ending struct {
	done chan struct{} // closed once it has to

	mu    sync.Mutex // guards what follows
	at    time.Time  // zero: never
	why   Why
	due   bool
	timer *time.Timer
}

func newEnding(e Ends) *ending {
	n := &ending{done: make(chan struct{})}
	n.set(e)
	return n
}

// set takes in what the lane's row says. What is due stays due, for the first reason. A deadline is set once, when the
// head begins, and counted here from then on: a later look tells another time only if the database's clock has jumped.
func (e *ending) set(x Ends) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.due || x.Why == Deadline && e.why == Deadline {
		return
	}
	e.why = x.Why
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	switch {
	case x.Why == NoEnd || x.In == Never:
		e.at = time.Time{}
	case x.Why == Abort || x.In <= 0:
		e.at, e.due = time.Now().Add(x.In), true
		close(e.done)
	default:
		e.at = time.Now().Add(x.In)
		e.timer = time.AfterFunc(x.In, e.pass)
	}
}

// pass is the end of the time.
func (e *ending) pass() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.due && !e.at.IsZero() && !time.Now().Before(e.at) {
		e.due = true
		close(e.done)
	}
}

func (e *ending) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timer != nil {
		e.timer.Stop()
	}
}

func (e *ending) reason() Why {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.due {
		return NoEnd
	}
	return e.why
}

func (e *ending) left() Ends {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at.IsZero() {
		return Ends{In: Never}
	}
	return Ends{In: time.Until(e.at), Why: e.why}
}
