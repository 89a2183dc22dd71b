package tool

import (
	"encoding/json"
	"errors"
	"strings"
)

// Parse checks the arguments of a call against the tool's schema and makes the request of them. A number or a boolean given
// as a string, a number given for a string, and null for an optional argument are accepted as what they mean. It returns
// ErrUnknown or ErrArguments; the text of the error is written for the model and may quote the arguments.
func Parse(name string, args json.RawMessage) (Request, error) {
	return nil, errors.New("not yet")
}

func unknown(name string) error {
	return ErrUnknown.With("Tool %s not found. Available tools: %s.", name, strings.Join(Names(), ", "))
}
