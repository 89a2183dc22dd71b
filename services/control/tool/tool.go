// Package tool describes everything that a model can call, and what becomes of a call.
//
//	Spec ──Define──▶ Tool ──NewSet──▶ Set, of all tools ──Offer──▶ Set, of one loop
//	answer ──Set.Read──▶ Asked.Call.Request ──(executor, loop, control)──▶ Reply ──Asked.Result──▶ Result
//
// A Tool says how its calls are carried out (Kind), how a Request is made of their arguments and how a Reply to it is
// shown to the model. Who drives calls knows kinds, and neither names of tools nor types of requests and replies. The
// requests and replies of executors' verbs are here, because several tools can use one verb; the tools that every
// agent can have are in package builtin.
//
// Everything here is pure, without I/O and clock, except that FitImages may wait and Call.Run calls a function.
//
// Invariants: a request says only what the JSON Schema of the tool allows, however the call was written. The error text
// of Parse tells the model what to change. A Result has at most MaxText bytes and MaxLines lines beside short notices,
// whatever an executor sent; it is valid UTF-8 without NUL. An unknown outcome is never rendered as success or as plain
// failure.
package tool

import (
	"encoding/json"
	"regexp"

	"github.com/pawl-dev/pawl/internal/errs"
)

// Reasons to refuse a call. Their text is meant for the model.
var (
	ErrUnknown   = errs.New(errs.NotFound, "TOOL_UNKNOWN", "no such tool")
	ErrTooMany   = errs.New(errs.ResourceExhausted, "TOOL_CALLS", "too many calls in one turn")
	ErrArguments = errs.New(errs.InvalidArgument, "TOOL_ARGUMENTS", "the arguments do not fit the tool")
)

// ErrInvalid refuses the Spec of a tool, or two tools of one name.
var ErrInvalid = errs.New(errs.InvalidArgument, "TOOL_INVALID", "the definition of the tool is invalid")

// Safety says what may be done when the outcome of a call is unknown.
type Safety uint8

// Kinds of safety.
const (
	AtMostOnce Safety = iota + 1 // has effects that must not happen twice
	Idempotent                   // running it again has the same effect
	Pure                         // has no effect
)

var safetyNames = [...]string{AtMostOnce: "at_most_once", Idempotent: "idempotent", Pure: "pure"}

// String is the word used in logs and stores.
func (s Safety) String() string { return nameOf(safetyNames[:], uint8(s)) }

// Access is what a tool lets a model do to a workspace. Clients of an agent's sessions may do as much to
// them over the API, and no more.
type Access uint8

// Kinds of access; a tool may have several.
const (
	ReadsFiles Access = 1 << iota
	ListsFiles
	WritesFiles
	RemovesFiles
	RunsCommands
)

// Spec describes a tool. It has a field for each thing that somebody has to know of it.
type Spec struct {
	Name        string // letters, digits, _ and -; at most 64
	Description string // for the model
	Schema      json.RawMessage
	Safety      Safety
	How         How      // calls are carried out
	Subject     string   // the argument that a call is about; the details of failures have it, their text has a path
	Lines       []string // arguments that must not contain a NUL character: commands, paths
	Lost        string   // what the model is told of a call whose outcome is unknown; "" is a text for the safety
	Habits      Habits
	// Exact takes the arguments as they are written. Other tools are liberal: see Set.Parse.
	Exact bool
	// Strict asks providers that can to enforce the schema while the model writes. Not every schema is fit for that.
	Strict bool
	Access Access
	Own    bool   // it is of the loop itself: no skill takes it away
	Source string // where the tool comes from, for errors: "built in", a file, a server
	// Env are variables that commands of the tool get over the agent's, unexpanded: see agent.Env.
	Env map[string]*string
	// Missing is a tool that stands for one which cannot be called now, and says why.
	Missing bool
	// Mute is a tool whose output is nothing to look at while it runs: it is no text.
	Mute bool
}

// Tool is a Spec that was checked. It is shared and must not be changed.
type Tool struct {
	Spec
	contract contract
	told     json.RawMessage // the schema as models are told it
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// ValidName reports whether a tool can have a name: 1 to 64 letters, digits, _ and -.
func ValidName(name string) bool { return validName.MatchString(name) }

// Define checks a Spec. ErrInvalid says what is wrong with it.
func Define(s Spec) (*Tool, error) {
	switch {
	case !ValidName(s.Name):
		return nil, ErrInvalid.With("%s: %q cannot be a tool's name: it must have 1 to 64 letters, digits, _ and -",
			s.Source, s.Name)
	case s.How.kind == 0 || s.Safety == 0:
		return nil, ErrInvalid.With("%s: tool %s must say how it is carried out and how safe it is to run it again",
			s.Source, s.Name)
	}
	c, err := compile(s.Schema)
	if err != nil {
		return nil, ErrInvalid.With("%s: the JSON Schema of tool %s is invalid: %v", s.Source, s.Name, err)
	}
	return &Tool{Spec: s, contract: c, told: told(s.Schema)}, nil
}

// Kind is how calls of the tool are carried out.
func (t *Tool) Kind() Kind { return t.How.kind }

// With is a copy of the tool whose calls are carried out in another way.
func (t *Tool) With(how How) *Tool {
	c := *t
	c.How = how
	return &c
}

// Exactly is a copy of the tool that takes the arguments as they are written.
func (t *Tool) Exactly() *Tool {
	c := *t
	c.Exact = true
	return &c
}

// Describe is a copy of the tool that tells models something else of itself, and in which check, unless it is nil,
// says what more is wrong with a request.
func (t *Tool) Describe(description string, check func(Request) []string) *Tool {
	c := *t
	c.Description, c.How.check = description, check
	return &c
}
