// Package errs gives every error that may reach a caller a machine-readable reason.
//
// A sentinel is declared once, in the package whose rule it states, with New. Code adds context with
// fmt.Errorf("…: %w", sentinel); edges translate what Public finds. Whatever carries no reason is
// internal: callers are told so and nothing else, the log has the rest.
package errs

import (
	"errors"
	"fmt"
)

// Code is the class of a failure. The values follow gRPC's canonical codes, so that edges map them one to one.
type Code uint8

// Codes, in the order in which an edge would check for them.
const (
	Internal Code = iota
	InvalidArgument
	Unauthenticated
	PermissionDenied
	NotFound
	AlreadyExists
	FailedPrecondition
	ResourceExhausted
	Aborted
	Unavailable
	DeadlineExceeded
	Canceled
	Unimplemented
	OutOfRange
)

// Error is a failure with a reason. Two errors with the same reason are the same to errors.Is.
type Error struct {
	code   Code
	reason string
	text   string
	facts  map[string]string
}

// New declares a sentinel. The reason is UPPER_SNAKE_CASE and part of the API; text is lowercase and tells what to do.
func New(code Code, reason, text string) *Error {
	return &Error{code: code, reason: reason, text: text}
}

// Error implements error.
func (e *Error) Error() string { return e.text }

// Is reports whether target carries the same reason, so that a message made by With still matches its sentinel.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.reason == e.reason
}

// With returns the sentinel with a text for this occurrence; the caller sees that text.
func (e *Error) With(format string, args ...any) error {
	return &Error{code: e.code, reason: e.reason, text: fmt.Sprintf(format, args...)}
}

// RetryAfter is the fact of an error that tells how many seconds later to try again.
const RetryAfter = "retry_after_seconds"

// WithFacts is With, and facts for machines, which callers see beside the reason.
func (e *Error) WithFacts(facts map[string]string, format string, args ...any) error {
	return &Error{code: e.code, reason: e.reason, text: fmt.Sprintf(format, args...), facts: facts}
}

// Facts are what the error tells machines beside its reason; nil for most.
func (e *Error) Facts() map[string]string { return e.facts }

// Reason is the machine-readable reason.
func (e *Error) Reason() string { return e.reason }

// Code is the class of the failure.
func (e *Error) Code() Code { return e.code }

// Public finds the error that a caller may see: its code, reason and text. ok is false when err carries no reason,
// in which case only the log may tell what happened.
func Public(err error) (e *Error, ok bool) {
	ok = errors.As(err, &e)
	return e, ok
}

// Temporary reports whether err says that what was asked cannot be answered now and may be later.
func Temporary(err error) bool {
	e, ok := Public(err)
	return ok && (e.code == Unavailable || e.code == DeadlineExceeded)
}
