package rpc

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Domain of the reasons in ErrorInfo.
const Domain = "pawl.dev"

// internalText is all that a caller hears of an internal error.
const internalText = "an internal error occurred; the server's log has the details"

// Failures that this package finds by itself.
var (
	ErrInternal = errs.New(errs.Internal, "INTERNAL", internalText)
	ErrCanceled = errs.New(errs.Canceled, "CANCELED", "the caller left")
	ErrDeadline = errs.New(errs.DeadlineExceeded, "DEADLINE_EXCEEDED", "the call's deadline has passed")
)

var toCode = map[errs.Code]codes.Code{
	errs.Internal:           codes.Internal,
	errs.InvalidArgument:    codes.InvalidArgument,
	errs.Unauthenticated:    codes.Unauthenticated,
	errs.PermissionDenied:   codes.PermissionDenied,
	errs.NotFound:           codes.NotFound,
	errs.AlreadyExists:      codes.AlreadyExists,
	errs.FailedPrecondition: codes.FailedPrecondition,
	errs.ResourceExhausted:  codes.ResourceExhausted,
	errs.Aborted:            codes.Aborted,
	errs.Unavailable:        codes.Unavailable,
	errs.DeadlineExceeded:   codes.DeadlineExceeded,
	errs.Canceled:           codes.Canceled,
	errs.Unimplemented:      codes.Unimplemented,
	errs.OutOfRange:         codes.OutOfRange,
}

var fromCode = func() map[codes.Code]errs.Code {
	m := map[codes.Code]errs.Code{}
	for e, c := range toCode {
		m[c] = e
	}
	return m
}()

// public is what a caller may know of err; ok is false when that is nothing.
func public(err error) (e *errs.Error, ok bool) {
	if e, ok := errs.Public(err); ok {
		return e, e.Code() != errs.Internal
	}
	switch {
	case errors.Is(err, context.Canceled):
		return ErrCanceled, true
	case errors.Is(err, context.DeadlineExceeded):
		return ErrDeadline, true
	}
	return ErrInternal, false
}

// isContextError reports whether err is what a context ends with, rather than a status that came over the wire.
func isContextError(err error) bool {
	if _, is := err.(interface{ GRPCStatus() *status.Status }); is { //nolint:errorlint // see ToStatus
		return false
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// ToStatus makes of an error what crosses the wire. A gRPC status passes as it is; ok is false when the error says more
// than the status does, so that it must be logged.
func ToStatus(err error) (_ error, ok bool) {
	if err == nil {
		return nil, true
	}
	if _, is := err.(interface{ GRPCStatus() *status.Status }); is { //nolint:errorlint // a wrapped status is the text of somebody else's server
		return err, true
	}
	e, ok := public(err)
	text := e.Error()
	if !ok {
		text = internalText
	}
	st, detailErr := status.New(toCode[e.Code()], text).WithDetails(&errdetails.ErrorInfo{
		Reason: e.Reason(),
		Domain: Domain, Metadata: e.Facts(),
	})
	if detailErr != nil {
		return status.Error(toCode[e.Code()], text), ok
	}
	return st.Err(), ok
}

// FromStatus makes an errs.Error of what crossed the wire, so that errors.Is with a sentinel works at the caller. An
// error without a reason of ours is returned unchanged.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	info := infoOf(err)
	if info.GetReason() == "" {
		return err
	}
	st, _ := status.FromError(err)
	return errs.New(fromCode[st.Code()], info.GetReason(), "").WithFacts(info.GetMetadata(), "%s", st.Message())
}

// Reason is the reason that a status carries, "" for none of ours.
func Reason(err error) string { return infoOf(err).GetReason() }

func infoOf(err error) *errdetails.ErrorInfo {
	st, ok := status.FromError(err)
	if !ok {
		return nil
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return info
		}
	}
	return nil
}
