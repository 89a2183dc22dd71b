package loop

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
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	// fairShare is how many heads of one lane a run takes before others get its slot.
	fairShare = 16
	// drainLimit is how long answers may go on streaming when the process wants to end. The time until the last of n
	// answers has ended grows with ln n: of 1,000 that take 3 s on average nearly all have ended by then.
	drainLimit = 20 * time.Second
	// maxDepth is how deep sub-agents may work for sub-agents.
	maxDepth = 4
	// maxChildren is how many sub-agents may work at once for one loop, maxLoops how many loops in one lane.
	maxChildren = 8
	maxLoops    = 64
)

// errLeft ends a loop that has stopped at a safe point for the lane to be handed back.
var errLeft = errors.New("the lane is handed back")

// tree is the loops of a lane at work, with a field for each thing that they share.
type tree struct {
	*Runner
	owner *lane.Owner
	key   session.Key // of the root's conversation, and of the stream
	fresh bool        // admission has started the head in the same transaction; nobody was told yet
	taken int         // heads that this run has taken
	head  head
	kept  *conversation // of the root, for the next head
	group sync.WaitGroup
	gates atomic.Int32 // how many calls wait for approvals

	mu       sync.Mutex // guards what follows
	drains   bool       // the process wants to end
	executor string     // that the workspace is bound to
	mail     int64      // of the lane, when its row was last read for that
	heard    int64      // of the mail, that loops look for what it was about
	loops    map[string]*loop
	calls    map[string]*loop // who waits for a call
	outcome  outcome
	resting  rests
}

// head is what the tree works on.
type head struct {
	lane.Lease                 // as it was taken
	ctx        context.Context // of the work on it
	over       <-chan struct{} // closed when the head has to end
	leave      chan struct{}   // closed when loops are to stop at their next safe point
	cut        chan struct{}   // closed when streams are not waited for any longer
}

// outcome is how the work on a head has come to an end so far.
type outcome struct {
	err    error
	next   bool        // the lane goes on with another head
	cut    *time.Timer // closes the head's cut; set when its leave is closed
	yields string      // the loop that another replica can do more for, "" for none
	away   string      // the executor that it cannot reach
	cancel context.CancelFunc
}

func newTree(r *Runner, o *lane.Owner, fresh bool) *tree {
	t := &tree{Runner: r, owner: o, fresh: fresh}
	t.take()
	return t
}

// take makes the owner's present head the tree's work.
func (t *tree) take() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.head = head{
		Lease: t.owner.Lease(), over: t.owner.Ending(), leave: make(chan struct{}), cut: make(chan struct{}),
	}
	t.key, t.executor, t.mail, t.heard = t.head.Root().Key, t.head.Executor, t.head.Mail, t.head.Mail
	t.loops, t.calls = map[string]*loop{}, map[string]*loop{}
	t.outcome, t.resting = outcome{}, rests{}
	t.gates.Store(0)
	t.taken++
	if t.drains {
		t.leave()
	}
}

// Drive implements lane.Run.
func (t *tree) Drive(ctx context.Context) error {
	for {
		err := t.run(ctx)
		switch {
		case t.resting.parked:
			return nil
		case errors.Is(err, errLeft) && t.outcome.yields != "":
			return t.owner.Yield(ctx, t.outcome.yields, fmt.Errorf("executor %q cannot be reached through the replica "+
				"that it is connected to", t.outcome.away))
		case errors.Is(err, errLeft):
			return t.owner.HandBack(ctx)
		case err != nil || !t.outcome.next:
			return err
		}
		t.fresh = false
		t.take()
	}
}

// run works on the head until it has settled, or no loop goes on.
func (t *tree) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.head.ctx, t.outcome.cancel = ctx, cancel
	loops, err := t.recover(ctx)
	if err != nil {
		return err
	}
	for _, l := range loops[1:] {
		t.start(ctx, l)
	}
	t.work(ctx, loops[0])
	t.group.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.outcome.cut != nil {
		t.outcome.cut.Stop()
	}
	return t.outcome.err
}

// recover makes the open loops, parents before their children, each as far as its rows tell.
func (t *tree) recover(ctx context.Context) ([]*loop, error) {
	var all []*loop
	for i := range t.head.Loops {
		row := t.head.Loops[i]
		l := newLoop(t, t.waiting(row.ParentCall), row)
		if err := contain.Do(func() error { return l.recover(ctx) }); err != nil {
			return nil, l.blame(err)
		}
		t.add(l)
		all = append(all, l)
	}
	return all, nil
}

func (t *tree) add(l *loop) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.loops[l.row.ID] = l
}

// waiting is the loop that waits for a call, nil for none.
func (t *tree) waiting(callID string) *loop {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls[callID]
}

// route makes reports of a call reach a loop, until release.
func (t *tree) route(callID string, l *loop) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls[callID] = l
}

