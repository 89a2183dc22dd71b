package tool

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of the text of a failure.
const (
	maxMessage      = 4096
	maxMessageLines = 50
)

// renderFailure tells why a call could not be done, or that nobody knows what became of it.
func renderFailure(req Request, f Failure) Result {
	text := ""
	switch f.Reason {
	case ReasonInterrupted:
		text = unknownOutcome(req)
		if why := strings.TrimSpace(sanitize(f.Message)); why != "" {
			text += "\nWhy: " + shorten(why, maxMessage)
		}
	case ReasonCancelled:
		text = "The call was cancelled."
	default:
		text = failureText(req, f)
	}
	details := fields{"reason": sanitize(f.Reason)}
	if e, ok := req.(Exec); ok {
		details["command"] = sanitize(e.Command)
	}
	if path := subject(req); path != "" {
		details["path"] = display(path)
	}
	return Result{Text: text, IsError: true, Details: details.encode()}
}

// failureText is the executor's message, with the path in front when it is not in there.
func failureText(req Request, f Failure) string {
	text := strings.TrimSpace(sanitize(f.Message))
	if end, lines := headLines(text, maxMessageLines, len(text)); lines == maxMessageLines && end < len(text) {
		text = text[:end] + "..."
	}
	if text == "" {
		text = strings.ToLower(strings.ReplaceAll(sanitize(f.Reason), "_", " "))
	}
	if text == "" {
		text = "the tool failed"
	}
	if path := subject(req); path != "" && !mentions(text, path) {
		text = display(path) + ": " + text
	}
	return shorten(text, maxMessage)
}

// mentions tells whether text holds path other than as a part of a word.
func mentions(text, path string) bool {
	inWord := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	for at := 0; ; at++ {
		i := strings.Index(text[at:], path)
		if i < 0 {
			return false
		}
		at += i
		before, _ := utf8.DecodeLastRuneInString(text[:at])
		after, _ := utf8.DecodeRuneInString(text[at+len(path):])
		if !inWord(before) && !inWord(after) {
			return true
		}
	}
}

// unknownOutcome never lets a call pass for done or for undone when it may be either.
func unknownOutcome(req Request) string {
	if req == nil {
		return "The outcome of this call is unknown."
	}
	switch SafetyOf(req.Tool()) {
	case Pure:
		return "The result of this call was lost. The call changes nothing: make it again if you still need the result."
	case Idempotent:
		return "The outcome of this call is unknown: its result was lost, and the file may or may not have been " +
			"written. Writing it " +
			"again is safe."
	}
	if req.Tool() == NameEdit {
		return "The outcome of this edit is unknown: its result was lost, and the file may or may not have been " +
			"changed. Read the " +
			"file before you repeat the edit."
	}
	return "The outcome of this command is unknown: it was interrupted or its result was lost. It may or may not " +
		"have run, and if it " +
		"ran it may or may not have finished. Check what it has done before you repeat it."
}

// subject is the path that a request is about.
func subject(req Request) string {
	switch r := req.(type) {
	case ReadText:
		return r.Path
	case WriteFile:
		return r.Path
	case EditFile:
		return r.Path
	case Grep:
		return r.Path
	case Glob:
		return r.Path
	}
	return ""
}
