package flue

import (
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
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
// A turn that is begun anew ends with an error, as a retry does in the original, and agent_start begins the next.
type Translator struct {
	sub  submission.Submission
	ref  model.Ref
	api  APIOf
	next int     // index of the next event
	out  []Event // of the batch at hand
	// encoded is what the JSON of deltas of the batch is in, heads what theirs have in common.
	encoded []byte
	heads   deltaHeads
	asked   *request // what the model is asked with, nil unless it is shown

	begun   time.Time // of the operation; zero before it
	settled bool
	due     bool // a turn must begin, unless the submission settles first

	turn     int // numbers turns, restarted ones too
	inTurn   bool
	turnAt   time.Time
	answer   *message // of the turn, once it is whole
	results  []*message
	messages []*message              // since agent_start
	calls    map[string]*startedCall // of the turn, by the provider's id
	wanted   int                     // calls of the turn

	open     bool // a message was started and not ended
	thinking bool // a thinking block is open
	thought  strings.Builder
	texts    int // bytes of text sent of the open message
	thoughts int // bytes of thinking
}

// startedCall is what is known of a call before its result.
type startedCall struct {
	block model.Block
	begun bool
	took  time.Duration
}

// NewTranslator makes a Translator for a submission of an instance. ref is the model that its agent has.
func NewTranslator(s submission.Submission, ref model.Ref, api APIOf) *Translator {
	return &Translator{sub: s, ref: ref, api: api}
}

// Translate returns what a batch of events comes to. Deltas come in the pieces in which the model said them, unless so
// many wait that the reader is behind: then those that follow each other are merged. The result is valid until the next
// call.
func (t *Translator) Translate(batch []event.Event) []Event {
	t.out, t.encoded = t.out[:0], t.encoded[:0]
	for i := 0; i < len(batch); {
		n := deltas(batch[i:])
		if n == 0 {
			t.event(&batch[i])
			i++
			continue
		}
		t.deltas(batch[i : i+n])
		i += n
	}
	// Only now: a turn that a limit or an abort forbids is settled in the same batch that made it due.
	if t.due && !t.settled && len(batch) > 0 {
		t.beginTurn(batch[len(batch)-1].Time)
	}
	return t.out
}

// deltas counts the deltas of one kind with which a batch begins.
func deltas(batch []event.Event) (n int) {
	first := &batch[0]
	if first.Type != event.Text && first.Type != event.Thinking {
		return 0
	}
	for n < len(batch) && batch[n].Type == first.Type && batch[n].Turn == first.Turn {
		n++
	}
	return n
}

// deltas sends deltas of one kind.
func (t *Translator) deltas(run []event.Event) {
	size := 0
	for i := range run {
		size += len(run[i].Text)
	}
	if size > behind {
		t.merge(run)
		return
	}
	for i := range run {
		e := &run[i]
		text := e.Text
		for _, n := range e.Pieces {
			if n >= len(text) {
				break // the last piece is what is left
			}
			t.delta(e, text[:n])
			text = text[n:]
		}
		t.delta(e, text)
	}
}

// merge sends deltas as few.
func (t *Translator) merge(run []event.Event) {
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
		t.delta(&run[0], b.String())
		run = run[n:]
	}
}

func (t *Translator) event(e *event.Event) {
	if t.settled {
		return
	}
	t.begin(e.Time)
	switch e.Type {
	case event.Started:
		t.asked.add(e.Entry)
	case event.EntryAdded:
		t.entry(e)
		t.asked.add(e.Entry)
	case event.Restarted:
		t.restart(e)
	case event.ModelWaiting:
		t.emit(e.Time, "log", &logLine{Level: "info", Message: "[pawl] " + e.Wait.Message, Attributes: map[string]any{
			"reason": e.Wait.Reason, "since": stamp(e.Wait.Since), "until": stamp(e.Wait.Until),
		}})
	case event.ToolStarted:
		t.toolStart(e.Time, e.Call.ProviderID)
	case event.ToolFinished:
		if c := t.calls[e.Call.ProviderID]; c != nil {
			c.took = e.Call.Duration
		}
	case event.Settled:
		t.settle(e)
	}
}

func (t *Translator) begin(at time.Time) {
	if !t.begun.IsZero() {
		return
	}
	t.begun, t.due = at, true
	t.emit(at, "operation_start", &operationStart{OperationKind: "prompt"})
	t.emit(at, "agent_start", &common{})
	t.messages = []*message{}
}

