package session

import (
	"slices"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Beside reports whether entries of the kind are told in the same message as the input before them.
func (k Kind) Beside() bool { return k == Workspace || k == Skill }

// Join appends what a model is told of one more entry. What belongs beside an input comes before its text, in the same
// message: it is surroundings, and the input is what is to be done. messages is not changed; its last one may be
// replaced. No model is asked between an input and what belongs beside it, so no request is replaced with that.
func Join(messages []model.Message, e Entry) []model.Message {
	last := len(messages) - 1
	if !e.Kind.Beside() || last < 0 || messages[last].Role != model.User {
		return append(messages, e.Message)
	}
	joined := messages[last]
	own := len(joined.Content)
	for own > 0 && !beside(joined.Content[own-1]) {
		own--
	}
	joined.Content = slices.Concat(joined.Content[:own], e.Message.Content, joined.Content[own:])
	return append(messages[:last:last], joined)
}

// beside reports whether a block was joined to an input: those have details.
func beside(b model.Block) bool { return b.Type == model.TextBlock && len(b.Details) > 0 }
