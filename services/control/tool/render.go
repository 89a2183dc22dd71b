package tool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/picture"
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
	body, err := rawjson.Encode(f)
	if err != nil {
		return nil // only what has a JSON form is ever put in
	}
	return body
}

// FitImages is r with images that every provider of models takes, and a text that says what was changed. A result with
// an image that cannot be shown is an error without images. It waits while other images are decoded; the only error is
// that of the context.
func (r Result) FitImages(ctx context.Context) (Result, error) {
	images := r.Images
	r.Images = nil
	for _, image := range images {
		f, err := picture.Fit(ctx, image.Data)
		switch {
		case errors.Is(err, picture.ErrUnusable):
			r.Text += fmt.Sprintf(" %s. Use bash to inspect it, or to make a copy that is smaller or of another kind.",
				sentence(err))
			r.Images, r.IsError = nil, true
			return r, nil
		case err != nil:
			return Result{}, err
		case f.Original.X > 0:
			r.Text += fmt.Sprintf(" It has %d x %d pixels and is shown as %s of %d x %d.",
				f.Original.X, f.Original.Y, f.MediaType, f.Width, f.Height)
		}
		r.Images = append(r.Images, f.Image)
	}
	return r, nil
}

// sentence is an error's text as the beginning of a sentence.
func sentence(err error) string {
	said := []byte(clip.Sanitize(err.Error()))
	if len(said) > 0 && 'a' <= said[0] && said[0] <= 'z' {
		said[0] -= 'a' - 'A'
	}
	return clip.Shorten(string(said), maxMessage)
}
