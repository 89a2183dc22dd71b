package cli

import "errors"

// Codes that a program ends with.
const (
	Failed      = 1 // what was asked for did not work
	Usage       = 2 // the command line, or a variable, is wrong
	Unreachable = 3 // the control plane cannot be reached
)

// coded is an error with the code that it ends the program with.
type coded struct {
	error
	code int
}

// Unwrap is the error itself.
func (c coded) Unwrap() error { return c.error }

// WithCode gives an error the code that it ends the program with. nil stays nil.
func WithCode(err error, code int) error {
	if err == nil {
		return nil
	}
	return coded{err, code}
}

// Code is the code that an error ends the program with: 0 for nil.
func Code(err error) int {
	var c coded
	switch {
	case err == nil:
		return 0
	case errors.As(err, &c):
		return c.code
	}
	return Failed
}
