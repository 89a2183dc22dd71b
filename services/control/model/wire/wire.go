// Package wire translates between control's own form of a conversation and the wire protocols of language models:
// Anthropic Messages, OpenAI Chat Completions, OpenAI Responses and Google's generateContent.
//
//	[]model.Message ── Encoder ──▶ request body
//	bytes ── Reader ──▶ Event ── Decoder ──▶ []model.Part
//
// Everything here is pure, but for the Reader, which reads. Nothing here knows HTTP, keys or errors of status.
//
// Requests are strict: whatever history holds, the body is one that the strictest server takes. A request repairs what
// the history lacks (results of calls, turns between turns) and never sends what servers refuse (blank texts, arguments
// that are no object, ids or names of foreign characters, images that are too big).
//
// An Encoder encodes every message once. The encoding of a conversation is a prefix, byte for byte, of the encoding of
// the same conversation with more messages, so that the prompt caches of providers hit. See Encoder.
//
// Answers are read liberally in framing, order and shape, and exactly in meaning: a call is never lost, never run
// twice, and no two calls of an answer share an id. What cannot be understood is an error that quotes what came.
package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Target is the model that requests are encoded for.
type Target struct {
	API model.API
	Ref model.Ref // its own thoughts go back to it in the provider's form, those of other models as text
	// Own says that the endpoint is the API's own and not that of a compatible server, which may not know all
	// parameters.
	Own  bool
	Info model.Info
	// Extra is laid over the top level of the body: each member replaces the codec's own of that name. The conversation
	// and "stream" cannot be replaced.
	Extra map[string][]byte
	// MaxImages is how many images a request may hold; 0 is what the API allows.
	MaxImages int
}

// ErrCut says that a stream ended before its answer did.
var ErrCut = errors.New("the stream ended before its end")

// ErrRefused says that the provider's safety system stopped the answer.
var ErrRefused = errors.New("the provider's safety system stopped the answer")

// ReportedError is an error that the provider sent in the place of an event.
type ReportedError struct{ Body []byte }

// Error implements error.
func (e *ReportedError) Error() string { return "the provider reported an error: " + quote(e.Body) }

// complains reports whether an object that is no event tells what went wrong, in one of the shapes in which servers do
// that, and those that stand between.
func complains(v []byte) bool {
	var told []byte
	pick(v, field{"error", &told}, field{"message", &told}, field{"Message", &told}, field{"detail", &told},
		field{"errors", &told}, field{"error_message", &told}, field{"__type", &told})
	return !isNull(told)
}

func reported(body []byte) error { return &ReportedError{Body: bytes.Clone(body)} }

// ForeignError says that what came is not what the API promises.
type ForeignError struct {
	What  string // what is wrong
	Came  []byte // the beginning of what came
	Final bool   // asking again brings the same
}

// Error implements error.
func (e *ForeignError) Error() string {
	if len(e.Came) == 0 {
		return e.What
	}
	return e.What + ": " + quote(e.Came)
}

// maxQuote bounds what an error quotes, in bytes.
const maxQuote = 300

// quote is the beginning of what came, on one line.
func quote(b []byte) string {
	if len(b) > maxQuote {
		return fmt.Sprintf("%.*q…", maxQuote, b)
	}
	return fmt.Sprintf("%q", b)
}
