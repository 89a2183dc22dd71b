package gateway

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/gateway/sse"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var statuses = map[errs.Code]int{
	errs.Unauthenticated: http.StatusUnauthorized, errs.PermissionDenied: http.StatusForbidden,
	errs.NotFound: http.StatusNotFound, errs.AlreadyExists: http.StatusConflict, errs.FailedPrecondition: http.StatusConflict,
	errs.Aborted: http.StatusConflict, errs.ResourceExhausted: http.StatusTooManyRequests, errs.Unavailable: http.StatusServiceUnavailable,
	errs.DeadlineExceeded: http.StatusGatewayTimeout, errs.OutOfRange: http.StatusGone,
}

// problemOf is the envelope of an error; ok is false when only the log may tell what it was.
func problemOf(err error) (p *flue.Error, ok bool) {
	if errors.As(err, &p) {
		return p, true
	}
	e, public := errs.Public(err)
	switch {
	case !public:
		return flue.Internal(), false
	case errors.Is(e, submission.ErrMessageTooLarge):
		return payloadTooLarge(e.Error()), true
	case e.Code() == errs.InvalidArgument:
		return flue.Malformed(e.Error()), true
	}
	status, known := statuses[e.Code()]
	if !known {
		return flue.Internal(), false
	}
	return &flue.Error{
		Status: status, Type: strings.ToLower(e.Reason()), Message: "The request was refused.",
		Details: e.Error(),
	}, true
}

// fail answers with an error.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	p, ok := problemOf(err)
	if !ok && r.Context().Err() != nil {
		return // nobody is there to answer, and most likely that is why it failed
	}
	if !ok {
		h.Log.ErrorContext(r.Context(), "a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if e, ok := errs.Public(err); ok && e.Facts()[errs.RetryAfter] != "" {
		w.Header().Set("Retry-After", e.Facts()[errs.RetryAfter])
	}
	writeJSON(w, p.Status, p.Envelope())
}

// writeJSON answers with a status and a value. A client that has left is no error of ours.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := rawjson.Encode(v)
	if err != nil {
		status, body = http.StatusInternalServerError, nil // strings and numbers always encode
	}
	// The rest of a body that is refused is read before the answer is sent. Some connections have no deadline.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(bodyLimit + sse.Stalled))
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if w.Header().Get("Retry-After") == "" {
			w.Header().Set("Retry-After", "1")
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
