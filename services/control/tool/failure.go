package tool

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Bounds of the text of a failure.
const (
	maxMessage      = 4096
	maxMessageLines = 50
)

// subjectPath is a Subject that the text of a failure has in it.
const subjectPath = "path"

// renderFailure tells why a call could not be done, or that nobody knows what became of it.
func (c Call) renderFailure(f Failure) Result {
	message := ""
	switch f.Reason {
	case ReasonInterrupted:
		message = c.unknownOutcome()
		if why := strings.TrimSpace(clip.Sanitize(f.Message)); why != "" {
			message += "\nWhy: " + clip.Shorten(why, maxMessage)
		}
	case ReasonCancelled:
		message = "The call was cancelled."
	default:
		message = c.failureText(f)
	}
	details := Fields{"reason": clip.Sanitize(f.Reason)}
	if value := c.subject(); value != "" {
		details[c.Tool.Subject] = clip.Sanitize(value)
		if c.Tool.Subject == subjectPath {
			details[subjectPath] = clip.Display(value)
		}
	}
	return Result{Text: message, IsError: true, Details: details.Encode()}
}

// failureText is the executor's message, with the path in front when it is not in there.
func (c Call) failureText(f Failure) string {
	message := strings.TrimSpace(clip.Sanitize(f.Message))
	if end, lines := clip.HeadLines(message, maxMessageLines, len(message)); lines == maxMessageLines &&
		end < len(message) {
		message = message[:end] + "..."
	}
	if message == "" {
		message = strings.ToLower(strings.ReplaceAll(clip.Sanitize(f.Reason), "_", " "))
	}
	if message == "" {
		message = "the tool failed"
	}
	if path := c.subject(); c.Tool.Subject == subjectPath && path != "" && !mentions(message, path) {
		message = clip.Display(path) + ": " + message
	}
	return clip.Shorten(message, maxMessage)
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
func (c Call) unknownOutcome() string {
	switch {
	case c.Tool.Lost != "":
		return c.Tool.Lost
	case c.Tool.Safety == Pure:
		return "The result of this call was lost. The call changes nothing: make it again if you still need the result."
	case c.Tool.Safety == Idempotent:
		return "The outcome of this call is unknown: its result was lost. Making it again is safe."
	}
	return "The outcome of this call is unknown: it was interrupted or its result was lost. It may or may not have " +
		"been carried out, wholly or in part. Check what it has done before you repeat it."
}
