package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// problem is an error with its envelope: {"error": {type, message, details, meta}}.
type problem struct {
	status  int
	Type    string         `json:"type"`
	Message string         `json:"message"`
	Details string         `json:"details"`
	Meta    map[string]any `json:"meta,omitempty"`
}

// Error implements error.
func (p *problem) Error() string { return p.Type + ": " + p.Message }

func malformed(details string) *problem {
	return &problem{http.StatusBadRequest, "invalid_request", "Request is malformed.", details, nil}
}

func routeNotFound(r *http.Request) *problem {
	return &problem{http.StatusNotFound, "route_not_found", fmt.Sprintf("No route matches %s %s.", r.Method, r.URL.Path), "Agents are served at POST /agents/<name>/<id>.", nil}
}

func internal() *problem {
	return &problem{
		http.StatusInternalServerError, "internal_error", "An internal error occurred.",
		"The server encountered an unexpected error while handling this request.", nil,
	}
}

// notCompleted tells of a submission that did not complete: what clients of the original expect, with the reason beside it.
func notCompleted(s submission.Submission) *problem {
	p := internal()
	p.Meta = map[string]any{"submissionId": s.ID, "outcome": string(s.Outcome), "reason": s.Reason, "message": s.Message}
	return p
}

var statuses = map[errs.Code]int{
	errs.InvalidArgument: http.StatusBadRequest, errs.Unauthenticated: http.StatusUnauthorized, errs.PermissionDenied: http.StatusForbidden,
	errs.NotFound: http.StatusNotFound, errs.AlreadyExists: http.StatusConflict, errs.FailedPrecondition: http.StatusConflict,
	errs.ResourceExhausted: http.StatusTooManyRequests, errs.Unavailable: http.StatusServiceUnavailable,
}

// problemOf is the envelope of an error; ok is false for one that callers must not see.
func problemOf(err error) (p *problem, ok bool) {
	if errors.As(err, &p) {
		return p, true
	}
	e, public := errs.Public(err)
	status, known := 0, false
	if public {
		status, known = statuses[e.Code()]
	}
	if !known {
		return internal(), false
	}
	return &problem{status, strings.ToLower(e.Reason()), "The request was refused.", e.Error(), nil}, true
}

func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	p, ok := problemOf(err)
	if !ok {
		h.Log.Error("a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	writeJSON(w, p.status, map[string]any{"error": p})
}

// writeJSON answers with a status. A client that has left is no error of ours.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := encode(v)
	if err != nil {
		status, body = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// encode is JSON as the original writes it: no escaping for HTML, no newline at the end.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

type result struct {
	Text  string    `json:"text"`
	Usage usage     `json:"usage"`
	Model modelName `json:"model"`
}

type modelName struct {
	Provider string `json:"provider"`
	ID       string `json:"id"`
}

type usage struct {
	Input       int64 `json:"input"`
	Output      int64 `json:"output"`
	CacheRead   int64 `json:"cacheRead"`
	CacheWrite  int64 `json:"cacheWrite"`
	TotalTokens int64 `json:"totalTokens"`
	Cost        cost  `json:"cost"`
}

type cost struct {
	Input      float64 `json:"input"`
	Output     float64 `json:"output"`
	CacheRead  float64 `json:"cacheRead"`
	CacheWrite float64 `json:"cacheWrite"`
	Total      float64 `json:"total"`
}

func resultOf(s submission.Submission) result {
	provider, id, _ := strings.Cut(s.Model, "/")
	return result{Text: s.Text, Usage: usageOf(s.Usage), Model: modelName{provider, id}}
}

func usageOf(u model.Usage) usage {
	return usage{
		u.Input, u.Output, u.CacheRead, u.CacheWrite, u.Total(),
		cost{u.Cost.Input, u.Cost.Output, u.Cost.CacheRead, u.Cost.CacheWrite, u.Cost.Total()},
	}
}
