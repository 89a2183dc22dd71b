package flue

import (
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
)

// asksFor takes over what a sub-agent is asked for.
func (l *loop) asksFor(e *event.Event) {
	l.agent, l.cwd = e.Task.Agent, e.Task.Cwd
	if ref, err := model.ParseRef(e.Task.Model); err == nil {
		l.ref = ref
	}
	if e.Entry != nil {
		l.prompt = &message{
			Role: "user", Content: blocksOf(e.Entry.Message), Timestamp: e.Entry.CreatedAt.UnixMilli(),
		}
	}
}

// startTask says, in the session of who asked, that a sub-agent begins.
func (l *loop) startTask(at time.Time) {
	if l.parent == nil {
		return
	}
	l.parent.begin(at)
	start := &taskStart{Agent: l.agent, Cwd: l.cwd}
	if l.prompt != nil {
		start.Prompt = textOf(l.prompt.Content)
	}
	l.emitAbout(at, "task_start", start)
}

// finish ends what a sub-agent does, and says so in the session of who asked.
func (l *loop) finish(e *event.Event) { l.finishAs(e.Time, e.Settlement, e.Task.Duration) }

func (l *loop) finishAs(at time.Time, z *event.Settlement, took time.Duration) {
	l.settle(at, z)
	l.t.end(l)
	end := &task{Agent: l.agent, DurationMs: took.Milliseconds()}
	if z.Outcome == string(lane.Completed) {
		end.Result = &z.Text
	} else {
		why := reasonOf(z)
		end.IsError, end.Result = true, &why
	}
	l.emitAbout(at, "task", end)
}

// endTasks ends the sub-agents that are still at work when the submission settles: their owner had no time to.
func (t *Translator) endTasks(at time.Time, z *event.Settlement) {
	for _, l := range slices.Backward(slices.Clone(t.loops[1:])) {
		l.finishAs(at, &event.Settlement{Outcome: z.Outcome, Reason: z.Reason, Message: z.Message}, at.Sub(l.begun))
	}
}

// emitAbout is emit for an event about the loop in the session of who asked for it.
func (l *loop) emitAbout(at time.Time, kind string, r record) {
	c := l.parent.common(at, kind)
	c.ParentSession, c.TaskID = l.parent.session, l.task
	*r.base() = c
	l.t.emit(r)
}

// textOf is the texts of a message, one after the other.
func textOf(blocks []block) (text string) {
	for _, b := range blocks {
		if b.Text != nil {
			text += *b.Text
		}
	}
	return text
}
