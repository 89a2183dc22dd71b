package flue

import (
	"encoding/json"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// request is what the model is asked with.
type request struct {
	Input     requestInput   `json:"input"`
	Reasoning model.Thinking `json:"reasoning,omitempty"`
}

type requestInput struct {
	SystemPrompt string         `json:"systemPrompt,omitempty"`
	Messages     []*bareMessage `json:"messages"`
	Tools        []requestTool  `json:"tools,omitempty"`
}

type requestTool struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters"`
}

// Show makes each turn_request carry what the model is asked with: a request whose messages are those before the
// submission, and what the submission has added since. It is to be called before the submission's first event is
// translated.
func (t *Translator) Show(r model.Request) {
	in := requestInput{SystemPrompt: r.System, Messages: []*bareMessage{}}
	for _, tool := range r.Tools {
		in.Tools = append(in.Tools, requestTool{
			Name: tool.Name, Description: tool.Description,
			Parameters: tool.Schema,
		})
	}
	t.root.asked = &request{Input: in, Reasoning: r.Thinking}
	for _, m := range r.Messages {
		t.root.asked.message(m)
	}
}

// add appends an entry, unless nothing is shown.
func (r *request) add(e *session.Entry) {
	if r != nil && e != nil {
		r.message(e.Message)
	}
}

func (r *request) message(m model.Message) {
	switch m.Role {
	case model.Assistant:
		r.Input.Messages = append(r.Input.Messages, &bareMessage{Role: "assistant", Content: blocksOf(m)})
	case model.ToolRole:
		for _, b := range m.Content {
			if one := toolMessage(b); one != nil {
				r.Input.Messages = append(r.Input.Messages, &bareMessage{
					Role: one.Role, toolRef: one.toolRef,
					Content: one.Content,
				})
			}
		}
	default:
		r.Input.Messages = append(r.Input.Messages, &bareMessage{Role: "user", Content: blocksOf(m)})
	}
}
