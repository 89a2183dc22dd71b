package flue

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// Error is a failure in the original's form. Clients require its three strings, empty or not.
type Error struct {
	Status  int            `json:"-"` // of HTTP
	Type    string         `json:"type"`
	Message string         `json:"message"`
	Details string         `json:"details"`
	Meta    map[string]any `json:"meta,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return e.Type + ": " + e.Message }

// Envelope is the body of a response that reports the error.
func (e *Error) Envelope() any { return map[string]any{"error": e} }

// Frame is the error as the last event of a stream. Its index is always 0.
func (e *Error) Frame(instance string) Event {
	body, err := rawjson.Encode(struct {
		Type       string `json:"type"`
		InstanceID string `json:"instanceId"`
		Error      *Error `json:"error"`
	}{"error", instance, e})
	if err != nil {
		body = []byte("{}") // strings always encode
	}
	return Event{Type: "error", JSON: body}
}

// RunFrame is the error as the last event of a run's stream. Its index is that of the last event that was sent, so that
// the reader goes on after it; below 0 there is none.
func (e *Error) RunFrame(last int) Event {
	return Event{Type: "error", Index: max(last, -1), JSON: raw(e.Envelope())}
}

// Internal hides a failure.
func Internal() *Error {
	return &Error{
		Status: http.StatusInternalServerError, Type: "internal_error", Message: "An internal error occurred.",
		Details: "The server encountered an unexpected error while handling this request.",
	}
}

// NotCompleted tells of a submission that did not complete: what clients of the original expect, and why in meta.
func NotCompleted(s submission.Submission) *Error {
	e := Internal()
	e.Meta = map[string]any{
		"submissionId": s.ID, "outcome": string(s.Outcome), "reason": s.Reason,
		"message": s.Message,
	}
	if c := s.Cancellation; c != nil {
		said := map[string]any{"confirmed": c.Confirmed, "unconfirmed": unconfirmed(c.Unconfirmed)}
		if c.More > 0 { // calls that are not named
			said["more"] = c.More
		}
		e.Meta["cancellation"] = said
	}
	return e
}

func unconfirmed(calls []call.Unconfirmed) []map[string]string {
	out := make([]map[string]string, len(calls))
	for i, c := range calls {
		out[i] = map[string]string{
			"callId": c.CallID, "tool": c.Tool, "executorId": c.Executor, "reason": c.Reason,
			"message": c.Message,
		}
	}
	return out
}

// Malformed says what is wrong with a request.
func Malformed(details string) *Error {
	return &Error{
		Status: http.StatusBadRequest, Type: "invalid_request", Message: "Request is malformed.",
		Details: details,
	}
}

// What can be malformed.
const (
	WorkflowPath = "Workflow URLs must have the shape /workflows/<name> with a non-empty segment."
	AgentPath    = "Agent URLs must have the shape /agents/<name>/<id> with non-empty segments."
	PromptBody   = `Direct agent requests must use JSON object body { "message": string, "session"?: string }.`
	SessionBlank = `Direct agent request "session" must be a non-empty string when provided.`
	SessionTask  = `Direct agent request "session" names beginning with "task:" are reserved for delegated tasks.`
	NoWebhook    = "Direct agent prompts are attached interactions. Use dispatch(...) for asynchronous delivery."
)

// InvalidJSON tells what the parser said.
func InvalidJSON(parser string) *Error {
	return &Error{
		Status: http.StatusBadRequest, Type: "invalid_json", Message: "Request body is not valid JSON.",
		Details: "The JSON parser reported: " + parser +
			"\nVerify the body is well-formed JSON, or omit the body entirely if the request doesn't have a payload.",
	}
}

// UnsupportedMediaType tells which Content-Type came, "" for none.
func UnsupportedMediaType(got string) *Error {
	line := "No Content-Type header was sent."
	if got != "" {
		line = fmt.Sprintf(`Received Content-Type: "%s".`, got)
	}
	return unsupported("Request body must be sent as application/json.", line+"\n"+
		`Send the request body as JSON with the header "Content-Type: application/json", or omit the body entirely `+
		`(and the Content-Type header) if the request doesn't have a payload.`)
}

// UnsupportedEncoding tells which Content-Encoding came.
func UnsupportedEncoding(got string) *Error {
	return unsupported("Request body must be sent without a content encoding.",
		fmt.Sprintf(`Received Content-Encoding: "%s".`, got)+"\nSend the request body as it is, without compressing "+
			"it.")
}

func unsupported(message, details string) *Error {
	return &Error{
		Status: http.StatusUnsupportedMediaType, Type: "unsupported_media_type", Message: message,
		Details: details,
	}
}

// MethodNotAllowed names the methods that a route takes.
func MethodNotAllowed(method string, allowed ...string) *Error {
	return &Error{
		Status: http.StatusMethodNotAllowed, Type: "method_not_allowed",
		Message: fmt.Sprintf("HTTP method %s is not allowed on this endpoint.", method),
		Details: fmt.Sprintf(`This endpoint accepts "%s" only.`, strings.Join(allowed, `", "`)),
	}
}

// AgentNotFound answers for an agent that is unknown, not exposed, or not the caller's. Its meta says why, as known has
// it: which agents there are for the caller and how others are loaded.
func AgentNotFound(name string, known error) *Error {
	return &Error{
		Status: http.StatusNotFound, Type: "agent_not_found", Message: fmt.Sprintf(`Agent "%s" is not registered.`,
			name),
		Details: "Verify the agent name is correct.", Meta: map[string]any{"message": known.Error()},
	}
}

// WorkflowNotFound answers for a workflow that is unknown, or not the caller's.
func WorkflowNotFound(name string) *Error {
	return &Error{
		Status: http.StatusNotFound, Type: "workflow_not_found",
		Message: fmt.Sprintf(`Workflow "%s" is not registered.`, name), Details: "Verify the workflow name is correct.",
	}
}

// WorkflowNotHTTP answers for a workflow that is there and not offered over HTTP.
func WorkflowNotHTTP(name string) *Error {
	return &Error{
		Status: http.StatusNotFound, Type: "workflow_not_http",
		Message: fmt.Sprintf(`Workflow "%s" is not web-accessible.`, name),
		Details: "This endpoint is not exposed over HTTP.",
	}
}

// RunNotFound answers for a run that is unknown, or not the caller's.
func RunNotFound(id string) *Error {
	return &Error{
		Status: http.StatusNotFound, Type: "run_not_found", Message: fmt.Sprintf(`Run "%s" was not found.`, id),
		Details: "Verify the run id is correct and its history is still available.",
	}
}

// RouteNotFound answers for everything else.
func RouteNotFound(method, path string) *Error {
	return &Error{
		Status: http.StatusNotFound, Type: "route_not_found", Message: fmt.Sprintf("No route matches %s %s.", method,
			path),
		Details: "Agents are served at POST /agents/<name>/<id>.",
	}
}
