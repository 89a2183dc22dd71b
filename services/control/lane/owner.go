package lane

import (
	"context"
)

// Owner is an owned lane in this process: its fence, the head of its stream, and the commits of its loops, which it
// merges. Methods may be called by several loops at once.
type Owner struct{}

// Lease is the lane as it was taken, and after Commit has gone on with the next head, that one.
func (o *Owner) Lease() Lease { panic("lane") }

// Fence is the ownership that messages to executors carry. It changes with Raise.
func (o *Owner) Fence() Fence { panic("lane") }

// Commit writes a step and returns when that is durable and published; steps that other loops want meanwhile are
// written together with it. It fills in the seqs of the step's events. It tries again while the database is away.
// ErrFenced, call.ErrEnded (of this step alone), or an error of the rows.
func (o *Owner) Commit(ctx context.Context, s Step) error { panic("lane") }

// CommitWith is Commit with what concerns the lane.
func (o *Owner) CommitWith(ctx context.Context, s Step, with With) (Committed, error) { panic("lane") }

// With is what a commit does to the lane beside a step.
type With struct {
	Executor string // binds the workspace
	Continue bool   // see Commit; when Committed.Next is set, Lease is that one from then on
	Park     *Park
}

// Ending is closed once the head has to end; Why says for what reason. It belongs to the head that Lease returns.
func (o *Owner) Ending() <-chan struct{} { panic("lane") }

// Why is NoEnd before Ending is closed.
func (o *Owner) Why() Why { panic("lane") }

// Ends is how much time the head has left, counted on the monotonic clock; Never.
func (o *Owner) Ends() Ends { panic("lane") }

// Mail is the mail counter of the last claim, commit or look at the row.
func (o *Owner) Mail() int64 { panic("lane") }

// Draining is closed when the process wants to end: hand the lane back at the next safe point.
func (o *Owner) Draining() <-chan struct{} { panic("lane") }

// HandBack releases the lane with nothing charged. Drive returns its error, or nil, after it.
func (o *Owner) HandBack(ctx context.Context) error { panic("lane") }

// Yield is HandBack, and this process claims nothing for a moment: another one can do what this one cannot.
func (o *Owner) Yield(ctx context.Context) error { panic("lane") }

// Raise lifts the epoch above one that an executor knows. The lane's commits rest meanwhile.
func (o *Owner) Raise(ctx context.Context, above int64) error { panic("lane") }
