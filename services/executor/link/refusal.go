package link

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/status"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rpc"
)

// Refusals: what no retry mends.
var (
	ErrToken    = errs.New(errs.Unauthenticated, "TOKEN_REFUSED", "control refused the token")
	ErrIdentity = errs.New(errs.PermissionDenied, "EXECUTOR_REFUSED", "control refused this executor")
	ErrVersion  = errs.New(errs.FailedPrecondition, "VERSION_REFUSED", "control and this executor do not fit together")
)

// refusals are the reasons of control that are final, see Connect in the protocol. A code is none: proxies and other
// servers send codes too, and the same code says "not now" elsewhere.
var refusals = map[string]*errs.Error{
	"UNAUTHENTICATED":    ErrToken,
	"FORBIDDEN":          ErrIdentity,
	"EXECUTOR_IDENTITY":  ErrIdentity,
	"LABELS_REFUSED":     ErrIdentity,
	"NAME_IN_USE":        ErrIdentity,
	"PROTOCOL_VERSION":   ErrVersion,
	"UNKNOWN_CAPABILITY": ErrVersion,
	"HELLO_INVALID":      ErrVersion,
}

// refusal is the reason for which trying again is pointless, or nil.
func refusal(err error) error {
	final := refusals[rpc.Reason(err)]
	switch final {
	case nil:
		return nil
	case ErrToken:
		return ErrToken.With("control refused the token (%s): make one with `control token create --executor NAME`, "+
			"at this control plane", plain(err))
	}
	return final.With("control refused this executor: %s", plain(err))
}

// notNow reports whether control ends, or begins to serve: nothing is wrong, and somebody will be there soon.
func notNow(err error) bool {
	reason := rpc.Reason(err)
	return reason == "DRAINING" || reason == "NO_LEASE"
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
