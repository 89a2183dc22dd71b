package session

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// What is left of a text that is too long, in bytes: at first, and if that is not enough.
var shortened = []int{2_000, 200}

// Fit is messages of at most so many tokens, by Tokens, as far as that can be: the oldest results of calls are
// shortened to their beginning and end, then what the model itself has said, then what users have said before. The
// latest input, a summary with what it keeps, and what must be kept are told in full. messages are not changed, and
// returned themselves if they fit.
func Fit(messages []model.Message, limit int64) []model.Message {
	var size int64
	for _, m := range messages {
		size += Tokens(m)
	}
	if size <= limit {
		return messages
	}
	fitted := slices.Clone(messages)
	latest := len(messages) - 1
	for latest > 0 && messages[latest].Role != model.User {
		latest--
	}
	for _, role := range []model.Role{model.ToolRole, model.Assistant, model.User} {
		for _, most := range shortened {
			for i := range fitted {
				if size <= limit {
					return fitted
				}
				if fitted[i].Role == role && i != latest && !fitted[i].Keep && fitted[i].Summary == nil {
					before := Tokens(fitted[i])
					fitted[i] = shorten(fitted[i], most)
					size += Tokens(fitted[i]) - before
				}
			}
		}
	}
	return fitted
}

// shorten is a message whose texts have about most bytes each.
func shorten(m model.Message, most int) model.Message {
	blocks := slices.Clone(m.Content)
	for i := range blocks {
		b := &blocks[i]
		if b.Type != model.ThinkingBlock { // which is signed
			b.Text = Ends(b.Text, most)
		}
		if len(b.Args) > most+100 {
			// texts always have a form
			b.Args, _ = json.Marshal(map[string]string{"shortened": Ends(string(b.Args), most)})
		}
		if b.Image != nil && b.Type == model.ToolResultBlock {
			b.Image, b.Text = nil, strings.TrimPrefix(b.Text+"\n[an image is left out]", "\n")
		}
	}
	m.Content = blocks
	return m
}

// Ends is a text of about most bytes: all of it, or its beginning and end with what is missing between them.
func Ends(text string, most int) string {
	if len(text) <= most+100 {
		return text
	}
	head, tail := text[:most/2], text[len(text)-most/2:]
	cut := fmt.Sprintf("\n[… %d bytes are left out here …]\n", len(text)-len(head)-len(tail))
	return strings.ToValidUTF8(head, "") + cut + strings.ToValidUTF8(tail, "")
}
