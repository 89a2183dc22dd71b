package turn

import (
	"context"
	"fmt"
	"maps"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
)

// logPage is how many events a new owner reads at first to find what its predecessors have shown.
const logPage = 256

// readShown finds what of the turn's calls is in the stream already. A new owner gets all output from the executor
// again, since only the whole says where secrets begin, and shows what comes after. It reads back to the answer that
// asked for the calls. A call that somebody recorded and nobody told the end of is still open to this run: its output
// may not be in the stream.
func (r *run) readShown(ctx context.Context) error {
	if len(r.calls) == 0 {
		return nil
	}
	begins := map[string]bool{} // calls whose present run is known from its beginning on
	for upto, span := r.eventHead, int64(logPage); upto > 0; span *= 2 {
		after := max(0, upto-span)
		begun, err := r.readBack(ctx, after, upto, begins)
		if err != nil {
			return fmt.Errorf("reading what was shown: %w", err)
		}
		if begun {
			break
		}
		upto = after
	}
	for i := range r.calls {
		switch c := &r.calls[i]; {
		case !c.State.Terminal():
		case r.liveOf(c.ID).told:
			// its acknowledgement may be lost
			r.results = append(r.results, ack{c.Executor, &call.ResultAck{CallID: c.ID}})
		default:
			c.State = call.Dispatched
		}
	}
	return nil
}

// readBack looks at the events after a seq, up to another; begun when nothing of the turn is before them.
func (r *run) readBack(ctx context.Context, after, upto int64, begins map[string]bool) (begun bool, err error) {
	later := maps.Clone(begins)
	for after < upto {
		page, err := r.deps.Store.Events(ctx, r.id(), after, int(upto-after))
		if floor, old := event.FloorOf(err); old {
			begun, after = true, floor
			continue
		}
		if err != nil {
			return false, err
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			begun = begun || e.EntrySeq == r.calls[0].EntrySeq
			if e.Seq <= upto && e.Call != nil && !later[e.Call.ID] && r.callByID(e.Call.ID) != nil {
				begins[e.Call.ID] = begins[e.Call.ID] || e.Type == event.ToolStarted
				r.wasShown(e)
			}
		}
		after = page[len(page)-1].Seq
	}
	return begun, nil
}

func (r *run) wasShown(e event.Event) {
	l := r.liveOf(e.Call.ID)
	switch e.Type {
	case event.ToolStarted:
		l.logged, l.waits = [2]int64{}, "" // it runs anew
	case event.ToolWaiting:
		l.waits = e.Wait.Reason
	case event.ToolOutput:
		i := streamIndex(e.Output.Stderr)
		l.logged[i] = max(l.logged[i], e.Output.Offset+int64(len(e.Output.Data)))
		l.waits = ""
	case event.ToolFinished:
		l.told = true
	}
}

// tookOutput queues a piece of output for the stream. Pieces that were seen before are dropped, and so is what comes
// after a piece that got lost on its way: it is asked for again from there.
func (r *run) tookOutput(ctx context.Context, c *call.Call, o call.Output) error {
	l, i := r.liveOf(c.ID), streamIndex(o.Stderr)
	end := o.Offset + int64(len(o.Data))
	if end <= l.seen[i] {
		return nil
	}
	if o.Offset > l.seen[i] {
		l.connection = 0
		r.inbox.nudge()
		return nil
	}
	if o.Offset < l.seen[i] {
		o.Data = o.Data[l.seen[i]-o.Offset:]
	}
	l.seen[i] = end
	taken := &call.OutputAck{CallID: c.ID, Stderr: o.Stderr, Upto: end}
	if !r.show(c.ID, o.Stderr, l.redact[i].Next(o.Data)) && l.shown[i] < l.logged[i] {
		r.send(ctx, c.Executor, taken) // an earlier owner's commit holds it
	} else {
		if r.output == nil {
			r.output = map[outputKey]ack{}
		}
		r.output[outputKey{c.ID, o.Stderr}] = ack{c.Executor, taken}
	}
	if l.end != nil && l.missing() == [2]int64{} {
		return r.finish(ctx, c)
	}
	return nil
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
	r.push(r.event(event.Event{
		Type: event.ToolOutput, Call: &event.Call{ID: callID},
		Output: &event.Output{Stderr: stderr, Offset: offset, Data: data},
	}))
	r.bytes += len(data)
	return true
}

func streamIndex(stderr bool) int {
	if stderr {
		return 1
	}
	return 0
}
