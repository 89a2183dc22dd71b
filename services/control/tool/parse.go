package tool

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Parse checks the arguments of a call against the tool's schema and makes the request of them. A number or a boolean given
// as a string, a number or a boolean given for a string, and null for an optional argument are taken as what they mean. It
// returns ErrUnknown or ErrArguments; the text of the error is written for the model and may quote the arguments.
func Parse(name string, args json.RawMessage) (Request, error) {
	t, err := Get(name)
	if err != nil {
		return nil, err
	}
	clean, problems := checkArguments(t, args)
	if len(problems) > 0 {
		return nil, refuse(name, problems, args)
	}
	req, err := build(name, clean)
	if err != nil {
		return nil, refuse(name, []string{err.Error()}, args)
	}
	if problems := rules(req); len(problems) > 0 {
		return nil, refuse(name, problems, args)
	}
	return req, nil
}

// build makes the request of arguments that fit the schema.
func build(name string, args json.RawMessage) (Request, error) {
	var a struct {
		Path       string  `json:"path"`
		Offset     int64   `json:"offset"`
		Limit      int64   `json:"limit"`
		Content    string  `json:"content"`
		OldText    string  `json:"oldText"`
		NewText    string  `json:"newText"`
		ReplaceAll bool    `json:"replaceAll"`
		Command    string  `json:"command"`
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
		return Exec{Command: a.Command, TimeoutSeconds: a.Timeout}, nil
	case NameGrep:
		return Grep{Pattern: a.Pattern, Path: a.Path, Include: a.Include, Literal: a.Literal, IgnoreCase: a.IgnoreCase}, nil
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
	return ErrArguments.With("Validation failed for tool %q:\n  - %s\n\nReceived arguments:\n%s\n\nCorrect the arguments and call the tool again.",
		name, strings.Join(problems, "\n  - "), shorten(sanitize(string(args)), maxEcho))
}

func unknown(name string) error {
	return ErrUnknown.With("Tool %s not found. Available tools: %s.", shorten(sanitize(name), 100), strings.Join(Names(), ", "))
}
