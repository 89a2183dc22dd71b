package modeltest

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Gemini is the protocol of Google's streamGenerateContent. Calls come whole and without ids, and nothing marks the end
// of a stream.
var Gemini = Wire{
	API:    model.APIGemini,
	Path:   "/v1beta/models/gemini-3-flash-preview:streamGenerateContent",
	Stream: geminiStream,
	Error:  googleError,
	ErrorEvent: func(kind, message string) Event {
		return Event{Data: googleError(kind, message)}
	},
}

// googleStatuses are Google's words for what others say.
var googleStatuses = map[string]string{
	"invalid_request_error": "INVALID_ARGUMENT", "authentication_error": "UNAUTHENTICATED",
	"permission_error": "PERMISSION_DENIED", "not_found_error": "NOT_FOUND", "rate_limit_error": "RESOURCE_EXHAUSTED",
	"rate_limit_exceeded": "RESOURCE_EXHAUSTED", "overloaded_error": "UNAVAILABLE", "server_error": "INTERNAL",
	"api_error": "INTERNAL",
}

var googleCodes = map[string]int{
	"INVALID_ARGUMENT": http.StatusBadRequest, "UNAUTHENTICATED": http.StatusUnauthorized,
	"PERMISSION_DENIED": http.StatusForbidden, "NOT_FOUND": http.StatusNotFound,
	"RESOURCE_EXHAUSTED": http.StatusTooManyRequests, "UNAVAILABLE": http.StatusServiceUnavailable,
	"INTERNAL": http.StatusInternalServerError,
}

func googleError(kind, message string) string {
	status, ok := googleStatuses[kind]
	if !ok {
		status = kind
	}
	failure := object{"message": message, "status": status}
	if code := googleCodes[status]; code != 0 {
		failure["code"] = code
	}
	return text(object{"error": failure})
}

func geminiStream(t Turn) Play {
	u := t.usage()
	counted := object{
		"promptTokenCount": u.Input + u.CacheRead, "cachedContentTokenCount": u.CacheRead,
		"candidatesTokenCount": u.Output, "totalTokenCount": u.Input + u.CacheRead + u.Output,
	}
	chunk := func(part object, reason string) Event {
		candidate := object{"index": 0}
		if part != nil {
			candidate["content"] = object{"role": "model", "parts": []any{part}}
		}
		if reason != "" {
			candidate["finishReason"] = reason
		}
		return event("", object{
			"candidates": []any{candidate}, "modelVersion": "gemini-3-flash-preview", "responseId": "r1",
			"usageMetadata": counted,
		})
	}
	p := Play{{Raw: ": ping\n\n"}}
	for _, s := range t.Thinking {
		p = append(p, chunk(object{"text": s, "thought": true}, ""))
	}
	// The signature of a thought comes with what follows it, or at the end of it with an empty text.
	unsent := t.Signature
	if unsent != "" && len(t.Thinking) > 0 {
		p = append(p, chunk(object{"text": "", "thought": true, "thoughtSignature": unsent}, ""))
	}
	for _, s := range t.Text {
		p = append(p, chunk(object{"text": s}, ""))
	}
	for i, c := range t.Calls {
		args := strings.Join(c.Args, "")
		if args == "" {
			args = "{}"
		}
		if !json.Valid([]byte(args)) {
			continue // the server never sends a piece of a call
		}
		part := object{"functionCall": object{"name": c.Tool, "args": json.RawMessage(args)}}
		if i == 0 && unsent != "" { // of parallel calls only the first has one
			part["thoughtSignature"] = unsent
		}
		p = append(p, chunk(part, ""))
	}
	reason := map[model.Stop]string{model.StopLength: "MAX_TOKENS"}[t.Stop]
	switch {
	case t.Refused:
		reason = "SAFETY"
	case reason == "":
		reason = "STOP"
	}
	return append(p, chunk(object{"text": ""}, reason))
}
