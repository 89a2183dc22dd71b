package turn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	// drainLimit is how long answers may go on streaming when the process wants to end. The time until the last of n
	// answers has ended grows with ln n: of 1,000 that take 3 s on average nearly all have ended by then.
	drainLimit = 20 * time.Second
	// MaxDepth is how deep sub-agents may work for sub-agents.
	MaxDepth = 4
	// maxChildren is how many sub-agents may work at once for one strand, maxLoops how many loops in one lane.
	maxChildren = 8
	maxLoops    = 64
)

// ErrLeft ends the work of a strand that has stopped at a safe point for the lane to be handed back.
var ErrLeft = errors.New("the lane is handed back")

// Lane is an owned lane at work on its head: what its strands share, with a field for each such thing. Methods may be
// called concurrently, but for Take and Run.
type Lane struct {
	deps  Deps
	owner *lane.Owner
	key   session.Key // of the stream
	head  head
	group sync.WaitGroup
	gates atomic.Int32 // how many calls wait for approvals, and strands for times

	mu       sync.Mutex // guards what follows
	drains   bool       // the process wants to end
	executor string     // that the workspace is bound to
	mail     int64      // of the lane, when its row was last read for that
	heard    int64      // of the mail, that strands look for what it was about
	strands  map[*Strand]struct{}
	calls    map[string]*Strand // who waits for a call
	outcome  outcome
	resting  rests
}

// head is what the lane works on.
type head struct {
	lane.Lease                 // as it was taken
	ctx        context.Context // of the work on it
	over       <-chan struct{} // closed when the head has to end
	leave      chan struct{}   // closed when strands are to stop at their next safe point
	cut        chan struct{}   // closed when streams are not waited for any longer
}

// outcome is how the work on a head has come to an end so far.
type outcome struct {
	err    error
	cut    *time.Timer // closes the head's cut; set when its leave is closed
	yields string      // the loop that another replica can do more for, "" for none
	away   string      // the executor that it cannot reach
	cancel context.CancelFunc
}

// Job is the work of a strand. An error that says neither that the lane rests, is handed back or is lost is charged to
// the strand's loop.
type Job struct {
	*Strand
	Work func(ctx context.Context) error
}

// NewLane makes the owner's present head the work of strands.
func NewLane(d Deps, o *lane.Owner) *Lane {
	l := &Lane{deps: d, owner: o}
	l.Take()
	return l
}

// Take makes the owner's present head the lane's work, after the one before has ended.
func (l *Lane) Take() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = head{
		Lease: l.owner.Lease(), over: l.owner.Ending(), leave: make(chan struct{}), cut: make(chan struct{}),
	}
	l.key, l.executor, l.mail, l.heard = l.head.Root().Key, l.head.Executor, l.head.Mail, l.head.Mail
	l.strands, l.calls = map[*Strand]struct{}{}, map[string]*Strand{}
	l.outcome, l.resting = outcome{}, rests{}
	l.gates.Store(0)
	if l.drains {
		l.leave()
	}
}

// Run works on the head until its root has ended, or no strand goes on, and does with the lane what has become of it:
// ended is false when it rests, or was handed back. begin makes the first jobs, whose strands it adds; the first is the
// root's, in the caller's goroutine. ctx is that of all work.
func (l *Lane) Run(ctx context.Context, begin func(ctx context.Context) ([]Job, error)) (ended bool, err error) {
	switch err := l.run(ctx, begin); {
	case l.resting.parked:
		return false, nil
	case errors.Is(err, ErrLeft) && l.outcome.yields != "":
		return false, l.owner.Yield(ctx, l.outcome.yields, fmt.Errorf("executor %q cannot be reached through the "+
			"replica that it is connected to", l.outcome.away))
	case errors.Is(err, ErrLeft):
		return false, l.owner.HandBack(ctx)
	default:
		return err == nil, err
	}
}

