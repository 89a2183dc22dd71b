package tool

import (
	"encoding/json"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Bounds of a Result.
const (
	MaxText    = 50 * 1024       // bytes of text, notices aside
	MaxLines   = 2000            // lines of text, notices aside
	MaxMatches = 100             // matches of grep
	MaxMatch   = 500             // characters of one match
	MaxPaths   = 1000            // paths of glob
	MaxImage   = 5 * 1024 * 1024 // bytes of an image
)

// Result is what a call came to: Text and Images for the model, Details for clients.
type Result struct {
	Text    string
	IsError bool
	Images  []model.Image
	Details json.RawMessage
}

// Render turns the reply to a request into what the model sees. A reply that does not belong to the request is an error
// result, never a panic.
func Render(req Request, reply Reply) Result {
	return Result{}
}

// Refused is the result of a call that Parse refused.
func Refused(err error) Result {
	return Result{Text: err.Error(), IsError: true}
}
