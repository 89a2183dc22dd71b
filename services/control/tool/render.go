package tool

import (
	"bytes"
	"encoding/json"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Bounds of a Result.
const (
	MaxText    = 50 * 1024 // bytes of text, notices aside
	MaxLines   = 2000      // lines of text, notices aside
	MaxMatches = 100       // matches of grep
	MaxMatch   = 500       // characters of one match
	MaxPaths   = 1000      // paths of glob
)

// Result is what a call came to: Text and Images for the model, Details for clients.
type Result struct {
	Text    string
	IsError bool
	Images  []model.Image
	Details json.RawMessage
}

// Render turns the reply to a request into what the model sees. A reply that does not belong to the request says
// nothing of what happened: it renders as an unknown outcome.
func Render(req Request, reply Reply) Result {
	if f, ok := reply.(Failure); ok {
		return renderFailure(req, f)
	}
	switch q := req.(type) {
	case ReadText:
		if r, ok := reply.(TextReply); ok {
			return renderText(q, r)
		}
	case WriteFile:
		if _, ok := reply.(WriteReply); ok {
			return renderWrite(q)
		}
	case EditFile:
		if r, ok := reply.(EditReply); ok {
			return renderEdit(q, r)
		}
	case Exec:
		if r, ok := reply.(ExecReply); ok {
			return renderExec(q, r)
		}
	case Grep:
		if r, ok := reply.(GrepReply); ok {
			return renderGrep(r)
		}
	case Glob:
		if r, ok := reply.(GlobReply); ok {
			return renderGlob(r)
		}
	}
	return renderFailure(req, Failure{Reason: ReasonInterrupted})
}

// Refused is the result of a call that Parse refused.
func Refused(err error) Result {
	return Result{Text: shorten(sanitize(err.Error()), maxMessage), IsError: true}
}

// fields are the details of a result.
type fields map[string]any

// encode is compact JSON with sorted keys, in which <, > and & stay as they are.
func (f fields) encode() json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(f); err != nil {
		return nil // only strings, numbers and booleans are ever put in
	}
	return bytes.TrimSpace(b.Bytes())
}
