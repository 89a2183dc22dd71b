package turn

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
)

// logPage is how many events a new owner reads at first to find what its predecessors have shown.
const logPage = 256

// readShown finds how much of the open calls' output is in the stream already. A new owner gets all of it from the executor again, since
// only the whole says where secrets begin, and shows what comes after. It reads back to the answer that asked for the calls.
func (r *run) readShown(ctx context.Context) error {
	if r.open() == 0 {
		return nil
	}
	answer := r.calls[0].EntrySeq
	for upto, page := r.eventHead, int64(logPage); upto > 0; page *= 2 {
		after := max(0, upto-page)
		events, err := r.deps.Store.Events(ctx, r.id(), after, int(upto-after))
		if err != nil {
			return fmt.Errorf("reading what was shown: %w", err)
		}
		begun := false
		for _, e := range events {
			begun = begun || e.EntrySeq == answer
			if e.Type == event.ToolOutput && e.Seq <= upto && r.callByID(e.Call.ID) != nil {
				l, i := r.liveOf(e.Call.ID), streamIndex(e.Output.Stderr)
				l.logged[i] = max(l.logged[i], e.Output.Offset+int64(len(e.Output.Data)))
			}
		}
		if begun {
			return nil
		}
		upto = after
	}
	return nil
}

// tookOutput queues a piece of output for the stream. Pieces that were seen before are dropped, and so is what comes after a piece
// that got lost on its way: it is asked for again from there.
func (r *run) tookOutput(ctx context.Context, c *call.Call, o call.Output) {
	l, i := r.liveOf(c.ID), streamIndex(o.Stderr)
	end := o.Offset + int64(len(o.Data))
	if end <= l.seen[i] {
		return
	}
	if o.Offset > l.seen[i] {
		l.connection = 0
		r.inbox.nudge()
		return
	}
	if o.Offset < l.seen[i] {
		o.Data = o.Data[l.seen[i]-o.Offset:]
	}
	l.seen[i] = end
	taken := &call.OutputAck{CallID: c.ID, Stderr: o.Stderr, Upto: end}
	if !r.show(c.ID, o.Stderr, l.redact[i].Next(o.Data)) && l.shown[i] < l.logged[i] {
		r.send(ctx, c.Executor, taken) // an earlier owner's commit holds it
		return
	}
	if r.output == nil {
		r.output = map[outputKey]ack{}
	}
	r.output[outputKey{c.ID, o.Stderr}] = ack{c.Executor, taken}
}

// show queues redacted output that is not in the stream yet; false when there is none.
func (r *run) show(callID string, stderr bool, data []byte) bool {
	l, i := r.liveOf(callID), streamIndex(stderr)
	offset := l.shown[i]
	l.shown[i] += int64(len(data))
	if known := min(max(l.logged[i]-offset, 0), int64(len(data))); known > 0 {
		offset, data = offset+known, data[known:]
	}
	if len(data) == 0 {
		return false
	}
	r.push(r.event(event.Event{Type: event.ToolOutput, Call: &event.Call{ID: callID}, Output: &event.Output{Stderr: stderr, Offset: offset, Data: data}}))
	r.bytes += len(data)
	return true
}

func streamIndex(stderr bool) int {
	if stderr {
		return 1
	}
	return 0
}