func (t *Translator) beginTurn(at time.Time) {
	if t.inTurn {
		return
	}
	t.turn++
	t.due, t.inTurn, t.turnAt = false, true, at
	t.answer, t.results, t.calls, t.wanted = nil, []*message{}, map[string]*startedCall{}, 0
	t.emit(at, "turn_start", &turnStart{Purpose: "agent"})
	t.emit(at, "turn_request", &turnRequest{Purpose: "agent", modelRef: t.api.refOf(t.ref), request: t.asked})
}

func (t *Translator) delta(e *event.Event, text string) {
	if t.settled || text == "" {
		return
	}
	t.begin(e.Time)
	if t.answer != nil {
		return // the whole was sent already
	}
	t.startMessage(e.Time)
	if e.Type == event.Thinking {
		t.thoughts += len(text)
		t.think(e.Time, text)
		return
	}
	t.texts += len(text)
	t.say(e.Time, text)
}

func (t *Translator) startMessage(at time.Time) {
	t.beginTurn(at)
	if t.open {
		return
	}
	t.open, t.texts, t.thoughts = true, 0, 0
	t.emit(at, "message_start", &messageEvent{Message: assistant(t.api.refOf(t.ref), []block{}, at)})
}

func (t *Translator) say(at time.Time, text string) {
	t.stopThinking(at)
	t.emitDelta(at, "text_delta", "text", text)
}

func (t *Translator) think(at time.Time, text string) {
	if !t.thinking {
		t.thinking = true
		t.emit(at, "thinking_start", &common{})
	}
	t.thought.WriteString(text)
	t.emitDelta(at, "thinking_delta", "delta", text)
}

func (t *Translator) stopThinking(at time.Time) {
	if !t.thinking {
		return
	}
	t.thinking = false
	t.emit(at, "thinking_end", &thinkingEnd{Content: t.thought.String()})
	t.thought.Reset()
}

func (t *Translator) entry(e *event.Event) {
	switch {
	case e.Entry == nil:
	case e.Entry.Kind == session.Assistant:
		t.startMessage(e.Time)
		t.rest(e.Time, e.Entry.Message)
		t.endMessage(e.Time, t.api.assistantOf(e.Entry, t.ref))
		for _, b := range e.Entry.Message.Content {
			if b.Type == model.ToolCallBlock {
				t.calls[b.CallID] = &startedCall{block: b}
				t.wanted++
			}
		}
	case e.Entry.Kind == session.ToolResult:
		if m := resultOf(e.Entry); m != nil && t.inTurn {
			t.toolResult(e.Time, m)
		}
	}
}

// rest sends what of an answer the deltas did not: some are merged into the entry and never come.
func (t *Translator) rest(at time.Time, m model.Message) {
	texts, thoughts := t.texts, t.thoughts
	for _, b := range m.Content {
		switch b.Type {
		case model.TextBlock:
			sent := min(texts, len(b.Text))
			texts -= sent
			if sent < len(b.Text) {
				t.say(at, b.Text[sent:])
			}
		case model.ThinkingBlock:
			sent := min(thoughts, len(b.Text))
			thoughts -= sent
			if sent < len(b.Text) {
				t.think(at, b.Text[sent:])
			}
			if thoughts == 0 {
				t.stopThinking(at) // the next block, if it is one of thinking, is another
			}
		}
	}
	t.stopThinking(at)
}

func (t *Translator) endMessage(at time.Time, m *message) {
	t.open, t.answer = false, m
	t.messages = append(t.messages, m)
	t.emit(at, "message_end", &messageEvent{Message: m})
}

func (t *Translator) toolStart(at time.Time, id string) {
	c := t.calls[id]
	if c == nil || c.begun {
		return // said before: the call was sent again, or found an executor
	}
	c.begun = true
	t.emit(at, "tool_start", &toolStart{ToolName: c.block.Tool, ToolCallID: id, Args: arguments(c.block.Args)})
}

func (t *Translator) toolResult(at time.Time, m *message) {
	t.toolStart(at, m.ToolCallID) // a refused call was never started
	call := &toolCall{
		ToolName: m.ToolName, ToolCallID: m.ToolCallID, IsError: m.IsError, Result: &toolResult{
			Content: m.Content,
			Details: m.Details,
		},
	}
	if c := t.calls[m.ToolCallID]; c != nil {
		call.DurationMs = c.took.Milliseconds()
	}
	t.emit(at, "tool_call", call)
	t.emit(at, "message_start", &messageEvent{Message: m})
	t.emit(at, "message_end", &messageEvent{Message: m})
	t.results, t.messages = append(t.results, m), append(t.messages, m)
	if len(t.results) == t.wanted {
		t.endTurn(at)
		t.due = true
	}
}

