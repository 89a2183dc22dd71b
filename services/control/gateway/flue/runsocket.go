package flue

import (
	"encoding/json"
	"strings"
)

// What can be wrong with a message on the socket of a workflow, beside SocketJSON and SocketBinary.
const (
	SocketInvoke = `Workflow WebSocket messages require protocol version 1, type "invoke", and a string requestId.`
	SocketOnce   = "Workflow WebSocket connections accept one invocation only."
)

// Invocation is what a client says on the socket of a workflow.
type Invocation struct {
	RequestID *string // nil when it cannot be made out; never for an invocation that is well-formed
	Payload   json.RawMessage
}

// ParseInvocation reads a message. With an error the result has the message's request id, if it can be made out.
func ParseInvocation(text []byte) (Invocation, *Error) {
	var fields map[string]json.RawMessage // unlike a struct's, a map's keys are case-sensitive
	if json.Unmarshal(text, &fields) != nil || fields == nil {
		return Invocation{}, Malformed(SocketJSON)
	}
	var in Invocation
	if id, ok := stringOf(fields["requestId"]); ok && strings.TrimSpace(id) != "" {
		in.RequestID = &id
	}
	kind, _ := stringOf(fields["type"])
	if string(fields["version"]) != "1" || kind != "invoke" || in.RequestID == nil {
		return in, Malformed(SocketInvoke)
	}
	in.Payload = json.RawMessage("{}")
	if payload, given := fields["payload"]; given {
		in.Payload = payload
	}
	return in, nil
}

// WorkflowReadyFrame is the first frame of a workflow's socket.
func WorkflowReadyFrame(workflow string) []byte {
	return socketFrame{Target: "workflow", Name: workflow}.encode("ready")
}

// RunSocket makes the frames of the one run of a workflow's socket.
type RunSocket struct {
	RequestID string
	RunID     string
}

func (s RunSocket) frame() socketFrame { return socketFrame{RequestID: &s.RequestID, RunID: s.RunID} }

// Started comes before the first event.
func (s RunSocket) Started() []byte { return s.frame().encode("started") }

// Event is an event of the run.
func (s RunSocket) Event(e Event) []byte {
	f := s.frame()
	f.Event = e.JSON
	return f.encode("event")
}

// Result is what the run came to; nothing is null.
func (s RunSocket) Result(result json.RawMessage) []byte {
	f := s.frame()
	f.Result = null(result)
	return f.encode("result")
}

// Error is why the run did not complete, or did not begin.
func (s RunSocket) Error(e *Error) []byte {
	f := s.frame()
	f.Error = e
	return f.encode("error")
}
