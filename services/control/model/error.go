package model

import (
	"errors"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Kind is the class of a failed call.
type Kind string

// Kinds of failure. Whether a retry can help is said by Error.Retryable, which a provider may overrule.
const (
	KindOverloaded      Kind = "overloaded"       // the provider has too much to do
	KindRateLimited     Kind = "rate_limited"     // this key has asked too often
	KindQuota           Kind = "quota"            // this key has no credit left
	KindAuth            Kind = "auth"             // the key is missing, wrong or not allowed to use the model
	KindNotFound        Kind = "not_found"        // the provider has no such model or path
	KindInvalidRequest  Kind = "invalid_request"  // the provider does not accept the request
	KindContextOverflow Kind = "context_overflow" // the conversation is longer than the model's window
	KindRefused         Kind = "refused"          // the provider's safety system stopped the answer
	KindServer          Kind = "server"           // the provider failed
	KindNetwork         Kind = "network"          // the provider was not reached
	KindCut             Kind = "cut"              // the stream ended before its end
	KindStalled         Kind = "stalled"          // the stream said nothing for too long
	KindDeadline        Kind = "deadline"         // the call took longer than it may
	KindProtocol        Kind = "protocol"         // the answer is not what the API promises
	KindFailed          Kind = "failed"           // the offline model was told to fail
)

// Error is a call that failed.
type Error struct {
	Kind   Kind
	Status int // of the HTTP answer, 0 when there was none
	// Retryable reports that the same call may succeed later.
	Retryable bool
	// Once reports that the call was paid for and that another try is not likely to end better: one is made, no more.
	Once bool
	// RetryAfter is how long the provider asked us to wait, 0 when it did not say.
	RetryAfter time.Duration
	// Text tells what happened. It may be shown to a caller: it holds no key and no internals.
	Text string
}

// unavailableUntil is e as the end of a call, with a text that says when the provider can be asked again.
func (e *Error) unavailableUntil(at time.Time) *Error {
	until := *e
	until.Retryable, until.RetryAfter = false, 0
	until.Text = fmt.Sprintf("%s; it accepts requests again at %s (in %s)",
		e.Text, at.UTC().Format(time.DateTime+" MST"), time.Until(at).Round(time.Second))
	return &until
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Unwrap is the public error, so that edges find a reason and a code.
func (e *Error) Unwrap() error {
	sentinel, ok := reasons[e.Kind]
	if !ok {
		sentinel = ErrFailed
	}
	return sentinel.With("%s", e.Text)
}

// AsError finds the *Error in err.
func AsError(err error) (e *Error, ok bool) {
	ok = errors.As(err, &e)
	return e, ok
}

// Reasons why a model call failed, as callers see them.
var (
	ErrFailed      = errs.New(errs.Unavailable, "MODEL_FAILED", "the model call failed")
	ErrUnavailable = errs.New(errs.Unavailable, "MODEL_UNAVAILABLE", "the provider is not available; try again "+
		"later")
	ErrRateLimited = errs.New(errs.ResourceExhausted, "MODEL_RATE_LIMITED", "the provider's rate limit is "+
		"reached; try again later")
	ErrQuota = errs.New(errs.ResourceExhausted, "MODEL_QUOTA", "the provider's quota is used up; add "+
		"credit to the account")
	ErrAuth           = errs.New(errs.FailedPrecondition, "MODEL_AUTH", "the provider refused the key; check it")
	ErrNotFound       = errs.New(errs.NotFound, "MODEL_NOT_FOUND", "the provider has no such model; check its name")
	ErrInvalidRequest = errs.New(errs.InvalidArgument, "MODEL_INVALID_REQUEST", "the provider does not accept the "+
		"request")
	ErrContextOverflow = errs.New(errs.ResourceExhausted, "MODEL_CONTEXT_OVERFLOW", "the conversation does not fit "+
		"the model's context window")
	ErrRefused = errs.New(errs.FailedPrecondition, "MODEL_REFUSED", "the provider's safety system stopped "+
		"the answer")
	ErrDeadline = errs.New(errs.DeadlineExceeded, "MODEL_DEADLINE", "the model call took longer than it may")
)

var reasons = map[Kind]*errs.Error{
	KindOverloaded:      ErrUnavailable,
	KindRateLimited:     ErrRateLimited,
	KindQuota:           ErrQuota,
	KindAuth:            ErrAuth,
	KindNotFound:        ErrNotFound,
	KindInvalidRequest:  ErrInvalidRequest,
	KindContextOverflow: ErrContextOverflow,
	KindRefused:         ErrRefused,
	KindServer:          ErrUnavailable,
	KindNetwork:         ErrUnavailable,
	KindCut:             ErrUnavailable,
	KindStalled:         ErrUnavailable,
	KindDeadline:        ErrDeadline,
	KindProtocol:        ErrFailed,
	KindFailed:          ErrFailed,
}
