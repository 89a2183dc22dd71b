package flue

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/internal/rawjson"
)

const (
	// MaxEvent is how many bytes an event of a run has at most.
	MaxEvent = 1 << 20
	// cutText is how many bytes are left of a text that is too long for its event.
	cutText = 64 << 10
)

// RunEvent is an event of a run. Its index is its place among the run's events, from 0.
type RunEvent struct {
	Index  int
	Type   string // one of eventTypes
	Time   time.Time
	Fields json.RawMessage // the event's own fields: an object, or nothing
}

// Types of a run's first and last event, of those with which it goes on, and of what goes on in it.
const (
	RunStartType  = "run_start"
	RunResumeType = "run_resume"
	RunEndType    = "run_end"
	IdleType      = "idle"
	LogType       = "log"
)

// eventTypes are those that a run's events may have, in the order in which the original names them.
var eventTypes = []string{
	RunStartType, RunResumeType, "agent_start", "agent_end", "turn_start", "turn_request", "turn_end", "message_start",
	"message_update", "message_end", "text_delta", "thinking_start", "thinking_delta", "thinking_end", "tool_start",
	"tool_call", "turn", "task_start", "task", "compaction_start", "compaction", "operation_start", "operation",
	LogType, IdleType, RunEndType,
}

// Ephemeral reports whether events of a type are for those only who follow the run when they happen.
func Ephemeral(kind string) bool {
	switch kind {
	case "message_update", "text_delta", "thinking_start", "thinking_delta", "thinking_end":
		return true
	}
	return false
}

// begun are fields of the events with which a run begins, or goes on.
type begun struct {
	RunID      string          `json:"runId"`
	Owner      runOwner        `json:"owner"`
	InstanceID string          `json:"instanceId"`
	Workflow   string          `json:"workflowName"`
	StartedAt  string          `json:"startedAt"`
	Payload    json.RawMessage `json:"payload,omitempty"`
}

// Started are the fields of the run's first event.
func (r Run) Started() json.RawMessage {
	return raw(begun{r.WireID(), r.owner(), r.WireID(), r.Workflow, stamp(r.StartedAt), null(r.Payload)})
}

// resumed are the fields of the event with which the run goes on.
func (r Run) resumed() json.RawMessage {
	return raw(begun{r.WireID(), r.owner(), r.WireID(), r.Workflow, stamp(r.StartedAt), nil})
}

// Ended are the fields of the last event of a run that has ended.
func (r Run) Ended() json.RawMessage {
	end := struct {
		RunID      string          `json:"runId"`
		Result     json.RawMessage `json:"result"`
		IsError    bool            `json:"isError"`
		Error      json.RawMessage `json:"error,omitempty"`
		DurationMs int64           `json:"durationMs"`
	}{RunID: r.WireID(), Result: null(r.Result), DurationMs: r.Took.Milliseconds()}
	if r.Status == Errored {
		end.Result, end.IsError, end.Error = null(nil), true, r.Error
	}
	return raw(end)
}

// LogLine are the fields of an event that says something. attributes is an object, or nothing.
func LogLine(level, message string, attributes json.RawMessage) json.RawMessage {
	return raw(struct {
		Level      string          `json:"level"`
		Message    string          `json:"message"`
		Attributes json.RawMessage `json:"attributes,omitempty"`
	}{level, message, attributes})
}

// Event encodes an event of the run. One that would have more than MaxEvent bytes is cut, and says so: its field
// truncated names those of its fields that were. A text is cut, everything else becomes null, as do what a run was
// asked with and what it came to.
func (r Run) Event(e RunEvent) Event {
	out := Event{Type: e.Type, Index: e.Index, JSON: r.encode(e, e.Fields)}
	if over := len(out.JSON) - MaxEvent; over > 0 {
		out.JSON = r.encode(e, e.shorten(over+len(`,"truncated":[]`)))
	}
	return out
}

// encode writes an event with the given fields. What is no object is left out: the stream has to go on.
func (r Run) encode(e RunEvent, fields json.RawMessage) []byte {
	var own bytes.Buffer
	if json.Compact(&own, fields) != nil || own.Len() < 2 || own.Bytes()[0] != '{' {
		own.Reset()
		own.WriteString("{}")
	}
	b := make([]byte, 0, own.Len()+len(r.Workflow)+160)
	b = rawjson.AppendString(append(b, `{"type":`...), e.Type)
	if inner := own.Bytes()[1 : own.Len()-1]; len(inner) > 0 {
		b = append(append(b, ','), inner...)
	}
	if !ofRun(e.Type) { // those have it among their own
		b = rawjson.AppendString(append(b, `,"runId":`...), r.WireID())
	}
	b = strconv.AppendInt(append(b, `,"eventIndex":`...), int64(e.Index), 10)
	b = append(append(b, `,"timestamp":"`...), stamp(e.Time)...)
	return append(b, `"}`...)
}

// shorten is the event's fields without what makes them too long by so many bytes: the longest are cut first.
func (e RunEvent) shorten(by int) json.RawMessage {
	var own map[string]json.RawMessage
	if json.Unmarshal(e.Fields, &own) != nil {
		return nil
	}
	names := make([]string, 0, len(own))
	for name := range own {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return len(own[b]) - len(own[a]) })
	cut := []string{}
	for _, name := range names {
		if by <= 0 {
			break
		}
		short := null(nil)
		if !ofRun(e.Type) {
			short = shortened(own[name])
		}
		by -= len(own[name]) - len(short) - len(name) - len(`"",`)
		own[name], cut = short, append(cut, name)
	}
	slices.Sort(cut)
	own["truncated"] = raw(cut)
	return raw(own)
}

// ofRun reports whether a type is one of the events with which a run begins and ends.
func ofRun(kind string) bool { return strings.HasPrefix(kind, "run_") }

// shortened is a text without its end, and null for everything else.
func shortened(v json.RawMessage) json.RawMessage {
	var text string
	if len(v) == 0 || v[0] != '"' || json.Unmarshal(v, &text) != nil {
		return null(nil)
	}
	end := min(len(text), cutText)
	for end > 0 && end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	return raw(text[:end])
}
