package transcode

import (
	"cmp"
	"encoding/json"
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// statuses are those of errors by their code. Google's mapping answers 400 to FAILED_PRECONDITION and to OUT_OF_RANGE;
// here the first is a conflict with how things are, and the second a cursor whose events are gone.
var statuses = map[codes.Code]int{
	codes.InvalidArgument: http.StatusBadRequest, codes.Unauthenticated: http.StatusUnauthorized,
	codes.PermissionDenied: http.StatusForbidden, codes.NotFound: http.StatusNotFound,
	codes.AlreadyExists: http.StatusConflict, codes.FailedPrecondition: http.StatusConflict,
	codes.Aborted: http.StatusConflict, codes.ResourceExhausted: http.StatusTooManyRequests,
	codes.Unavailable: http.StatusServiceUnavailable, codes.DeadlineExceeded: http.StatusGatewayTimeout,
	codes.OutOfRange: http.StatusGone, codes.Canceled: 499, codes.Unimplemented: http.StatusNotImplemented,
}

// byReason are the reasons whose status their code does not tell.
var byReason = map[string]int{
	"METHOD_NOT_ALLOWED": http.StatusMethodNotAllowed, "UNSUPPORTED_MEDIA_TYPE": http.StatusUnsupportedMediaType,
	"BODY_TOO_LARGE": http.StatusRequestEntityTooLarge, "BODY_LATE": http.StatusRequestTimeout,
	"MESSAGE_TOO_LARGE": http.StatusRequestEntityTooLarge, "CURSOR_AHEAD": http.StatusBadRequest,
	"CONDITION_FAILED": http.StatusPreconditionFailed, "RANGE_NOT_SATISFIABLE": http.StatusRequestedRangeNotSatisfiable,
	"UPGRADE_REQUIRED": http.StatusUpgradeRequired,
	"NO_SPACE":         http.StatusInsufficientStorage, "TOO_LARGE": http.StatusRequestEntityTooLarge,
}

// Problem is why a request failed: the content of every error on /v1.
type Problem struct {
	Reason    string            `json:"reason"`
	Message   string            `json:"message"`
	Details   map[string]string `json:"details,omitempty"`
	RequestID string            `json:"request_id"`

	status int
}

// problemOf reads an error of an RPC.
func problemOf(err error, requestID string) Problem {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	p := Problem{
		Reason: reasonOf(st.Code()), Message: st.Message(), RequestID: requestID, status: statuses[st.Code()],
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == rpc.Domain {
			p.Reason, p.Details = info.GetReason(), info.GetMetadata()
		}
	}
	if known, ok := byReason[p.Reason]; ok {
		p.status = known
	}
	if p.status == 0 {
		p.status = http.StatusInternalServerError
	}
	return p
}

// reasonOf is the reason of an error that gives none: it comes from the library, not from a handler.
func reasonOf(c codes.Code) string {
	switch c {
	case codes.ResourceExhausted:
		return "RESOURCE_EXHAUSTED"
	case codes.Unavailable:
		return "UNAVAILABLE"
	case codes.Canceled:
		return "CANCELED"
	case codes.DeadlineExceeded:
		return "DEADLINE_EXCEEDED"
	case codes.Unimplemented:
		return "UNIMPLEMENTED"
	}
	return "INTERNAL"
}

// retryAfter is how many seconds a caller waits that is told to come later, unless the error tells.
const retryAfter = "1"

// write answers with the problem.
func (p Problem) write(w http.ResponseWriter) {
	head := w.Header()
	switch p.status {
	case http.StatusUnauthorized:
		head.Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		head.Set("Retry-After", cmp.Or(p.Details[errs.RetryAfter], retryAfter))
	}
	head.Set("Content-Type", "application/json")
	head.Set("Cache-Control", "no-store")
	w.WriteHeader(p.status)
	_, _ = w.Write(append(p.encode(), '\n'))
}

// encode is the envelope.
func (p Problem) encode() []byte {
	body, err := json.Marshal(map[string]Problem{"error": p})
	if err != nil {
		return []byte(`{"error":{}}`) // texts always encode
	}
	return body
}
