// Package tool is what a model may do to a workspace: the six built-in tools, their arguments, and the text that it
// gets back.
//
//	arguments ──Parse──▶ Call.Request ──(link, executor)──▶ Reply ──Render──▶ Result ──Call.Annotate──▶ Result
//
// Everything here is pure, without I/O and clock; FitImages alone may wait. Requests and replies know nothing of the
// wire that carries them.
//
// Invariants: a request says only what the JSON Schema of the tool allows, however the call was written. The error text
// of Parse tells the model what to change. Render never returns more than MaxText bytes and MaxLines lines beside a
// short notice, whatever an executor sent. A Result is valid UTF-8 without NUL. An unknown outcome is never rendered as
// success or as plain failure.
package tool

import (
	"encoding/json"
	"slices"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/model"
)

// Names of the built-in tools.
const (
	NameRead  = "read"
	NameWrite = "write"
	NameEdit  = "edit"
	NameBash  = "bash"
	NameGrep  = "grep"
	NameGlob  = "glob"
)

// Reasons to refuse a call. Their text is meant for the model.
var (
	ErrUnknown   = errs.New(errs.NotFound, "TOOL_UNKNOWN", "no such tool")
	ErrTooMany   = errs.New(errs.ResourceExhausted, "TOOL_CALLS", "too many calls in one turn")
	ErrArguments = errs.New(errs.InvalidArgument, "TOOL_ARGUMENTS", "the arguments do not fit the tool")
)

// Safety says what may be done when the outcome of a call is unknown.
type Safety uint8

// Kinds of safety.
const (
	AtMostOnce Safety = iota + 1 // has effects that must not happen twice
	Idempotent                   // running it again has the same effect
	Pure                         // has no effect
)

// String is the word used in logs and stores.
func (s Safety) String() string {
	switch s {
	case AtMostOnce:
		return "at_most_once"
	case Idempotent:
		return "idempotent"
	case Pure:
		return "pure"
	}
	return "unspecified"
}

// Tool is one built-in tool as it is offered to a model.
type Tool struct {
	Name        string
	Description string
	Schema      json.RawMessage
	Safety      Safety
}

// Names lists the built-in tools in the order in which they are offered.
func Names() []string {
	names := make([]string, len(builtin))
	for i, t := range builtin {
		names[i] = t.Name
	}
	return names
}

// Get finds a built-in tool; ErrUnknown when there is none of that name.
func Get(name string) (Tool, error) {
	i := slices.IndexFunc(builtin, func(t Tool) bool { return t.Name == name })
	if i < 0 {
		return Tool{}, unknown(name)
	}
	return builtin[i], nil
}

// SafetyOf is the safety of a tool. An unknown name is AtMostOnce: the careful answer.
func SafetyOf(name string) Safety {
	t, err := Get(name)
	if err != nil {
		return AtMostOnce
	}
	return t.Safety
}

// Offer is what a model is told of the named tools, in the order of Names whatever the order given, so that the prompt
// prefix is stable. Names that are not built in are left out. The schemas are shared and must not be changed.
func Offer(names []string) []model.Tool {
	var out []model.Tool
	for _, t := range builtin {
		if slices.Contains(names, t.Name) {
			out = append(out, model.Tool{Name: t.Name, Description: t.Description, Schema: t.Schema})
		}
	}
	return out
}
