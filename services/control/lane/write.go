package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// With is what a commit does to the lane beside a step.
type With struct {
	Executor string // binds the workspace
	Continue bool   // see Commit; when Committed.Next is set, Lease is that one from then on
	Park     *Park
}

// Commit writes a step and returns when that is durable and published; steps that other loops want meanwhile are
// written together with it. It fills in the seqs of the step's events. It tries again while the database is away, until
// the lane is lost or the process gives it up; the end of a loop's own context does not stop a write. ErrFenced,
// call.ErrEnded (of this step alone), an error of the rows, or one that says that the database is away although it
// answers otherwise: nobody knows then whether the step is written, and the lane is to be handed back.
func (o *Owner) Commit(s Step) error {
	_, err := o.CommitWith(s, With{})
	return err
}

// CommitWith is Commit with what concerns the lane.
func (o *Owner) CommitWith(s Step, w With) (Committed, error) {
	r := &request{step: s, with: w, ends: s.End != nil && s.LoopID == o.head()}
	o.merge.pass(r)
	return r.out, r.err
}

// write commits a batch. A step that is at fault is answered, and the others go without it.
func (o *Owner) write(batch []*request) {
	for len(batch) > 0 {
		c := o.build(batch)
		out, err := o.try(c)
		var refused *Refused
		switch {
		case err == nil:
			o.applied(c, out)
			for _, r := range batch {
				r.out = out
			}
			return
		case errors.As(err, &refused) && len(batch) > 1:
			batch = without(batch, refused)
		case len(batch) > 1 && !errors.Is(err, ErrFenced) && !Outage(err) && o.ctx.Err() == nil:
			for i := range batch { // one of them contradicts the rows
				o.write(batch[i : i+1])
			}
			return
		default:
			if refused != nil {
				err = refused.Err
			}
			for _, r := range batch {
				r.err = err
			}
			return
		}
	}
}

// without answers the step at fault and returns the others; all are at fault for a refusal of a step that is not there.
func without(batch []*request, refused *Refused) (others []*request) {
	for _, r := range batch {
		if r.step.LoopID == refused.LoopID {
			r.err = refused.Err
		} else {
			others = append(others, r)
		}
	}
	if len(others) == len(batch) {
		for _, r := range batch {
			r.err = fmt.Errorf("a commit without such a loop: %w", refused)
		}
		return nil
	}
	return others
}

func (o *Owner) build(batch []*request) Commit {
	o.mu.Lock()
	c := Commit{
		Fence: o.lease.Fence, Kind: o.lease.Kind, ID: ident.New(), Tenant: o.lease.Root().Key.Tenant,
		EventHead: o.lease.EventHead,
	}
	o.mu.Unlock()
	seq := c.EventHead
	for _, r := range batch {
		for i := range r.step.Events {
			seq++
			r.step.Events[i].Seq = seq
		}
		c.Steps = append(c.Steps, r.step)
		c.Continue = c.Continue || r.with.Continue
		if r.with.Executor != "" {
			c.Executor = r.with.Executor
		}
		if r.with.Park != nil {
			c.Park = r.with.Park
		}
	}
	return c
}

// try commits until the database has answered, or has answered all else for long. What was written without our hearing
// of it is recognised by its id.
func (o *Owner) try(c Commit) (out Committed, err error) {
	began := time.Now()
	var wait *backoff.ExponentialBackOff // made when it is needed, which is seldom
	for {
		err = contain.Do(func() (err error) { out, err = o.worker.deps.Store.Commit(o.ctx, c); return err })
		if err == nil || !Outage(err) || o.ctx.Err() != nil || o.Lasting(err, began) {
			return out, err
		}
		o.worker.deps.Log.Warn("committing failed, trying again", "lane_id", c.Fence.LaneID, "error", err)
		if wait == nil {
			wait = &backoff.ExponentialBackOff{
				InitialInterval: 50 * time.Millisecond, MaxInterval: 5 * time.Second,
				RandomizationFactor: 0.5, Multiplier: 2,
			}
		}
		select {
		case <-time.After(wait.NextBackOff()):
		case <-o.ctx.Done():
			return out, context.Cause(o.ctx)
		}
	}
}

// applied brings the owner up to its commit and publishes it.
func (o *Owner) applied(c Commit, out Committed) {
	events := c.Events()
	o.mu.Lock()
	root := o.lease.Root().ID
	o.lease.EventHead += int64(len(events))
	o.lease.Mail = max(o.lease.Mail, out.Mail)
	if c.Executor != "" {
		o.lease.Executor = c.Executor
	}
	for i := range c.Steps {
		if s := &c.Steps[i]; s.Progresses() {
			o.progressed(s.LoopID)
		}
	}
	settled := c.Ending(root) != nil
	if !settled && !out.Parked {
		o.end.set(out.Ends)
	}
	o.mu.Unlock()
	o.worker.deps.Events.Publish(o.Fence().LaneID, o.key, events)
	if out.Parked && c.Park.For < 2*lookEvery {
		o.worker.deps.Bus.Publish(wake.Ready) // the next look at due lanes may be too late for it
	}
	if !settled {
		return
	}
	if out.Next != nil {
		o.take(*out.Next)
	}
	o.worker.deps.Bus.Announce(c.Fence.LaneID)
	if c.Kind == KindRun { // the next of its key, and who rests on it, have mail
		o.worker.mail.Set()
	}
	if out.Ready {
		o.worker.deps.Bus.PublishReady()
	}
}

// progressed clears a loop's stalls, as the commit has done, and its troubles. mu is held.
func (o *Owner) progressed(loopID string) {
	o.worker.troubles.forget(loopID)
	for i := range o.lease.Loops {
		if l := o.lease.Loops[i]; l.ID == loopID && l.Stalls > 0 {
			l.Stalls, l.StallCause = 0, ""
			o.lease.Loops = slices.Clone(o.lease.Loops) // others read those that Lease has returned
			o.lease.Loops[i] = l
		}
	}
}

// release gives the lane back after an error of its run, or settles its head if that was its last try. If even that is
// answered by an outage, the error was one, too, unless the database answers all else for long.
func (o *Owner) release(ctx context.Context, cause error) {
	why, end := o.charge(cause)
	o.giveBack(ctx, func(ctx context.Context, f Fence) error {
		var err error
		if end {
			err = o.giveUp(ctx, f, why.Cause)
		} else {
			err = o.worker.deps.Store.Release(ctx, f, why)
		}
		if Outage(err) && Outage(cause) {
			end, why = false, Release{Pause: retryAfter}
		}
		return err
	}, " after: "+cause.Error())
}

// giveBack hands the lane back with give. If that has failed for long, and the database answers all else, it settles
// the head from rows instead: nobody could go on with it. after is what is said of the reason to hand it back.
func (o *Owner) giveBack(ctx context.Context, give func(context.Context, Fence) error, after string) {
	w, f, began := o.worker, o.Fence(), time.Now()
	why := "" // to settle the head
	w.handBack(ctx, f, func(ctx context.Context) error {
		if why != "" {
			return o.giveUp(ctx, f, why)
		}
		err := give(ctx, f)
		if err != nil && time.Since(began) >= giveUpAfter && (!Outage(err) || w.lasting(err, began)) {
			why = "the lane cannot be handed back (" + err.Error() + ")" + after
		}
		return err
	})
}

// giveUp settles the head from rows.
func (o *Owner) giveUp(ctx context.Context, f Fence, cause string) error {
	ended, err := o.worker.deps.Store.End(ctx, f, Interrupted, ReasonStalled, stalled(maxStalls, cause))
	if err == nil {
		o.worker.settled(ended)
	}
	return err
}
