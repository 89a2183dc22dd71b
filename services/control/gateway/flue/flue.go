// Package flue speaks Flue 0.10.2: it turns a submission's events into that protocol's, and failures into its error
// envelope. Its public client then works unmodified.
//
//	event.Event ──Translator──▶ Event{type, index, JSON} ──AppendFrame──▶ server-sent event
//	RunEvent ─────Event───────▶ Event
//	Run ──────────Record──────▶ JSON            Error ──▶ {"error": {type, message, details}}
//
// It is pure: no I/O, no clock, no rules. What differs from the original, on purpose: message_update is not sent
// (text_delta and thinking_delta tell the same once), turn_request has its input only for readers that ask for it, and
// tool_call comes with the tool's result, when all calls of the turn have ended; what a sub-agent says comes with its
// message, as its deltas are not asked for.
package flue

import (
	"encoding/json"
	"time"

	"github.com/pawl-dev/pawl/services/control/gateway/sse"
	"github.com/pawl-dev/pawl/services/control/model"
)

// Event is one event in the original's form.
type Event struct {
	Type  string
	Index int
	JSON  []byte // without line breaks
}

// AppendFrame adds an event as a server-sent event.
func AppendFrame(dst []byte, e Event) []byte {
	return sse.AppendFrame(dst, e.Type, int64(e.Index), e.JSON)
}

// common is what every event of a session carries.
type common struct {
	Type       string `json:"type"`
	InstanceID string `json:"instanceId"`
	Index      int    `json:"eventIndex"`
	Timestamp  string `json:"timestamp"`
	Session    string `json:"session"`
	// Of a sub-agent, and of what is about one.
	ParentSession string `json:"parentSession,omitempty"`
	TaskID        string `json:"taskId,omitempty"`
	Harness       string `json:"harness"`
	OperationID   string `json:"operationId,omitempty"`
	TurnID        string `json:"turnId,omitempty"`
}

func (c *common) base() *common { return c }

// record is an event before it is encoded: a struct that begins with common.
type record interface{ base() *common }

// The events' own fields. An event without any is a common.
type (
	operationStart struct {
		common
		OperationKind string `json:"operationKind"`
	}
	operation struct {
		common
		OperationKind string   `json:"operationKind"`
		DurationMs    int64    `json:"durationMs"`
		IsError       bool     `json:"isError"`
		Error         *failure `json:"error,omitempty"`
		Result        *Result  `json:"result,omitempty"`
		Usage         Usage    `json:"usage"`
	}
	turnStart struct {
		common
		Purpose string `json:"purpose"`
	}
	turnRequest struct {
		common
		Purpose string `json:"purpose"`
		modelRef
		*request
	}
	turnEnd struct {
		common
		Purpose     string     `json:"purpose"`
		Message     *message   `json:"message"`
		ToolResults []*message `json:"toolResults"`
	}
	turn struct {
		common
		Purpose    string `json:"purpose"`
		DurationMs int64  `json:"durationMs"`
		modelRef
		Output     *bareMessage `json:"output,omitempty"`
		Usage      *Usage       `json:"usage,omitempty"`
		StopReason string       `json:"stopReason,omitempty"`
		IsError    bool         `json:"isError"`
		Error      string       `json:"error,omitempty"`
	}
	messageEvent struct {
		common
		Message *message `json:"message"`
	}
	thinkingEnd struct {
		common
		Content string `json:"content"`
	}
	toolStart struct {
		common
		ToolName   string          `json:"toolName"`
		ToolCallID string          `json:"toolCallId"`
		Args       json.RawMessage `json:"args,omitempty"`
	}
	toolCall struct {
		common
		ToolName   string      `json:"toolName"`
		ToolCallID string      `json:"toolCallId"`
		IsError    bool        `json:"isError"`
		Result     *toolResult `json:"result,omitempty"`
		DurationMs int64       `json:"durationMs"`
	}
	taskStart struct {
		common
		Prompt string `json:"prompt"`
		Agent  string `json:"agent,omitempty"`
		Cwd    string `json:"cwd,omitempty"`
	}
	task struct {
		common
		Agent      string  `json:"agent,omitempty"`
		IsError    bool    `json:"isError"`
		Result     *string `json:"result,omitempty"`
		DurationMs int64   `json:"durationMs"`
	}
	agentEnd struct {
		common
		Messages []*message `json:"messages"`
	}
	logLine struct {
		common
		Level      string         `json:"level"`
		Message    string         `json:"message"`
		Attributes map[string]any `json:"attributes,omitempty"`
	}
	failure struct {
		Name    string `json:"name"`
		Message string `json:"message"`
	}
	toolResult struct {
		Content []block         `json:"content"`
		Details json.RawMessage `json:"details,omitempty"`
	}
)

// Result is what a prompt came to.
type Result struct {
	Text  string `json:"text"`
	Usage Usage  `json:"usage"`
	Model Model  `json:"model"`
}

// Model names a model.
type Model struct {
	Provider string `json:"provider"`
	ID       string `json:"id"`
}

// Usage counts tokens and estimates cost.
type Usage struct {
	Input       int64 `json:"input"`
	Output      int64 `json:"output"`
	CacheRead   int64 `json:"cacheRead"`
	CacheWrite  int64 `json:"cacheWrite"`
	TotalTokens int64 `json:"totalTokens"`
	Cost        Cost  `json:"cost"`
}

// Cost is in US dollars.
type Cost struct {
	Input      float64 `json:"input"`
	Output     float64 `json:"output"`
	CacheRead  float64 `json:"cacheRead"`
	CacheWrite float64 `json:"cacheWrite"`
	Total      float64 `json:"total"`
}

func usageOf(u model.Usage) Usage {
	return Usage{
		Input: u.Input, Output: u.Output, CacheRead: u.CacheRead, CacheWrite: u.CacheWrite, TotalTokens: u.Total(),
		Cost: Cost{
			Input: u.Cost.Input, Output: u.Cost.Output, CacheRead: u.Cost.CacheRead,
			CacheWrite: u.Cost.CacheWrite, Total: u.Cost.Total(),
		},
	}
}

// stamp is a time as the original writes it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
