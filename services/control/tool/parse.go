package tool

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Call is a call as it was understood.
type Call struct {
	Request Request
	notes   []string // for the model: what was taken in another way than it was written
	ignored []string // arguments that the tool does not have
}

// Parse makes a request of the arguments of a call. It is liberal in what it takes, because a call that is refused
// costs a turn. An argument by another name or of another type is taken as what it means, where that is plain.
// Arguments that the tool does not have are left out, and Annotate says so. Parse returns ErrUnknown or ErrArguments;
// the text of the error is written for the model and may quote the arguments.
func Parse(name string, args json.RawMessage) (Call, error) {
	t, err := Get(name)
	if err != nil {
		return Call{}, err
	}
	clean, problems := checkArguments(t, args)
	if len(problems) > 0 {
		return Call{}, refuse(name, problems, args)
	}
	req, err := build(name, clean.values)
	if err != nil {
		return Call{}, refuse(name, []string{err.Error()}, args)
	}
	if problems := rules(req); len(problems) > 0 {
		return Call{}, refuse(name, problems, args)
	}
	return Call{Request: req, notes: clean.notes, ignored: clean.ignored}, nil
}

// maxIgnored bounds how many ignored arguments are named.
const maxIgnored = 5

// Annotate adds to the result of the call which of its arguments were ignored or taken in another way. Clients find
// every ignored argument in the details. The model is not told of an argument that only comments the call.
func (c Call) Annotate(res Result) Result {
	notes := slices.Clone(c.notes)
	var unknown []string
	for _, name := range c.ignored {
		if !aside(name) && len(unknown) < maxIgnored {
			unknown = append(unknown, display(shorten(name, 100)))
		}
	}
	if len(unknown) > 0 {
		notes = append(notes, fmt.Sprintf("Ignored: %s. The arguments of %s are %s.",
			strings.Join(unknown, ", "), c.Request.Tool(), contracts()[c.Request.Tool()].names()))
	}
	if len(notes) > 0 {
		res.Text += "\n\n[" + strings.Join(notes, " ") + "]"
	}
	if len(c.ignored) > 0 {
		details := fields{}
		if len(res.Details) == 0 || json.Unmarshal(res.Details, &details) == nil {
			names := make([]string, min(len(c.ignored), maxProblems))
			for i := range names {
				names[i] = display(shorten(c.ignored[i], 100))
			}
			details["ignored"] = names
			res.Details = details.encode()
		}
	}
	return res
}

// build makes the request of arguments that fit the schema.
func build(name string, values map[string]any) (Request, error) {
	args, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	var a struct {
		Path       string  `json:"path"`
		Offset     int64   `json:"offset"`
		Limit      int64   `json:"limit"`
		Content    string  `json:"content"`
		OldText    string  `json:"oldText"`
		NewText    string  `json:"newText"`
		ReplaceAll bool    `json:"replaceAll"`
		Command    string  `json:"command"`
		Cwd        string  `json:"cwd"`
		Timeout    float64 `json:"timeout"`
		Pattern    string  `json:"pattern"`
		Include    string  `json:"include"`
		Literal    bool    `json:"literal"`
		IgnoreCase bool    `json:"ignoreCase"`
	}
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	switch name {
	case NameRead:
		return ReadText{Path: a.Path, Offset: a.Offset, Limit: a.Limit}, nil
	case NameWrite:
		return WriteFile{Path: a.Path, Content: []byte(a.Content)}, nil
	case NameEdit:
		return EditFile{Path: a.Path, Old: a.OldText, New: a.NewText, ReplaceAll: a.ReplaceAll}, nil
	case NameBash:
		return Exec{Command: a.Command, Cwd: a.Cwd, TimeoutSeconds: a.Timeout}, nil
	case NameGrep:
		return Grep{
			Pattern: a.Pattern, Path: a.Path, Include: a.Include, Literal: a.Literal,
			IgnoreCase: a.IgnoreCase,
		}, nil
	case NameGlob:
		return Glob{Pattern: a.Pattern, Path: a.Path}, nil
	}
	return nil, fmt.Errorf("tool %s has no request", name)
}

// rules are what a schema cannot say.
func rules(req Request) []string {
	var problems []string
	noNUL := func(key, value string) {
		if strings.ContainsRune(value, 0) {
			problems = append(problems, key+": must not contain a NUL character")
		}
	}
	switch r := req.(type) {
	case ReadText:
		noNUL("path", r.Path)
	case WriteFile:
		noNUL("path", r.Path)
	case EditFile:
		noNUL("path", r.Path)
		if r.Old == r.New {
			problems = append(problems, "newText: is the same as oldText, so nothing would change")
		}
	case Exec:
		noNUL("command", r.Command)
		noNUL("cwd", r.Cwd)
		if len(r.Command) > MaxCommand {
			problems = append(problems, fmt.Sprintf(
				"command: has %d bytes, at most %d are possible; write the script to a file first, then run it",
				len(r.Command), MaxCommand))
		}
		if strings.TrimSpace(r.Command) == "" {
			problems = append(problems, "command: must not be blank")
		}
	case Grep:
		noNUL("path", r.Path)
		noNUL("include", r.Include)
	case Glob:
		noNUL("path", r.Path)
		noNUL("pattern", r.Pattern)
	}
	return problems
}

// maxEcho bounds how much of refused arguments is quoted, maxProblems how many problems are listed.
const (
	maxEcho     = 1000
	maxProblems = 20
)

func refuse(name string, problems []string, args json.RawMessage) error {
	if n := len(problems); n > maxProblems {
		problems = append(problems[:maxProblems:maxProblems], fmt.Sprintf("… %d more", n-maxProblems))
	}
	return ErrArguments.With("Validation failed for tool %q:\n  - %s\n\nReceived arguments:\n%s\n\nCorrect the "+
		"arguments and call the tool again.",
		name, strings.Join(problems, "\n  - "), shorten(sanitize(string(args)), maxEcho))
}

func unknown(name string) error {
	return ErrUnknown.With("Tool %s not found. Available tools: %s.", shorten(sanitize(name), 100),
		strings.Join(Names(), ", "))
}
