package flue

import (
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// loop is what one agent does, the submission's own or a sub-agent. The compatible frames repeat much of what was said
// before, and its fields are what they repeat.
type loop struct {
	t          *Translator
	submission string
	session    string // its name
	// ref is the model that is asked; of a sub-agent that has not said so, its parent's.
	ref   model.Ref
	asked *request // what the model is asked with, nil unless it is shown

	// Of a sub-agent.
	parent *loop // nil for the root
	task   string
	agent  string
	cwd    string
	prompt *message // until it was said; nil when it is not known

	begun   time.Time // of the operation; zero before it
	settled bool
	due     bool // a turn begins after the event at hand, unless that ends the loop

	turn     int // numbers turns, restarted ones too
	inTurn   bool
	turnAt   time.Time
	answer   *message // of the turn, once it is whole
	results  []*message
	messages []*message              // since agent_start
	calls    map[string]*startedCall // of the turn, by the provider's id
	wanted   int                     // calls of the turn

	answering
	heads deltaHeads // what the JSON of its deltas has in common
}

// startedCall is what is known of a call before its result.
type startedCall struct {
	block model.Block
	begun bool
	took  time.Duration
}

func (l *loop) event(e *event.Event) {
	if l.settled {
		return
	}
	if e.Type == event.TaskStarted {
		l.asksFor(e)
	}
	l.begin(e.Time)
	switch e.Type {
	case event.Started:
		l.asked.add(e.Entry)
	case event.TaskFinished:
		l.finish(e)
	case event.EntryAdded:
		l.entry(e)
		l.asked.add(e.Entry)
	case event.Steered:
		l.steered(e)
		l.asked.add(e.Entry)
	case event.Restarted:
		l.restart(e)
	case event.ModelWaiting:
		l.emit(e.Time, "log", &logLine{Level: "info", Message: "[pawl] " + e.Wait.Message, Attributes: map[string]any{
			"reason": e.Wait.Reason, "since": stamp(e.Wait.Since), "until": stamp(e.Wait.Until),
		}})
	case event.CompactionStarted, event.CompactionFinished:
		l.compaction(e)
	case event.ModelSwitched:
		l.emit(e.Time, "log", &logLine{
			Level: "warn", Message: "[pawl] Going on with " + e.Switch.To + " in the place of " + e.Switch.From,
			Attributes: map[string]any{"reason": e.Switch.Reason, "error": e.Switch.Message},
		})
	case event.ToolStarted:
		l.toolStart(e.Time, e.Call.ProviderID)
	case event.ToolFinished:
		if c := l.calls[e.Call.ProviderID]; c != nil {
			c.took = e.Call.Duration
		}
	case event.Settled:
		l.t.endTasks(e.Time, e.Settlement)
		l.settle(e.Time, e.Settlement)
	}
}

func (l *loop) begin(at time.Time) {
	if !l.begun.IsZero() {
		return
	}
	l.begun = at
	l.startTask(at)
	l.emit(at, "operation_start", &operationStart{OperationKind: l.kind()})
	l.messages = []*message{}
	if l.due = l.kind() == "prompt"; l.due {
		l.emit(at, "agent_start", &common{})
	}
}

func (l *loop) beginTurn(at time.Time) {
	if l.inTurn {
		return
	}
	l.turn++
	l.due, l.inTurn, l.turnAt = false, true, at
	l.answer, l.results, l.calls, l.wanted = nil, []*message{}, map[string]*startedCall{}, 0
	l.emit(at, "turn_start", &turnStart{Purpose: "agent"})
	if l.prompt != nil {
		l.says(at, l.prompt)
		l.prompt = nil
	}
	l.requests(at)
}

// requests tells of the request that a model is sent.
func (l *loop) requests(at time.Time) {
	l.emit(at, "turn_request", &turnRequest{
		Purpose: "agent", modelRef: l.t.api.refOf(l.ref), request: l.asked.shown(),
	})
}

// says tells of a whole message of a user.
func (l *loop) says(at time.Time, m *message) {
	l.emit(at, "message_start", &messageEvent{Message: m})
	l.emit(at, "message_end", &messageEvent{Message: m})
	l.messages = append(l.messages, m)
}

// steered tells of an input that has joined, as of the prompt of a turn. One that comes after an answer which asked for
// nothing begins a turn.
func (l *loop) steered(e *event.Event) {
	if e.Entry == nil {
		return
	}
	m := inputOf(e.Entry)
	if l.inTurn && l.answer != nil && l.wanted == 0 {
		l.endTurn(e.Time)
	}
	if l.inTurn {
		l.says(e.Time, m)
		return
	}
	l.prompt, l.due = m, true
}

func inputOf(e *session.Entry) *message {
	return &message{Role: "user", Content: blocksOf(e.Message), Timestamp: e.CreatedAt.UnixMilli()}
}

func (l *loop) entry(e *event.Event) {
	switch {
	case e.Entry == nil:
	case e.Entry.Kind == session.Assistant:
		l.startMessage(e.Time)
		l.rest(e.Time, e.Entry.Message)
		l.endMessage(e.Time, l.t.api.assistantOf(e.Entry, l.ref))
		for _, b := range e.Entry.Message.Content {
			if b.Type == model.ToolCallBlock {
				l.calls[b.CallID] = &startedCall{block: b}
				l.wanted++
			}
		}
	case e.Entry.Kind == session.ToolResult:
		if m := resultOf(e.Entry); m != nil && l.inTurn {
			l.toolResult(e.Time, m)
		}
	}
}

func (l *loop) toolStart(at time.Time, id string) {
	c := l.calls[id]
	if c == nil || c.begun {
		return // said before: the call was sent again, or found an executor
	}
	c.begun = true
	l.emit(at, "tool_start", &toolStart{ToolName: c.block.Tool, ToolCallID: id, Args: arguments(c.block.Args)})
}

func (l *loop) toolResult(at time.Time, m *message) {
	l.toolStart(at, m.ToolCallID) // a refused call was never started
	call := &toolCall{
		ToolName: m.ToolName, ToolCallID: m.ToolCallID, IsError: m.IsError, Result: &toolResult{
			Content: m.Content,
			Details: m.Details,
		},
	}
	if c := l.calls[m.ToolCallID]; c != nil {
		call.DurationMs = c.took.Milliseconds()
	}
	l.emit(at, "tool_call", call)
	l.emit(at, "message_start", &messageEvent{Message: m})
	l.emit(at, "message_end", &messageEvent{Message: m})
	l.results, l.messages = append(l.results, m), append(l.messages, m)
	if len(l.results) == l.wanted {
		l.endTurn(at)
		l.due = true
	}
}

func (l *loop) endTurn(at time.Time) {
	if !l.inTurn {
		return
	}
	m := l.answer
	end := &turn{
		Purpose: "agent", DurationMs: at.Sub(l.turnAt).Milliseconds(), modelRef: m.modelRef, StopReason: m.StopReason,
		Usage: m.Usage, Output: &bareMessage{Role: m.Role, Content: m.Content},
	}
	if m.StopReason == stopError || m.StopReason == stopAborted {
		end.IsError, end.Error, end.Output, end.Usage = true, m.ErrorMessage, nil, nil
	}
	l.emit(at, "turn_end", &turnEnd{Purpose: "agent", Message: m, ToolResults: l.results})
	l.emit(at, "turn", end)
	l.inTurn = false
}

// failTurn ends the turn at hand with a message that says why, unless its answer is whole.
func (l *loop) failTurn(at time.Time, stop, why string) {
	if !l.inTurn {
		return
	}
	if l.answer == nil {
		l.startMessage(at)
		l.stopThinking(at)
		m := assistant(l.t.api.refOf(l.ref), []block{}, at)
		m.StopReason, m.ErrorMessage = stop, why
		l.endMessage(at, m)
	}
	l.endTurn(at)
}

// restart voids the turn so far. Nothing can be taken back from a reader: it is told of an attempt that failed, and of
// a new one.
func (l *loop) restart(e *event.Event) {
	why, stop, line := e.Text, stopError, "[flue:model-retry] Retrying transient model error"
	if e.Reason != "model_retry" {
		stop, line = stopAborted, "[pawl] "+why
	}
	if l.kind() != "prompt" {
		l.emit(e.Time, "log", &logLine{Level: "warn", Message: line, Attributes: map[string]any{"error": why}})
		return
	}
	l.beginTurn(e.Time)
	l.failTurn(e.Time, stop, why)
	l.emit(e.Time, "agent_end", &agentEnd{Messages: l.messages})
	l.emit(e.Time, "log", &logLine{Level: "warn", Message: line, Attributes: map[string]any{"error": why}})
	l.emit(e.Time, "agent_start", &common{})
	l.messages, l.due = []*message{}, true
}

// settle ends the operation.
func (l *loop) settle(at time.Time, z *event.Settlement) {
	l.settled = true
	end := &operation{OperationKind: l.kind(), DurationMs: at.Sub(l.begun).Milliseconds(), Usage: usageOf(z.Usage)}
	if z.Outcome == string(lane.Completed) {
		result := ResultOf(submission.Submission{Text: z.Text, Loop: lane.Loop{Usage: z.Usage, Model: z.Model}})
		end.Result = &result
		if l.answer != nil {
			l.endTurn(at)
		}
	} else {
		why := reasonOf(z)
		name, stop := "Error", stopError
		if z.Outcome == string(lane.Aborted) {
			name, stop = "AbortError", stopAborted
		}
		l.failTurn(at, stop, why)
		if l.parent == nil {
			why = "[flue] direct(" + l.submission + ") failed: " + why
		}
		end.IsError, end.Error = true, &failure{Name: name, Message: why}
	}
	if l.kind() == "prompt" {
		l.emit(at, "agent_end", &agentEnd{Messages: l.messages})
	}
	l.emit(at, "operation", end)
	l.emit(at, "idle", &common{})
}

// reasonOf is why something did not complete.
func reasonOf(z *event.Settlement) string {
	if z.Message != "" {
		return z.Message
	}
	return z.Reason
}

// emit numbers an event of the loop and encodes it.
func (l *loop) emit(at time.Time, kind string, r record) {
	*r.base() = l.common(at, kind)
	l.t.emit(r)
}

func (l *loop) common(at time.Time, kind string) common {
	c := common{
		Type: kind, InstanceID: l.t.sub.Key.Instance, Index: l.t.next, Timestamp: stamp(at), Session: l.session,
		TaskID: l.task, Harness: "default", OperationID: "op_" + ulid(l.submission, 0),
	}
	if l.parent != nil {
		c.ParentSession = l.parent.session
	}
	if l.inTurn {
		c.TurnID = "turn_" + ulid(l.submission, uint32(l.turn))
	}
	return c
}

// asksFor takes over what a sub-agent is asked for.
func (l *loop) asksFor(e *event.Event) {
	l.agent, l.cwd = e.Task.Agent, e.Task.Cwd
	if ref, err := model.ParseRef(e.Task.Model); err == nil {
		l.ref = ref
	}
	if e.Entry != nil {
		l.prompt = inputOf(e.Entry)
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
