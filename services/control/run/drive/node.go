package drive

import (
	"strconv"
	"time"

	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// node is a step of a list at work, or one that has ended.
type node struct {
	list *list
	def  *workflow.Step
	path string
	rec  step.Record
	work structure // of one that has steps within it

	restored   bool // it was made from a record
	known      bool // of its end
	working    bool // somebody carries it out
	cancelling bool
	timedOut   bool
}

// structure is a step that has steps within it, at work.
type structure interface {
	begin()
	cancel(hard bool)
	// finished are its steps that were completed, in that order.
	finished() []*node
}

// begin carries the step out that has no record.
func (n *node) begin() {
	m := n.list.m
	n.rec = m.make(n.path, n.def.Kind, n.list.parent)
	if n.def.If != nil {
		switch holds, err := n.def.If.Holds(m.ctx, n.list.values()); {
		case err != nil:
			n.end(step.Failed, nil, evaluation(err))
			return
		case !holds:
			n.end(step.Skipped, nil, nil)
			return
		}
	}
	if wait, failed := n.wait(); failed != nil {
		n.end(step.Failed, nil, failed)
		return
	} else if n.rec.Wait = wait; n.rec.Wait == 0 {
		n.rec.Wait = step.Never
	}
	n.start(false)
}

// wait is the time that the step's record has: of a sleep its length, of others their timeout.
func (n *node) wait() (time.Duration, *step.Failure) {
	m := n.list.m
	s, sleeps := n.def.Do.(*workflow.Sleep)
	if sleeps && s.For.Expr != nil {
		v, err := s.For.Expr.Eval(m.ctx, n.list.values())
		text, _ := v.(string)
		if at, bad := time.Parse(time.RFC3339Nano, text); err == nil && bad == nil {
			n.rec.At = at
			return 0, nil
		}
	}
	length := n.def.Timeout
	if sleeps {
		length = s.For
	} else if _, asks := n.def.Do.(*workflow.Approve); asks {
		return 0, nil // the approval has it
	}
	d, err := length.Eval(m.ctx, n.list.values())
	if err != nil {
		return 0, evaluation(err)
	}
	return d, nil
}

// restore goes on with a step that has a record.
func (n *node) restore(rec step.Record) {
	n.rec, n.restored = rec, true
	if n.known = rec.State.Ended(); n.known {
		n.list.took(n)
		return
	}
	n.cancelling = n.list.cancelled
	n.start(true)
	if n.cancelling && n.list.now == n {
		n.cancelling = false // whoever carries it out is to be told
		n.cancel(n.list.hard)
	}
}

// start carries out the present try, or goes on with it.
func (n *node) start(again bool) {
	m := n.list.m
	if n.rec.Pausing {
		m.active[n.path] = n
		return
	}
	switch do := n.def.Do.(type) {
	case *workflow.Set, *workflow.Log, *workflow.Fail:
		n.atOnce(do)
		return
	}
	if !again {
		m.record(n.rec)
	}
	m.active[n.path] = n
	if _, sleeps := n.def.Do.(*workflow.Sleep); sleeps {
		return
	}
	if n.work = n.structure(); n.work != nil {
		n.timedOut = again && n.rec.Left <= 0 && !n.list.cancelled
		n.work.begin()
		return
	}
	n.working = true
	m.effects = append(m.effects, Do{Path: n.path, Ord: n.rec.Ord, Try: n.rec.Try, Step: n.def, Again: again})
}

// structure is what carries out the steps within the step, nil if it has none.
func (n *node) structure() structure {
	switch do := n.def.Do.(type) {
	case *workflow.Group:
		return &group{node: n, do: do}
	case *workflow.Parallel:
		return &parallel{parts: parts{node: n, atOnce: len(do.Branches), total: len(do.Branches)}, do: do}
	case *workflow.Foreach:
		return &foreach{parts: parts{node: n, atOnce: do.Parallel}, do: do}
	case *workflow.Repeat:
		return &repeat{node: n, do: do}
	}
	return nil
}

// cut reports whether the steps within the step begin as ones that were to end before.
func (n *node) cut() bool { return n.timedOut || n.list.cancelled && n.restored }

// atOnce carries out what takes no time.
func (n *node) atOnce(do workflow.Action) {
	m, in := n.list.m, n.list.values()
	switch do := do.(type) {
	case *workflow.Set:
		out := map[string]any{}
		for name, v := range do.Values {
			var err error
			if out[name], err = v.Eval(m.ctx, in); err != nil {
				n.fail(*evaluation(err))
				return
			}
		}
		n.complete(out)
	case *workflow.Log:
		text, err := do.Text.Text(m.ctx, in)
		var data any
		if err == nil && do.Data != nil {
			data, err = do.Data.Eval(m.ctx, in)
		}
		if err != nil {
			n.fail(*evaluation(err))
			return
		}
		level := do.Level
		if level == "" {
			level = workflow.Info
		}
		m.effects = append(m.effects, Say{Path: n.path, Ord: n.rec.Ord, Level: level, Text: text, Data: data})
		n.complete(map[string]any{})
	case *workflow.Fail:
		text, err := do.Text.Text(m.ctx, in)
		if err != nil {
			n.fail(*evaluation(err))
			return
		}
		reason := do.Reason
		if reason == "" {
			reason = ReasonFailed
		}
		n.fail(step.Failure{Reason: reason, Message: text})
	}
}

// outcome takes in how whoever carries the step out says that it has ended.
func (n *node) outcome(o Outcome) {
	n.working = false
	n.rec.Took += o.Took
	_, signal := n.def.Do.(*workflow.Signal)
	switch {
	case o.State == step.Completed:
		n.complete(o.Output)
	case o.State == step.Unknown:
		n.unknown(o.Failed)
	case n.cancelling:
		n.end(step.Cancelled, nil, o.Failed)
	case n.timedOut && signal:
		n.complete(map[string]any{"received": false, "at": o.Output["at"]})
	case n.timedOut:
		n.fail(late(o.Failed))
	case o.State == step.Cancelled:
		n.fail(step.Failure{Reason: ReasonCancelled, Message: "it was cancelled"})
	default:
		n.fail(*o.Failed)
	}
}

// unknown goes on as the step says when nobody knows what it has done.
func (n *node) unknown(f *step.Failure) {
	why := step.Failure{Reason: ReasonUnknown, Message: "nobody knows whether the step has had its effect"}
	if f != nil {
		why.Message = f.Message
	}
	if onUnknown(n.def.Do) == workflow.UnknownRetry && !n.cancelling && n.rec.Try < max(n.def.Retry.Attempts, 2) {
		n.pause(why)
		return
	}
	n.end(step.Unknown, nil, &why)
}

// passes reports whether the list goes on although nobody knows what the step has done.
func (n *node) passes() bool {
	return n.rec.State == step.Unknown && onUnknown(n.def.Do) == workflow.UnknownContinue
}

func onUnknown(a workflow.Action) workflow.OnUnknown {
	switch do := a.(type) {
	case *workflow.Shell:
		return do.OnUnknown
	case *workflow.HTTP:
		return do.OnUnknown
	case *workflow.Call:
		return do.OnUnknown
	}
	return workflow.UnknownFail
}

// complete ends the step with its output.
func (n *node) complete(out map[string]any) {
	raw, failed := Encode(out)
	if failed != nil {
		n.end(step.Failed, nil, failed)
		return
	}
	n.rec.Output = raw
	n.end(step.Completed, raw, nil)
}

// fail ends the try, and the step unless it is tried again.
func (n *node) fail(f step.Failure) {
	if !n.cancelling && n.rec.Try < n.def.Retry.Attempts && n.retries(f.Reason) {
		n.pause(f)
		return
	}
	n.end(step.Failed, nil, &f)
}

// pause waits for the next try.
func (n *node) pause(f step.Failure) {
	n.rec.Folds = n.work != nil
	n.rec.Failed, n.work, n.timedOut = &f, nil, false
	if wait := n.backoff(); wait > 0 {
		n.rec.Pausing, n.rec.Wait, n.rec.At = true, wait, time.Time{}
		n.list.m.record(n.rec)
		n.list.m.active[n.path] = n
		return
	}
	n.again()
}

// again begins the next try.
func (n *node) again() {
	n.rec.Pausing, n.restored = false, false
	n.rec.Ref = ""
	n.rec.Try++
	wait, failed := n.wait()
	if failed != nil {
		n.end(step.Failed, nil, failed)
		return
	}
	if n.rec.Wait = wait; wait == 0 {
		n.rec.Wait = step.Never
	}
	n.start(false)
	n.rec.Folds = false
}

// end records how the step has ended, and has the list go on.
func (n *node) end(s step.State, out []byte, f *step.Failure) {
	m := n.list.m
	n.rec.State, n.rec.Output, n.rec.Failed, n.rec.Pausing = s, out, f, false
	n.rec.Wait, n.rec.At = step.Never, time.Time{}
	if n.work != nil {
		n.rec.Folds = s != step.Completed || !undoes(n.def)
	}
	delete(m.active, n.path)
	m.record(n.rec)
	n.list.took(n)
}

// composed takes in what the steps within the step have come to; cut says that they were ended early.
func (n *node) composed(out map[string]any, failed *step.Failure, cut bool) {
	if n.rec.State.Ended() {
		return // what is looked at again to be undone
	}
	switch {
	case failed != nil:
		n.fail(*failed)
	case cut && n.timedOut && !n.cancelling:
		n.fail(step.Failure{Reason: ReasonTimeout, Message: "the step took longer than its timeout"})
	case cut:
		n.end(step.Cancelled, nil, nil)
	default:
		n.complete(out)
	}
}

// due is the end of the time that the record has.
func (n *node) due(now time.Time) {
	_, sleeps := n.def.Do.(*workflow.Sleep)
	switch {
	case n.rec.Pausing:
		n.again()
	case sleeps:
		n.complete(map[string]any{"at": now.UTC().Format(time.RFC3339Nano)})
	case n.cancelling || n.timedOut && n.work == nil:
	case n.work != nil:
		n.timedOut = true
		n.work.cancel(false)
	case n.working:
		n.timedOut = true
		n.list.m.effects = append(n.list.m.effects, Cancel{n.path})
	}
}

// cancel ends the step early.
func (n *node) cancel(hard bool) {
	told := n.cancelling || n.timedOut
	n.cancelling = true
	switch {
	case n.rec.Pausing:
		n.end(step.Cancelled, nil, n.rec.Failed)
	case n.work != nil:
		n.work.cancel(hard)
	case !n.working:
		n.end(step.Cancelled, nil, nil)
	case n.list.m.withdraw(n.path):
		n.working = false
		n.end(step.Cancelled, nil, nil)
	case !told:
		n.list.m.effects = append(n.list.m.effects, Cancel{n.path})
	}
}

// base is the path of the present try, which those within it begin with.
func (n *node) base() string {
	if n.rec.Try > 1 {
		return n.path + "#" + strconv.Itoa(n.rec.Try)
	}
	return n.path
}

func (n *node) prefix() string { return n.base() + "." }

// finished are the steps within the step that were completed, in that order: what undoing it undoes.
func (n *node) finished() []*node {
	if !undoes(n.def) {
		return nil // its records may not be there
	}
	if n.work == nil {
		n.work = n.structure()
		n.work.begin() // all of it has ended: nothing is recorded or done
	}
	return n.work.finished()
}

// undoes reports whether a step within a step has steps that undo it.
func undoes(s *workflow.Step) bool {
	for _, l := range s.Lists() {
		if l.Name == "undo" {
			continue
		}
		for _, inner := range l.Steps {
			if len(inner.Undo) > 0 || undoes(inner) {
				return true
			}
		}
	}
	return false
}