func (l *Lane) run(ctx context.Context, begin func(ctx context.Context) ([]Job, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.head.ctx, l.outcome.cancel = ctx, cancel
	jobs, err := begin(ctx)
	if err != nil {
		return err
	}
	for _, j := range jobs[1:] {
		l.Go(j)
	}
	l.work(jobs[0])
	l.group.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.outcome.cut != nil {
		l.outcome.cut.Stop()
	}
	return l.outcome.err
}

// Go does a job, whose strand was added, in its own goroutine.
func (l *Lane) Go(j Job) { l.group.Go(func() { l.work(j) }) }

func (l *Lane) work(j Job) {
	l.ended(j.Strand, contain.Do(func() error { return j.Work(l.head.ctx) }))
}

// ended notes the end of a strand's work. The first error that is not that the lane is handed back ends all of them.
func (l *Lane) ended(t *Strand, err error) {
	l.mu.Lock()
	switch {
	case l.resting.parked: // whatever else was said: nobody writes any more
		l.outcome.cancel()
	case err == nil && t.root():
		l.outcome.cancel() // what is still there has settled with it
	case err == nil:
	case errors.Is(err, ErrLeft):
		if l.outcome.err == nil {
			l.outcome.err = err
		}
	case l.outcome.err == nil || errors.Is(l.outcome.err, ErrLeft):
		l.outcome.err = t.Blame(err)
		l.outcome.cancel()
	}
	l.mu.Unlock()
	l.Remove(t)
}

// Add adds a strand to those at work.
func (l *Lane) Add(t *Strand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strands[t] = struct{}{}
}

// Admit adds the strand of a sub-agent to those at work; false when there is no room for it. Those of one depth leave a
// place for each depth below: loops that wait for sub-agents never take all the places that these need.
func (l *Lane) Admit(child *Strand) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	siblings := 0
	for t := range l.strands {
		if t.parent == child.parent && t.loop() {
			siblings++
		}
	}
	if siblings >= maxChildren || l.loops() >= maxLoops-(MaxDepth-child.depth) {
		return false
	}
	l.strands[child] = struct{}{}
	return true
}

// loops counts strands, but for those that only carry out calls for another one. The mutex is held.
func (l *Lane) loops() (n int) {
	for t := range l.strands {
		if t.loop() {
			n++
		}
	}
	return n
}

// Remove takes a strand away from those at work, and has those that wait for its place look again. That of a job is
// removed when it has been done.
func (l *Lane) Remove(t *Strand) {
	l.mu.Lock()
	full := l.loops() >= maxLoops-MaxDepth
	delete(l.strands, t)
	l.mu.Unlock()
	switch {
	case full:
		l.Nudge()
	case t.parent != nil:
		t.parent.Nudge()
	}
}

// Owner is the lane's.
func (l *Lane) Owner() *lane.Owner { return l.owner }

// Head is what the lane works on, as it was taken.
func (l *Lane) Head() lane.Lease { return l.head.Lease }

// Key is that of the stream.
func (l *Lane) Key() session.Key { return l.key }

func (l *Lane) id() string { return l.head.Fence.LaneID }

// Over is closed when the head has to end; the owner says why.
func (l *Lane) Over() <-chan struct{} { return l.head.over }

// Leave is closed when strands are to stop at their next safe point.
func (l *Lane) Leave() <-chan struct{} { return l.head.leave }

// Cut is closed when nothing is waited for any longer before that.
func (l *Lane) Cut() <-chan struct{} { return l.head.cut }

// Leaving reports whether strands are to stop at their next safe point.
func (l *Lane) Leaving() bool { return Closed(l.head.leave) }

// Drain has the lane handed back at the next safe point of each strand.
func (l *Lane) Drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drains = true
	l.leave()
}

// yield leaves the lane to another replica: a loop cannot reach an executor from here.
func (l *Lane) yield(loopID, executor string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcome.yields, l.outcome.away = loopID, executor
	l.leave()
}

// leave makes strands stop at their next safe point, and cuts their streams when it has waited for them. The mutex is
// held.
func (l *Lane) leave() {
	if l.outcome.cut == nil {
		cut := l.head.cut
		close(l.head.leave)
		l.outcome.cut = time.AfterFunc(drainLimit, func() { close(cut) })
	}
}

// Closed reports whether a channel is closed on which nothing is sent.
func Closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Deliver takes an executor's report to the strand that waits for the call; false when none does. It never blocks.
func (l *Lane) Deliver(r call.Report) bool {
	l.mu.Lock()
	t := l.calls[r.CallID]
	l.mu.Unlock()
	return t != nil && t.mail.post(r)
}

// route makes reports of a call reach a strand, until release.
func (l *Lane) route(callID string, t *Strand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[callID] = t
}

func (l *Lane) release(calls []*Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range calls {
		delete(l.calls, c.ID)
	}
}

// Nudge has all strands look again at what they wait for. It never blocks.
func (l *Lane) Nudge() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := range l.strands {
		t.Nudge()
	}
}

// hear has strands look again if the lane has got mail of which the answer to a commit tells: nobody else tells of
// that.
func (l *Lane) hear(mail int64) {
	l.mu.Lock()
	came := mail > l.heard
	l.heard = max(l.heard, mail)
	l.mu.Unlock()
	if came {
		l.Nudge()
	}
}
