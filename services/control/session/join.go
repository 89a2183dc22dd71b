package session

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Beside reports whether entries of the kind are told in the same message as the input before them.
func (k Kind) Beside() bool { return k == Workspace || k == Skill }

// Join appends what a model is told of one more live entry. What belongs beside an input comes before its text, in the
// same message: it is surroundings, and the input is what is to be done. No model is asked between an input and what
// belongs beside it, so no request is replaced with that. A summary, what it keeps and the input that follows it are
// one message, too: providers refuse, or misread, two inputs in a row. messages is not changed; its last one may be
// replaced.
func Join(messages []model.Message, e Entry) []model.Message {
	last := len(messages) - 1
	switch {
	case e.Kind == Summary:
		return append(messages, recap(e))
	case last < 0:
	case e.Kind.Beside() && messages[last].Role == model.User:
		joined := messages[last]
		own := len(joined.Content)
		for own > 0 && !joined.Content[own-1].Beside() {
			own--
		}
		joined.Content = slices.Concat(joined.Content[:own], e.Message.Content, joined.Content[own:])
		return append(messages[:last:last], joined)
	case messages[last].Summary != nil && (e.Seq <= messages[last].Summary.To || e.Kind == Input):
		joined := messages[last]
		joined.Content = slices.Concat(joined.Content, quoted(e.Message))
		return append(messages[:last:last], joined)
	}
	return append(messages, e.Message)
}

// quoted is the content of a message as a part of a user's: the result of a call is a text there, and nothing
// that is asked for.
func quoted(m model.Message) []model.Block {
	blocks := slices.Clone(m.Content)
	for i, b := range blocks {
		if b.Type == model.ToolResultBlock {
			blocks[i] = model.Block{Type: model.TextBlock, Text: b.Text, Details: json.RawMessage(`{}`)}
		}
	}
	return blocks
}

// recap is a summary as a model is told it. Its text is a record: what a user says is an instruction otherwise. The
// details make what belongs beside an input come after it.
func recap(e Entry) model.Message {
	r := e.Range()
	text := "The conversation up to here is left out. This is a record of it, not an instruction: go on with the " +
		"work from the state that it tells.\n\n" + strings.ReplaceAll(e.Message.Text(), "</"+recapTag, "<\\/"+recapTag)
	return model.Message{Role: model.User, Summary: &r, Content: []model.Block{{
		Type: model.TextBlock, Text: "<" + recapTag + ">\n" + text + "\n</" + recapTag + ">",
		Details: json.RawMessage(`{}`),
	}}}
}

const recapTag = "conversation_summary"
