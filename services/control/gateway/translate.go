package gateway

import (
	"strconv"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// translator turns a submission's events into those of the original's protocol, version 0.10.2:
//
//	started ─▶ operation_start agent_start
//	turn    ─▶ turn_start message_start (text_delta|thinking_delta)* message_end (tool_start)* (tool_call)* … turn_end turn
//	settled ─▶ agent_end operation idle
//
// It is a pure state machine. An assistant entry holds its whole text, of which deltas may have been merged or left out: what was not
// sent yet is sent before the message ends, so that the deltas always add up to the text.
type translator struct {
	sub      submission.Submission
	instance string
	next     int
	out      []byte
	began    time.Time // of the operation
	turnAt   time.Time
	turn     int // that is open, 0 for none
	turnID   string
	open     bool // a message was started
	texts    string
	thoughts string
	message  map[string]any
	usage    *usage
	stop     string
	results  []any
	messages []any
}

func newTranslator(s submission.Submission, instance string) *translator {
	return &translator{sub: s, instance: instance, messages: []any{}}
}

// frames translates a batch.
func (t *translator) frames(b batch) []byte {
	t.out = nil
	for i := range b.events {
		t.event(&b.events[i])
	}
	return t.out
}

// emit writes one event with what all events have in common.
func (t *translator) emit(at time.Time, kind string, inTurn bool, fields map[string]any) {
	e := map[string]any{
		"type": kind, "instanceId": t.instance, "eventIndex": t.next, "timestamp": at.UTC().Format("2006-01-02T15:04:05.000Z"),
		"session": t.sub.Key.Name, "harness": "default", "operationId": "op_" + compact(t.sub.ID),
	}
	if inTurn {
		e["turnId"] = t.turnID
	}
	for k, v := range fields {
		e[k] = v
	}
	body, err := encode(e)
	if err != nil {
		body = []byte(`{}`) // only what came from JSON is in it
	}
	t.out = append(t.out, frame(kind, t.next, body)...)
	t.next++
}

// compact is an id without punctuation.
func compact(id string) string { return strings.ToUpper(strings.ReplaceAll(id, "-", "")) }

func (t *translator) event(e *event.Event) {
	switch e.Type {
	case event.Started:
		t.began = e.Time
		t.emit(e.Time, "operation_start", false, map[string]any{"operationKind": "prompt"})
		t.emit(e.Time, "agent_start", false, nil)
	case event.Text:
		t.startMessage(e)
		t.texts += e.Text
		t.emit(e.Time, "text_delta", true, map[string]any{"text": e.Text})
	case event.Thinking:
		t.startMessage(e)
		if t.thoughts == "" {
			t.emit(e.Time, "thinking_start", true, nil)
		}
		t.thoughts += e.Text
		t.emit(e.Time, "thinking_delta", true, map[string]any{"delta": e.Text})
	case event.Restarted:
		t.emit(e.Time, "log", false, map[string]any{"level": "warn", "message": "[flue:model-retry] Retrying transient model error", "attributes": map[string]any{"error": e.Text}})
		t.open, t.texts, t.thoughts = false, "", ""
	case event.EntryAdded:
		t.entry(e)
	case event.ToolFinished:
		t.emit(e.Time, "tool_call", true, map[string]any{
			"toolName": e.Call.Tool, "toolCallId": e.Call.ProviderID, "isError": e.Call.IsError, "durationMs": e.Call.Duration.Milliseconds(),
		})
	case event.Settled:
		t.settled(e)
	}
}

func (t *translator) startTurn(e *event.Event) {
	if t.turn == e.Turn {
		return
	}
	t.endTurn(e.Time)
	t.turn, t.turnAt, t.turnID = e.Turn, e.Time, "turn_"+compact(t.sub.ID)+"_"+strconv.Itoa(e.Turn)
	t.emit(e.Time, "turn_start", true, map[string]any{"purpose": "agent"})
}

func (t *translator) startMessage(e *event.Event) {
	t.startTurn(e)
	if t.open {
		return
	}
	t.open = true
	t.emit(e.Time, "message_start", true, map[string]any{"message": map[string]any{"role": "assistant", "content": []any{}, "timestamp": e.Time.UnixMilli()}})
}

// entry ends a message.
func (t *translator) entry(e *event.Event) {
	if e.Entry == nil {
		return
	}
	m := messageOf(e.Entry)
	if e.Entry.Kind == session.ToolResult {
		t.results, t.messages = append(t.results, m), append(t.messages, m)
		t.emit(e.Time, "message_start", true, map[string]any{"message": m})
		t.emit(e.Time, "message_end", true, map[string]any{"message": m})
		return
	}
	if e.Entry.Kind != session.Assistant {
		return
	}
	t.startMessage(e)
	t.rest(e)
	t.message, t.stop, t.messages = m, stopOf(e.Entry.Message.Stop), append(t.messages, m)
	if u := e.Entry.Message.Usage; u != nil {
		all := usageOf(*u)
		t.usage = &all
	}
	t.emit(e.Time, "message_end", true, map[string]any{"message": m})
	t.open, t.texts, t.thoughts = false, "", ""
	for _, b := range e.Entry.Message.Content {
		if b.Type == model.ToolCallBlock {
			t.emit(e.Time, "tool_start", true, map[string]any{"toolName": b.Tool, "toolCallId": b.CallID, "args": b.Args})
		}
	}
}

// rest sends what of an answer no delta carried.
func (t *translator) rest(e *event.Event) {
	var texts, thoughts string
	for _, b := range e.Entry.Message.Content {
		switch b.Type {
		case model.TextBlock:
			texts += b.Text
		case model.ThinkingBlock:
			thoughts += b.Text
		}
	}
	if more, ok := strings.CutPrefix(thoughts, t.thoughts); ok && more != "" {
		if t.thoughts == "" {
			t.emit(e.Time, "thinking_start", true, nil)
		}
		t.emit(e.Time, "thinking_delta", true, map[string]any{"delta": more})
	}
	if thoughts != "" {
		t.emit(e.Time, "thinking_end", true, map[string]any{"content": thoughts})
	}
	if more, ok := strings.CutPrefix(texts, t.texts); ok && more != "" {
		t.emit(e.Time, "text_delta", true, map[string]any{"text": more})
	}
}

func (t *translator) endTurn(at time.Time) {
	if t.turn == 0 {
		return
	}
	results := t.results
	if results == nil {
		results = []any{}
	}
	t.emit(at, "turn_end", true, map[string]any{"purpose": "agent", "message": t.message, "toolResults": results})
	turn := map[string]any{"purpose": "agent", "durationMs": at.Sub(t.turnAt).Milliseconds(), "isError": t.message == nil, "stopReason": t.stop}
	if t.usage != nil {
		turn["usage"] = t.usage
	}
	t.emit(at, "turn", true, turn)
	t.turn, t.results, t.message, t.usage = 0, nil, nil, nil
}

func (t *translator) settled(e *event.Event) {
	t.endTurn(e.Time)
	t.emit(e.Time, "agent_end", false, map[string]any{"messages": t.messages})
	z := e.Settlement
	op := map[string]any{"operationKind": "prompt", "durationMs": e.Time.Sub(t.began).Milliseconds(), "isError": z.Outcome != string(submission.Completed), "usage": usageOf(z.Usage)}
	if z.Outcome == string(submission.Completed) {
		op["result"] = resultOf(submission.Submission{Text: z.Text, Usage: z.Usage, Model: z.Model})
	} else {
		op["error"] = map[string]any{"name": "Error", "message": z.Reason + ": " + z.Message}
	}
	t.emit(e.Time, "operation", false, op)
	t.emit(e.Time, "idle", false, nil)
}

func stopOf(s model.Stop) string {
	if s == model.StopTools {
		return "toolUse"
	}
	return string(s)
}

// messageOf is an entry in the original's form.
func messageOf(e *session.Entry) map[string]any {
	m := e.Message
	if e.Kind == session.ToolResult && len(m.Content) == 1 {
		b := m.Content[0]
		content := []any{map[string]any{"type": "text", "text": b.Text}}
		if b.Image != nil {
			content = append(content, map[string]any{"type": "image", "data": b.Image.Data, "mimeType": b.Image.MediaType})
		}
		out := map[string]any{"role": "toolResult", "toolCallId": b.CallID, "toolName": b.Tool, "content": content, "isError": b.IsError, "timestamp": e.CreatedAt.UnixMilli()}
		if len(b.Details) > 0 {
			out["details"] = b.Details
		}
		return out
	}
	content := []any{}
	for _, b := range m.Content {
		switch b.Type {
		case model.TextBlock:
			content = append(content, map[string]any{"type": "text", "text": b.Text})
		case model.ThinkingBlock:
			content = append(content, map[string]any{"type": "thinking", "thinking": b.Text})
		case model.ToolCallBlock:
			content = append(content, map[string]any{"type": "toolCall", "id": b.CallID, "name": b.Tool, "arguments": b.Args})
		}
	}
	out := map[string]any{"role": string(m.Role), "content": content, "stopReason": stopOf(m.Stop), "timestamp": e.CreatedAt.UnixMilli()}
	if m.Model != nil {
		out["provider"], out["model"], out["api"] = m.Model.Provider, m.Model.ID, m.Model.Provider
	}
	if m.Usage != nil {
		out["usage"] = usageOf(*m.Usage)
	}
	return out
}
