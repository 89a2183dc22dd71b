package storetest

import (
	"slices"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func (w *world) admit(rt *rapid.T) {
	l := w.any(rt)
	a := admission(l.name)
	if rapid.Bool().Draw(rt, "with an owner") {
		a.Owner = w.replica(rt)
	}
	if rapid.Bool().Draw(rt, "with a key") {
		a.IdempotencyKey = rapid.SampledFrom([]string{"k1", "k2", "k3"}).Draw(rt, "key")
	}
	s := w.store(rt)
	out := admit(rt, s, a)
	if i := slices.IndexFunc(l.subs, func(s *modelSubmission) bool {
		return s.key != "" &&
			s.key == a.IdempotencyKey
	}); i >= 0 {
		if !out.Replayed || out.Lease != nil || out.Submission.ID != l.subs[i].id {
			rt.Fatalf("a used key was answered by %+v", out)
		}
		return
	}
	l.subs = append(l.subs, &modelSubmission{id: a.ID, key: a.IdempotencyKey})
	if out.Replayed || out.Submission.Seq != int64(len(l.subs)) || out.EventHead != l.events ||
		(out.Lease != nil) != (l.state == "idle" && a.Owner != "") {
		rt.Fatalf("on a lane that is %s: %+v", l.state, out)
	}
	l.id = out.Submission.LaneID
	switch {
	case out.Lease != nil:
		if out.Lease.Fence.Epoch != l.epoch+1 {
			rt.Fatalf("epoch %d follows %d", out.Lease.Fence.Epoch, l.epoch)
		}
		l.entries++
		l.events++
		l.own(rt, s, *out.Lease, a.Owner)
	case l.state == "idle":
		l.state = "due"
	}
}

func (w *world) byID(id string) *modelLane {
	for _, l := range w.lanes {
		if l.id == id {
			return l
		}
	}
	return nil
}

func (w *world) claim(rt *rapid.T) {
	ready := 0
	for _, l := range w.lanes {
		if l.state == "due" {
			ready++
		}
	}
	limit := rapid.IntRange(0, 4).Draw(rt, "limit")
	s, owner := w.store(rt), w.replica(rt)
	leases := claim(rt, s, owner, limit)
	if len(leases) != min(limit, ready) {
		rt.Fatalf("claimed %d of %d lanes that are due, the limit is %d", len(leases), ready, limit)
	}
	for _, lease := range leases {
		l := w.byID(lease.Fence.LaneID)
		if l == nil || l.state != "due" || lease.Fence.Epoch != l.epoch+1 {
			rt.Fatalf("claimed %+v, the lane is %+v", lease, l)
		}
		l.own(rt, s, lease, owner)
	}
}

// ends is what a commit that leaves the head running is told.
func (l *modelLane) ends() lane.Ends {
	if l.head().aborted {
		return lane.Ends{Why: lane.Abort}
	}
	return lane.Ends{In: lane.Never}
}

// write commits and applies what was accepted.
func (l *modelLane) write(rt *rapid.T, d *draft) lane.Committed {
	head := l.head()
	out := l.holder.commit(rt, d)
	l.last, l.answer = d, out
	for _, s := range append([]*lane.Step{d.Step}, d.more...) {
		l.events += int64(len(s.Events))
		moved := len(s.Entries) > 0 || s.Progress != nil
		if s.LoopID == head.id {
			l.entries += int64(len(s.Entries))
			if moved {
				head.stalls = 0
			}
		}
		for _, c := range l.children {
			if c.id == s.LoopID && moved {
				c.stalls, c.entries = 0, c.entries+int64(len(s.Entries))
			}
		}
		if s.Begin != nil {
			l.children = append(l.children, &modelChild{id: s.LoopID, entries: int64(len(s.Entries))})
		}
		if s.End != nil {
			l.children = slices.DeleteFunc(l.children, func(c *modelChild) bool { return c.id == s.LoopID })
		}
	}
	return out
}

func (w *world) commit(rt *rapid.T) {
	l := w.lane(rt, "running")
	d := l.holder.step(rapid.IntRange(0, 3).Draw(rt, "entries"))
	if len(l.children) > 0 && rapid.Bool().Draw(rt, "with a sub-agent") {
		d = merge(d, l.holder.stepOf(w.loop(rt, l), rapid.IntRange(0, 2).Draw(rt, "its entries")))
	}
	equal(rt, "the answer", l.write(rt, d), lane.Committed{Mail: l.mail, Ends: l.ends()})
}

// loop draws an open sub-agent of a running lane.
func (w *world) loop(rt *rapid.T, l *modelLane) *lane.Loop {
	if len(l.children) == 0 {
		rt.Skip("no sub-agent")
	}
	c := l.children[rapid.IntRange(0, len(l.children)-1).Draw(rt, "sub-agent")]
	i := slices.IndexFunc(l.holder.lease.Loops, func(k lane.Loop) bool { return k.ID == c.id })
	return &l.holder.lease.Loops[i]
}

func (w *world) begin(rt *rapid.T) {
	l := w.lane(rt, "running")
	parent := l.holder.root()
	if len(l.children) > 0 && rapid.Bool().Draw(rt, "deeper") {
		parent = w.loop(rt, l)
	}
	l.write(rt, l.holder.child(parent))
}

func (w *world) child(rt *rapid.T) {
	l := w.lane(rt, "running")
	d := l.holder.stepOf(w.loop(rt, l), 1)
	d.End = &lane.Settlement{Outcome: lane.Completed}
	equal(rt, "the answer", l.write(rt, d), lane.Committed{Mail: l.mail, Ends: l.ends()})
}

func (w *world) settle(rt *rapid.T) {
	l := w.lane(rt, "running")
	d := l.holder.end(rapid.Bool().Draw(rt, "continue"))
	head, owner, fence := l.head(), l.owner, l.holder.lease.Fence
	out := l.write(rt, d)
	head.status, head.outcome, l.children = submission.SettledStatus, lane.Completed, nil
	waits := l.pending() > 0
	if out.Ready != (waits && !d.lane.Continue) || (out.Next != nil) != (waits && d.lane.Continue) {
		rt.Fatalf("%d wait and the answer is %+v", l.pending(), out)
	}
	switch {
	case out.Next != nil:
		if out.Next.Fence != fence {
			rt.Fatalf("the next lease has fence %+v", out.Next.Fence)
		}
		l.own(rt, l.holder.s, *out.Next, owner)
		l.last, l.answer = d, out
	case waits:
		w.lose(l, "due")
	default:
		w.lose(l, "idle")
	}
}

// park rests a lane unless mail has come that its owner has not seen.
func (w *world) park(rt *rapid.T) {
	l := w.lane(rt, "running")
	d := l.holder.park(lane.Never)
	rests := l.holder.lease.Mail == l.mail
	out := l.write(rt, d)
	equal(rt, "the answer", out, lane.Committed{Parked: rests, Mail: l.mail, Ends: l.ends()})
	switch l.holder.lease.Mail = out.Mail; {
	case rests && l.head().aborted: // its end is due
		w.lose(l, "due")
	case rests:
		w.lose(l, "parked")
	}
}

func (w *world) mail(rt *rapid.T) {
	l := w.any(rt)
	if l.id == "" {
		rt.Skip("no lane yet")
	}
	mail(rt, w.store(rt), l.id)
	l.woken()
}

func (l *modelLane) woken() {
	if l.mail++; l.state == "parked" {
		l.state = "due"
	}
}

// retry repeats the last commit, whose answer was lost. Nobody has had the lane since.
func (w *world) retry(rt *rapid.T) {
	l := w.any(rt)
	if l.last == nil {
		rt.Skip("nothing to retry")
	}
	out, err := w.store(rt).Commit(ctx(rt), l.last.commit())
	ok(rt, err)
	want := l.answer
	want.Mail = l.mail
	switch ended := l.last.End != nil && l.last.Begin == nil && slices.ContainsFunc(l.subs,
		func(s *modelSubmission) bool {
			return s.id == l.last.LoopID
		}); {
	case !ended:
		want.Ends = l.ends()
	case want.Next == nil:
		want.Ready = l.state == "due" // as it is now
	default:
		next := *want.Next
		next.Ends, next.Mail = l.ends(), l.mail
		want.Next = &next
	}
	equal(rt, "the answer to the retry", out, want)
}

func (w *world) release(rt *rapid.T) {
	l := w.lane(rt, "running")
	ok(rt, w.store(rt).Release(ctx(rt), l.holder.lease.Fence, lane.Release{}))
	l.last = nil
	w.lose(l, "due")
}

// stall releases a lane after an error of one of its loops.
func (w *world) stall(rt *rapid.T) {
	l := w.lane(rt, "running")
	r := lane.Release{Stalled: l.head().id, Cause: "why"}
	if len(l.children) > 0 && rapid.Bool().Draw(rt, "a sub-agent's") {
		c := l.children[rapid.IntRange(0, len(l.children)-1).Draw(rt, "sub-agent")]
		c.stalls++
		r.Stalled = c.id
	} else {
		l.head().stalls++
	}
	ok(rt, w.store(rt).Release(ctx(rt), l.holder.lease.Fence, r))
	l.last = nil
	w.lose(l, "due")
}

func (w *world) end(rt *rapid.T) {
	l := w.lane(rt, "running")
	head := l.head()
	out, err := w.store(rt).End(ctx(rt), l.holder.lease.Fence, lane.Interrupted, "R", "m")
	ok(rt, err)
	l.events++
	head.status, head.outcome, l.last = submission.SettledStatus, lane.Interrupted, nil
	if out.HeadID != head.id || out.Ready != (l.pending() > 0) || len(out.Events) != 1 ||
		out.Events[0].Seq != l.events {
		rt.Fatalf("ended %+v", out)
	}
	state := "idle"
	if out.Ready {
		state = "due"
	}
	w.lose(l, state)
}

func (w *world) raise(rt *rapid.T) {
	l := w.lane(rt, "running")
	zombie := hold(l.holder.s, l.holder.lease)
	f, err := w.store(rt).Raise(ctx(rt), l.holder.lease.Fence, l.epoch+int64(rapid.IntRange(0, 9).Draw(rt, "above")))
	ok(rt, err)
	w.zombies = append(w.zombies, zombie)
	l.epoch, l.holder.lease.Fence, l.last = f.Epoch, f, nil
}

func (w *world) takeOver(rt *rapid.T) {
	heir := w.replica(rt)
	dead := w.replicas[0]
	if dead == heir {
		dead = w.replicas[1]
	}
	owned := 0
	for _, l := range w.lanes {
		if l.state == "running" && l.owner == dead {
			owned++
		}
	}
	s, limit := w.store(rt), rapid.IntRange(1, 3).Draw(rt, "limit")
	out, err := s.TakeOver(ctx(rt), heir, []string{dead}, limit)
	ok(rt, err)
	if len(out.Leases) != min(limit, owned) {
		rt.Fatalf("took over %d of %d lanes, the limit is %d", len(out.Leases), owned, limit)
	}
	for _, lease := range out.Leases {
		l := w.byID(lease.Fence.LaneID)
		if l == nil || l.owner != dead || lease.Fence.Epoch != l.epoch+1 {
			rt.Fatalf("took over %+v, the lane is %+v", lease, l)
		}
		l.head().attempts++
		l.head().stalls++
		for _, c := range l.children {
			c.stalls++
		}
		w.lose(l, "running")
		l.own(rt, s, lease, heir)
	}
}

func (w *world) abort(rt *rapid.T) {
	l := w.any(rt)
	if len(l.subs) == 0 {
		rt.Skip("nothing to abort")
	}
	sub := l.subs[rapid.IntRange(0, len(l.subs)-1).Draw(rt, "submission")]
	got := abort(rt, w.store(rt), sub.id)
	switch {
	case sub.status == submission.Queued:
		sub.status, sub.outcome, sub.aborted = submission.SettledStatus, lane.Aborted, true
		if l.state == "due" && l.pending() == 0 {
			l.state = "idle"
		}
	case sub.status == submission.Running && !sub.aborted:
		sub.aborted = true
		l.woken()
	}
	if got.Status != sub.status || got.Outcome != sub.outcome || got.AbortRequested != sub.aborted {
		rt.Fatalf("aborting answered %+v, want %+v", got, sub)
	}
}

// zombie writes with a view of a lane that was lost, as it is or with the lane's present heads.
func (w *world) zombie(rt *rapid.T) {
	if len(w.zombies) == 0 {
		rt.Skip("no zombie")
	}
	z := w.zombies[rapid.IntRange(0, len(w.zombies)-1).Draw(rt, "zombie")]
	z = hold(z.s, z.lease)
	l := w.byID(z.session())
	if l.epoch == z.lease.Fence.Epoch && l.state == "running" {
		rt.Skip("it owns the lane again: it continued")
	}
	if rapid.Bool().Draw(rt, "guesses the heads") {
		z.root().EntryHead, z.lease.EventHead = l.entries, l.events
	}
	s := w.store(rt)
	var err error
	switch rapid.IntRange(0, 5).Draw(rt, "write") {
	case 0:
		err = s.Release(ctx(rt), z.lease.Fence, lane.Release{Stalled: z.id()})
	case 1:
		_, err = s.End(ctx(rt), z.lease.Fence, lane.Failed, "zombie", "")
	case 2:
		_, err = s.Raise(ctx(rt), z.lease.Fence, z.lease.Fence.Epoch)
	case 3:
		_, err = s.Commit(ctx(rt), z.park(lane.Never).commit())
	case 4:
		_, err = s.Commit(ctx(rt), merge(z.step(1), z.child(z.root())).commit())
	case 5:
		_, err = s.Commit(ctx(rt), z.end(rapid.Bool().Draw(rt, "continue")).commit())
	}
	refused(rt, err, lane.ErrFenced)
}