func (t *Translator) endTurn(at time.Time) {
	if !t.inTurn {
		return
	}
	m := t.answer
	end := &turn{
		Purpose: "agent", DurationMs: at.Sub(t.turnAt).Milliseconds(), modelRef: m.modelRef, StopReason: m.StopReason,
		Usage: m.Usage, Output: &bareMessage{Role: m.Role, Content: m.Content},
	}
	if m.StopReason == stopError || m.StopReason == stopAborted {
		end.IsError, end.Error, end.Output, end.Usage = true, m.ErrorMessage, nil, nil
	}
	t.emit(at, "turn_end", &turnEnd{Purpose: "agent", Message: m, ToolResults: t.results})
	t.emit(at, "turn", end)
	t.inTurn = false
}

// failTurn ends the turn at hand with a message that says why, unless its answer is whole.
func (t *Translator) failTurn(at time.Time, stop, why string) {
	if !t.inTurn {
		return
	}
	if t.answer == nil {
		t.startMessage(at)
		t.stopThinking(at)
		m := assistant(t.api.refOf(t.ref), []block{}, at)
		m.StopReason, m.ErrorMessage = stop, why
		t.endMessage(at, m)
	}
	t.endTurn(at)
}

// restart voids the turn so far. Nothing can be taken back from a reader: it is told of an attempt that failed, and of
// a new one.
func (t *Translator) restart(e *event.Event) {
	why, stop, line := e.Text, stopError, "[flue:model-retry] Retrying transient model error"
	if e.Reason != "model_retry" {
		stop, line = stopAborted, "[pawl] "+why
	}
	t.beginTurn(e.Time)
	t.failTurn(e.Time, stop, why)
	t.emit(e.Time, "agent_end", &agentEnd{Messages: t.messages})
	t.emit(e.Time, "log", &logLine{Level: "warn", Message: line, Attributes: map[string]any{"error": why}})
	t.emit(e.Time, "agent_start", &common{})
	t.messages, t.due = []*message{}, true
}

func (t *Translator) settle(e *event.Event) {
	z := e.Settlement
	t.settled = true
	end := &operation{OperationKind: "prompt", DurationMs: e.Time.Sub(t.begun).Milliseconds(), Usage: usageOf(z.Usage)}
	if z.Outcome == string(lane.Completed) {
		result := ResultOf(submission.Submission{Text: z.Text, Loop: lane.Loop{Usage: z.Usage}, Model: z.Model})
		end.Result = &result
		if t.answer != nil {
			t.endTurn(e.Time)
		}
	} else {
		why := z.Message
		if why == "" {
			why = z.Reason
		}
		name, stop := "Error", stopError
		if z.Outcome == string(lane.Aborted) {
			name, stop = "AbortError", stopAborted
		}
		t.failTurn(e.Time, stop, why)
		end.IsError, end.Error = true, &failure{Name: name, Message: "[flue] direct(" + t.sub.ID + ") failed: " + why}
	}
	t.emit(e.Time, "agent_end", &agentEnd{Messages: t.messages})
	t.emit(e.Time, "operation", end)
	t.emit(e.Time, "idle", &common{})
}

// ResultOf is the result of a submission that completed.
func ResultOf(s submission.Submission) Result {
	provider, id, _ := strings.Cut(s.Model, "/")
	return Result{Text: s.Text, Usage: usageOf(s.Usage), Model: Model{Provider: provider, ID: id}}
}

// emit numbers an event and encodes it.
func (t *Translator) emit(at time.Time, kind string, r record) {
	*r.base() = t.common(at, kind)
	body, err := Encode(r)
	if err != nil {
		return // strings and checked JSON always encode
	}
	t.out = append(t.out, Event{Type: kind, Index: t.next, JSON: body})
	t.next++
}

func (t *Translator) common(at time.Time, kind string) common {
	c := common{
		Type: kind, InstanceID: t.sub.Key.Instance, Index: t.next, Timestamp: stamp(at), Session: t.sub.Key.Name, Harness: "default",
		OperationID: "op_" + ulid(t.sub.ID, 0),
	}
	if t.inTurn {
		c.TurnID = "turn_" + ulid(t.sub.ID, uint32(t.turn))
	}
	return c
}
