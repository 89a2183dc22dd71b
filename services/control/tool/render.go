package tool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool/clip"
)

// Bounds of a Result.
const (
	MaxText  = 50 * 1024 // bytes of text, notices aside
	MaxLines = 2000      // lines of text, notices aside
)

// Result is what a call came to: Text and Images for the model, Details for clients.
type Result struct {
	Text    string
	IsError bool
	Images  []model.Image
	Details json.RawMessage
}

// Result is what the model sees of a call: why it was refused, or what its reply says; nil is none, because the call
// was never made.
func (a Asked) Result(reply Reply) Result {
	switch {
	case a.Refused != nil:
		return Result{Text: clip.Shorten(clip.Sanitize(a.Refused.Error()), maxMessage), IsError: true}
	case reply == nil:
		return a.Call.renderFailure(Failure{Reason: ReasonCancelled})
	}
	return a.Call.annotate(a.Call.render(reply))
}

// render is a reply without notes on the arguments. A reply that does not belong to the request says nothing of what
// happened: it is shown as an unknown outcome.
func (c Call) render(reply Reply) Result {
	if f, failed := reply.(Failure); failed {
		return c.renderFailure(f)
	}
	if res, ok := c.Tool.How.render(c.Request, reply); ok {
		return res
	}
	return c.renderFailure(Failure{Reason: ReasonInterrupted})
}

// RenderAnswer shows an Answer to any request: its text, within the bounds, and its details beside the given ones.
func RenderAnswer(a Answer, details Fields) Result {
	said, cut := clip.Head(strings.TrimRight(clip.Sanitize(a.Text), "\n"), MaxLines, MaxText)
	switch {
	case cut > 0:
		said = strings.TrimSuffix(said, "\n") + fmt.Sprintf("\n[... %d more bytes cut ...]", cut)
	case said == "":
		said = "(no answer)"
	}
	all := maps.Clone(details)
	for name, value := range a.Details {
		if all == nil {
			all = Fields{}
		}
		all[name] = clip.Sanitize(value)
	}
	return Result{Text: said, Details: all.Encode()}
}

// Fields are the details of a result: strings, numbers, booleans and lists of them.
type Fields map[string]any

// Encode is compact JSON with sorted keys, in which <, > and & stay as they are; nil of no fields.
func (f Fields) Encode() json.RawMessage {
	if len(f) == 0 {
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(f); err != nil {
		return nil // only what has a JSON form is ever put in
	}
	return bytes.TrimSpace(b.Bytes())
}
