package turn

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// output is how far the output of a call has been taken, for standard output and standard error. A new owner gets all
// of it from the executor again, since only the whole says where secrets begin, and shows what comes after what is
// logged.
type output struct {
	redact [2]*tool.Stream
	seen   [2]int64 // bytes taken from the executor
	shown  [2]int64 // bytes after redaction
	logged [2]int64 // of which so many are in the stream
}

func newOutput(secrets []string) output {
	return output{redact: [2]*tool.Stream{tool.NewStream(secrets), tool.NewStream(secrets)}}
}

// end is up to where output is in the stream, or on its way there.
func (o *output) end(i int) int64 { return max(o.shown[i], o.logged[i]) }

// missing counts the bytes of an ended command's output that were not taken.
func (c *Call) missing() (n [2]int64) {
	p, ok := c.reply.(tool.Process)
	if !ok || !c.watch.Ended {
		return n
	}
	for i, size := range p.Written() {
		n[i] = max(0, size-c.output.seen[i])
	}
	return n
}

// complete reports whether no output of an ended call is to be waited for: all has been taken, or the executor cannot
// read it.
func (c *Call) complete() bool {
	p, ok := c.reply.(tool.Process)
	return c.watch.Ended && (!ok || p.Unreadable() || c.missing() == [2]int64{})
}

// tookOutput queues a piece of output for the stream. Pieces that were seen before are dropped, and so is what comes
// after a piece that got lost on its way: it is asked for again from there.
func (t *Strand) tookOutput(ctx context.Context, c *Call, o call.Output) error {
	out, i := &c.output, streamIndex(o.Stderr)
	end := o.Offset + int64(len(o.Data))
	if end <= out.seen[i] {
		return nil
	}
	if o.Offset > out.seen[i] {
		c.watch.Connection = 0
		t.mail.nudge()
		return nil
	}
	if o.Offset < out.seen[i] {
		o.Data = o.Data[out.seen[i]-o.Offset:]
	}
	out.seen[i] = end
	c.watch.Quiet, c.watch.Asked = time.Now(), time.Now()
	taken := &call.OutputAck{CallID: c.ID, Stderr: o.Stderr, Upto: end}
	if !t.mute(c, o.Stderr) && (t.show(c, o.Stderr, out.redact[i].Next(o.Data)) ||
		out.shown[i] >= out.logged[i] && t.stored()) {
		if t.out.output == nil {
			t.out.output = map[outputKey]ack{}
		}
		t.out.output[outputKey{c.ID, o.Stderr}] = ack{c.Executor, taken}
	} else {
		t.send(c.Executor, taken) // it is in the stream already, or nobody wants it
	}
	if c.complete() {
		return t.complete(ctx, c)
	}
	return nil
}

// mute reports whether nobody is shown a stream of a call's output: it is no text.
func (t *Strand) mute(c *Call, stderr bool) bool {
	found, err := t.kit.Tools.Find(c.Tool)
	return err == nil && found.Mute && !stderr
}

// stored reports whether output of the strand's calls goes into the stream.
func (t *Strand) stored() bool { return t.who.Task == nil || t.Watched() }

// show queues redacted output that is not in the stream yet; false when there is none.
func (t *Strand) show(c *Call, stderr bool, data []byte) bool {
	out, i := &c.output, streamIndex(stderr)
	offset := out.shown[i]
	out.shown[i] += int64(len(data))
	if known := min(max(out.logged[i]-offset, 0), int64(len(data))); known > 0 {
		offset, data = offset+known, data[known:]
	}
	if len(data) == 0 || !t.stored() {
		return false
	}
	t.Push(t.outputOf(c.ID, event.Output{Stderr: stderr, Offset: offset, Data: data}))
	t.out.bytes += len(data)
	return true
}

func (t *Strand) outputOf(callID string, o event.Output) event.Event {
	return t.Event(event.Event{Type: event.ToolOutput, Call: &event.Call{ID: callID}, Output: &o})
}

// showProgress tells those who watch how far a call is. It is of no use to anybody else, and to nobody later.
func (t *Strand) showProgress(callID string, p tool.Progress) {
	c := t.turn.byID[callID]
	if c == nil || c.State.Terminal() || !t.Watched() {
		return
	}
	said := clip.Shorten(clip.Sanitize(tool.Redact(p.Message, t.kit.Secrets)), maxProgress)
	t.Push(t.Event(event.Event{
		Type: event.ToolProgress, Call: started(c.Call),
		Progress: &event.Progress{Progress: p.Progress, Total: p.Total, Message: said},
	}))
}

// maxProgress bounds what is told of a call's progress, in bytes.
const maxProgress = 500

// showRest shows what was held back of a call's output, and says how much of it is missing.
func (t *Strand) showRest(c *Call) {
	out := &c.output
	for i, missing := range c.missing() {
		stderr := i == 1
		t.show(c, stderr, out.redact[i].Close())
		shown := out.end(i)
		if missing -= shown - out.shown[i]; missing <= 0 {
			continue
		}
		t.lane.deps.Log.Warn("output of a command is missing from its stream", "call_id", c.ID, "executor_id",
			c.Executor, "bytes", missing)
		t.Push(t.outputOf(c.ID, event.Output{Stderr: stderr, Offset: shown + missing, Skipped: missing}))
	}
}

// showing adds to a step how far the output of calls is in the stream with it.
func (t *Strand) showing(s *lane.Step) {
	type key = string
	last := map[key]int{}
	for i := range s.Events {
		if e := &s.Events[i]; e.Type == event.ToolOutput {
			last[e.Call.ID] = i
		}
	}
	for _, done := range s.Shown {
		delete(last, done.CallID)
	}
	for id := range last {
		if c := t.turn.byID[id]; c != nil {
			s.Shown = append(s.Shown, call.Shown{CallID: id, Stdout: c.output.end(0), Stderr: c.output.end(1)})
		}
	}
}

func streamIndex(stderr bool) int {
	if stderr {
		return 1
	}
	return 0
}
