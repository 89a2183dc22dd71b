package flue

import (
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
)

// compactionStart says that a conversation is summarised.
type compactionStart struct {
	common
	Reason          string `json:"reason"`
	EstimatedTokens int64  `json:"estimatedTokens"`
}

// compactionEnd says that it was. A failure is a log line, as in the original.
type compactionEnd struct {
	common
	MessagesBefore int    `json:"messagesBefore"`
	MessagesAfter  int    `json:"messagesAfter"`
	DurationMs     int64  `json:"durationMs"`
	Usage          *Usage `json:"usage,omitempty"`
}

// kind is what the operation does.
func (l *loop) kind() string {
	if l.parent == nil && l.t.sub.Options.Compact {
		return "compact"
	}
	return "prompt"
}

// compaction tells of a summary. Unlike in the original, it may come in a turn that has begun, before its answer.
func (l *loop) compaction(e *event.Event) {
	c := e.Compaction
	if e.Type == event.CompactionStarted {
		l.emit(e.Time, "compaction_start", &compactionStart{Reason: c.Why, EstimatedTokens: c.Tokens})
		return
	}
	usage := usageOf(c.Usage)
	call := &turn{Purpose: "compaction", DurationMs: c.Duration.Milliseconds(), Usage: &usage, IsError: c.Error != ""}
	if ref, err := model.ParseRef(c.Model); err == nil {
		call.modelRef = l.t.api.refOf(ref)
	}
	if c.Error != "" {
		call.Error = c.Error
	}
	l.emit(e.Time, "turn", call)
	if c.Error != "" {
		l.emit(e.Time, "log", &logLine{
			Level: "error", Message: "[flue:compaction] Compaction failed",
			Attributes: map[string]any{"error": c.Error},
		})
		return
	}
	l.emit(e.Time, "compaction", &compactionEnd{
		MessagesBefore: c.Messages, MessagesAfter: c.MessagesNow, DurationMs: call.DurationMs, Usage: &usage,
	})
	if l.asked != nil && l.inTurn && l.answer == nil { // what was shown of the turn is not what is sent
		l.requests(e.Time)
	}
}
