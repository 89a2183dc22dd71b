package flue

import (
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/submission"
)

const (
	// behind is how many bytes of deltas wait for a reader that is behind. Who keeps up is sent what is committed at a
	// time, which is less.
	behind = 48 << 10
	// maxDelta bounds what merged deltas grow to, in bytes.
	maxDelta = 64 << 10
)

// Translator turns the events of one submission into those of the original, in order:
//
//	operation_start agent_start turn* agent_end operation idle
//	turn:    turn_start turn_request message tool* turn_end turn
//	message: message_start (thinking_start thinking_delta* thinking_end | text_delta)* message_end
//	tool:    tool_start … tool_call message_start message_end
//
// A turn that is begun anew ends with an error, as a retry does in the original, and agent_start begins the next. What
// a sub-agent does is the same again, under a session of its own, between the tool_start and the tool_call that are
// about it:
//
//	tool_start task_start operation_start … idle task tool_call
type Translator struct {
	sub  submission.Submission
	api  APIOf
	next int     // index of the next event
	out  []Event // of the batch at hand
	// encoded is what the JSON of deltas of the batch is in.
	encoded []byte

	root  *loop
	loops []*loop // those at work: the root, then sub-agents in the order in which they began
}

// NewTranslator makes a Translator for a submission of an instance. ref is the model that its agent has.
func NewTranslator(s submission.Submission, ref model.Ref, api APIOf) *Translator {
	t := &Translator{sub: s, api: api}
	t.root = &loop{t: t, submission: s.ID, session: s.Key.Name, ref: ref}
	t.loops = []*loop{t.root}
	return t
}

// Translate returns what a batch of events comes to. Deltas come in the pieces in which the model said them, unless so
// many wait that the reader is behind: then those that follow each other are merged. The result is valid until the next
// call.
func (t *Translator) Translate(batch []event.Event) []Event {
	t.out, t.encoded = t.out[:0], t.encoded[:0]
	for i := 0; i < len(batch); {
		l := t.loopOf(&batch[i])
		n := deltas(batch[i:])
		switch {
		case t.root.settled:
			return t.out
		case n > 0:
			l.deltas(batch[i : i+n])
		default:
			l.event(&batch[i])
		}
		i += max(n, 1)
		t.beginTurns(batch[i-1].Time)
	}
	return t.out
}

// beginTurns begins the turns that the event before has made due. It does not look at what comes next, which may be in
// the same batch or in a later one: a reader is told the same however the events are cut. A turn that a limit or an
// abort forbids ends with an error, as one that is aborted before its answer does in the original.
func (t *Translator) beginTurns(at time.Time) {
	for _, l := range t.loops {
		if l.due && !l.settled {
			l.beginTurn(at)
		}
	}
}

// deltas counts the deltas of one kind and loop with which a batch begins.
func deltas(batch []event.Event) (n int) {
	first := &batch[0]
	if first.Type != event.Text && first.Type != event.Thinking {
		return 0
	}
	same := func(e *event.Event) bool {
		return e.Type == first.Type && e.Turn == first.Turn && e.SubmissionID == first.SubmissionID
	}
	for n < len(batch) && same(&batch[n]) {
		n++
	}
	return n
}

// deltas sends deltas of one kind.
func (l *loop) deltas(run []event.Event) {
	size := 0
	for i := range run {
		size += len(run[i].Text)
	}
	if size > behind {
		l.merge(run)
		return
	}
	for i := range run {
		e := &run[i]
		text := e.Text
		for _, n := range e.Pieces {
			if n >= len(text) {
				break // the last piece is what is left
			}
			l.delta(e, text[:n])
			text = text[n:]
		}
		l.delta(e, text)
	}
}

// merge sends deltas as few.
func (l *loop) merge(run []event.Event) {
	for len(run) > 0 {
		n, size := 1, len(run[0].Text)
		for n < len(run) && size+len(run[n].Text) <= maxDelta {
			size += len(run[n].Text)
			n++
		}
		var b strings.Builder
		b.Grow(size)
		for i := range run[:n] {
			b.WriteString(run[i].Text)
		}
		l.delta(&run[0], b.String())
		run = run[n:]
	}
}

// loopOf is the loop that an event is of. A sub-agent whose beginning is not known, as it was deleted, is begun.
func (t *Translator) loopOf(e *event.Event) *loop {
	of := e.Loop
	if of == nil {
		return t.root
	}
	if l := t.find(of.Task); l != nil {
		return l
	}
	parent := t.root
	if of.Parent != "" {
		if parent = t.find(of.Parent); parent == nil {
			parent = t.root
		}
	}
	l := &loop{
		t: t, submission: e.SubmissionID, parent: parent, task: of.Task,
		session: "task:" + parent.session + ":" + of.Task, ref: parent.ref,
	}
	t.loops = append(t.loops, l)
	return l
}

func (t *Translator) find(task string) *loop {
	for _, l := range t.loops[1:] {
		if l.task == task {
			return l
		}
	}
	return nil
}

// end forgets a sub-agent.
func (t *Translator) end(l *loop) {
	t.loops = slices.DeleteFunc(t.loops, func(one *loop) bool { return one == l })
}

// emit encodes an event.
func (t *Translator) emit(r record) {
	body, err := rawjson.Encode(r)
	if err != nil {
		return // strings and checked JSON always encode
	}
	c := r.base()
	t.out = append(t.out, Event{Type: c.Type, Index: t.next, JSON: body})
	t.next++
}

// ResultOf is the result of a submission that completed.
func ResultOf(s submission.Submission) Result {
	provider, id, _ := strings.Cut(s.Model, "/")
	return Result{Text: s.Text, Usage: usageOf(s.Usage), Model: Model{Provider: provider, ID: id}}
}
