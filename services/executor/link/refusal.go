package link

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Refusals: what no retry mends.
var (
	ErrToken    = errs.New(errs.Unauthenticated, "TOKEN_REFUSED", "control refused the token")
	ErrIdentity = errs.New(errs.PermissionDenied, "EXECUTOR_REFUSED", "control refused this executor")
	ErrVersion  = errs.New(errs.FailedPrecondition, "VERSION_REFUSED", "control and this executor do not fit together")
	ErrNotPawl  = errs.New(errs.Unimplemented, "NOT_CONTROL", "what answers there is not a control plane")
)

// refusal is the reason for which trying again is pointless, or nil.
func refusal(err error, welcomed bool) error {
	st, ok := status.FromError(err)
	if !ok || strings.HasPrefix(st.Message(), "unexpected HTTP status code") {
		return nil // a proxy in between says that, and proxies come to their senses
	}
	switch st.Code() {
	case codes.Unauthenticated:
		return ErrToken.With("control refused the token (%s): make one with `control token create --executor NAME`, at this control plane", st.Message())
	case codes.PermissionDenied:
		return ErrIdentity.With("control refused this executor: %s", st.Message())
	}
	if welcomed {
		return nil
	}
	switch st.Code() {
	case codes.FailedPrecondition, codes.InvalidArgument:
		return ErrVersion.With("control refused this executor: %s", st.Message())
	case codes.Unimplemented:
		return ErrNotPawl.With("what answers there is not a control plane: %s", st.Message())
	}
	return nil
}

// plain is an error without gRPC's wrapping.
func plain(err error) string {
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return "closed by control"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}