func (t *tree) release(calls []*toolCall) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range calls {
		delete(t.calls, c.ID)
	}
}

// start runs a loop in its own goroutine. The root has that of the tree.
func (t *tree) start(ctx context.Context, l *loop) { t.group.Go(func() { t.work(ctx, l) }) }

// work runs a loop to its end.
func (t *tree) work(ctx context.Context, l *loop) {
	t.ended(l, contain.Do(func() error { return l.work(ctx) }))
}

// ended notes the end of a loop's work. The first error that is not that the lane is handed back ends all of them.
func (t *tree) ended(l *loop, err error) {
	t.mu.Lock()
	switch {
	case t.resting.parked: // whatever else was said: nobody writes any more
		t.outcome.cancel()
	case err == nil && l.root():
		t.outcome.cancel() // what is still there has settled with it
	case err == nil:
	case errors.Is(err, errLeft):
		if t.outcome.err == nil {
			t.outcome.err = err
		}
	case t.outcome.err == nil || errors.Is(t.outcome.err, errLeft):
		t.outcome.err = l.blame(err)
		t.outcome.cancel()
	}
	t.mu.Unlock()
	t.remove(l)
}

// blame says whose error it is, unless it is nobody's.
func (l *loop) blame(err error) error {
	if errors.Is(err, lane.ErrFenced) || errors.Is(err, context.Canceled) || errors.Is(err, errLeft) {
		return err
	}
	return &lane.LoopError{LoopID: l.row.ID, Err: err}
}

// rest notes how the root has ended.
func (t *tree) rest(root *loop, next bool) {
	t.outcome.next, t.kept = next, nil
	if next {
		t.kept = root.conversation
	} else {
		t.cache.put(root.row.SessionID, root.conversation)
	}
}

// Drain implements lane.Run.
func (t *tree) Drain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drains = true
	t.leave()
}

// yield leaves the lane to another replica: a loop cannot reach an executor from here.
func (t *tree) yield(loopID, executor string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outcome.yields, t.outcome.away = loopID, executor
	t.leave()
}

// leave makes loops stop at their next safe point, and cuts their streams when it has waited for them. The mutex is
// held.
func (t *tree) leave() {
	if t.outcome.cut == nil {
		cut := t.head.cut
		close(t.head.leave)
		t.outcome.cut = time.AfterFunc(drainLimit, func() { close(cut) })
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Deliver implements lane.Run.
func (t *tree) Deliver(r call.Report) bool {
	l := t.waiting(r.CallID)
	return l != nil && l.mail.post(r)
}

// Nudge implements lane.Run.
func (t *tree) Nudge() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.loops {
		l.mail.nudge()
	}
}

// hear has loops look again if the lane has got mail of which the answer to a commit tells: nobody else tells of that.
func (t *tree) hear(mail int64) {
	t.mu.Lock()
	came := mail > t.heard
	t.heard = max(t.heard, mail)
	t.mu.Unlock()
	if came {
		t.Nudge()
	}
}

// bound is the executor of the lane's workspace, "" for none.
func (t *tree) bound() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.executor
}

// bind gives the workspace an executor if it has none yet, and returns the one that it has.
func (t *tree) bind(executor string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.executor == "" {
		t.executor = executor
	}
	return t.executor
}

// lookWhere reads where the workspace is if mail has come since: somebody may have moved it.
func (t *tree) lookWhere(ctx context.Context) error {
	mail := t.owner.Mail()
	t.mu.Lock()
	known := t.mail == mail
	t.mu.Unlock()
	if known {
		return nil
	}
	s, err := t.deps.Store.GetSession(ctx, t.key.Tenant, t.head.Fence.LaneID)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mail = mail
	if s.Executor != "" {
		t.executor = s.Executor
	}
	return nil
}

// spend counts what a loop has cost for itself and everybody whom it works for.
func (t *tree) spend(l *loop, u model.Usage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; l != nil; l = l.parent {
		l.spent = l.spent.Add(u)
	}
}

// admit adds a sub-agent to the loops at work; false when there is no room for it. Those of one depth leave a place for
// each depth below: loops that wait for sub-agents never take all the places that these need.
func (t *tree) admit(child *loop) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	siblings := 0
	for _, l := range t.loops {
		if l.parent == child.parent {
			siblings++
		}
	}
	if siblings >= maxChildren || len(t.loops) >= maxLoops-(maxDepth-child.depth) {
		return false
	}
	t.loops[child.row.ID] = child
	return true
}

// remove takes a loop away from those at work, and has those that wait for its place look again.
func (t *tree) remove(l *loop) {
	t.mu.Lock()
	full := len(t.loops) >= maxLoops-maxDepth
	delete(t.loops, l.row.ID)
	t.mu.Unlock()
	switch {
	case full:
		t.Nudge()
	case l.parent != nil:
		l.parent.mail.nudge()
	}
}
