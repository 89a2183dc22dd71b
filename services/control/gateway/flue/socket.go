package flue

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/pawl-dev/pawl/internal/rawjson"
)

// What can be wrong with a message on a socket.
const (
	SocketJSON     = "WebSocket messages must be valid JSON objects."
	SocketBinary   = "Binary WebSocket messages are not supported."
	SocketType     = `Agent WebSocket messages must use protocol version 1 and type "prompt" or "ping".`
	SocketPrompt   = "Agent WebSocket prompt messages require string requestId and message values."
	SocketWhenBusy = `Agent WebSocket prompt whenBusy must be "queue", "steer" or "interrupt" when provided.`
	SocketSession  = "Agent WebSocket prompt session must be a non-empty string when provided."
	SocketTask     = `Agent WebSocket prompt session names beginning with "task:" are reserved for delegated tasks.`
	SocketPing     = "Agent WebSocket ping requestId must be a string when provided."
)

// AgentMessage is what a client says on an agent's socket: a ping, or a prompt.
type AgentMessage struct {
	Ping      bool
	RequestID *string // nil when a ping has none
	Message   string
	Session   string // "" for the default
	WhenBusy  string // ours: see submission.WhenBusy
}

// ParseAgentMessage reads a message. With an error the result has the message's request id, if it can be made out: a
// client that is told which request was wrong goes on with the others.
func ParseAgentMessage(text []byte) (AgentMessage, *Error) {
	var fields map[string]json.RawMessage // unlike a struct's, a map's keys are case-sensitive
	if json.Unmarshal(text, &fields) != nil || fields == nil {
		return AgentMessage{}, Malformed(SocketJSON)
	}
	var m AgentMessage
	id, hasID := stringOf(fields["requestId"])
	if hasID = hasID && strings.TrimSpace(id) != ""; hasID {
		m.RequestID = &id
	}
	kind, _ := stringOf(fields["type"])
	m.Ping = kind == "ping"
	if string(fields["version"]) != "1" || !m.Ping && kind != "prompt" {
		return m, Malformed(SocketType)
	}
	if m.Ping {
		if fields["requestId"] != nil && !hasID {
			return m, Malformed(SocketPing)
		}
		return m, nil
	}
	var hasMessage bool
	m.Message, hasMessage = stringOf(fields["message"])
	if !hasID || !hasMessage {
		return m, Malformed(SocketPrompt)
	}
	if raw, given := fields["whenBusy"]; given {
		var isText bool
		if m.WhenBusy, isText = stringOf(raw); !isText {
			return m, Malformed(SocketWhenBusy)
		}
	}
	raw, given := fields["session"]
	if !given {
		return m, nil
	}
	name, isText := stringOf(raw)
	switch m.Session = name; {
	case !isText || strings.TrimSpace(name) == "":
		return m, Malformed(SocketSession)
	case strings.HasPrefix(name, "task:"):
		return m, Malformed(SocketTask)
	}
	return m, nil
}

// stringOf is a JSON string; ok is false for anything else, null included.
func stringOf(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// socketFrame is what a server says. Fields that are not of its type are left out.
type socketFrame struct {
	Version    int             `json:"version"`
	Type       string          `json:"type"`
	Target     string          `json:"target,omitempty"`
	Name       string          `json:"name,omitempty"`
	InstanceID string          `json:"instanceId,omitempty"`
	RequestID  *string         `json:"requestId,omitempty"`
	RunID      string          `json:"runId,omitempty"`
	Event      json.RawMessage `json:"event,omitempty"`
	Result     json.RawMessage `json:"result,omitempty"`
	Error      *Error          `json:"error,omitempty"`
}

func (f socketFrame) encode(kind string) []byte {
	f.Version, f.Type = 1, kind
	body, err := rawjson.Encode(f)
	if err != nil {
		return []byte(`{"version":1,"type":"error","error":{"type":"internal_error","message":"","details":""}}`)
	}
	return body
}

// ReadyFrame is the first frame of an agent's socket.
func ReadyFrame(agent, instance string) []byte {
	return socketFrame{Target: "agent", Name: agent, InstanceID: instance}.encode("ready")
}

// StartedFrame comes right before the first event of a prompt.
func StartedFrame(requestID string) []byte {
	return socketFrame{RequestID: &requestID}.encode("started")
}

// EventFrame is an event of a prompt.
func EventFrame(requestID string, e Event) []byte {
	return socketFrame{RequestID: &requestID, Event: e.JSON}.encode("event")
}

// ResultFrame is what a prompt came to.
func ResultFrame(requestID string, r *Result) []byte {
	body, err := rawjson.Encode(r)
	if err != nil {
		return ErrorFrame(&requestID, Internal()) // texts and numbers always encode
	}
	return socketFrame{RequestID: &requestID, Result: body}.encode("result")
}

// ErrorFrame is a failure: of the request with the id, or of no one that is known.
func ErrorFrame(requestID *string, e *Error) []byte {
	return socketFrame{RequestID: requestID, Error: e}.encode("error")
}

// PongFrame answers a ping.
func PongFrame(requestID *string) []byte { return socketFrame{RequestID: requestID}.encode("pong") }

// TooManyPrompts refuses a prompt on a socket that has as many as it may at once.
func TooManyPrompts() *Error {
	return &Error{
		Status: http.StatusTooManyRequests, Type: "too_many_prompts", Message: "The request was refused.",
		Details: "This socket waits for as many prompts as it may; send the next one when one of them has ended.",
	}
}
