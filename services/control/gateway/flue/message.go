package flue

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Stop reasons of the original.
const (
	stopToolUse = "toolUse"
	stopError   = "error"
	stopAborted = "aborted"
)

// modelRef says which model was asked, and over which interface.
type modelRef struct {
	API      string `json:"api,omitempty"`
	Provider string `json:"provider,omitempty"`
	Model    string `json:"model,omitempty"`
}

// APIOf is the protocol that a model is asked over; "" when it is not known.
type APIOf func(model.Ref) model.API

// apiNames are the original's names of protocols.
var apiNames = map[model.API]string{
	model.APIAnthropic: "anthropic-messages", model.APIChat: "openai-completions",
	model.APIResponses: "openai-responses", model.APIOffline: "offline",
	model.APIGemini: "google-generative-ai", model.APIConverse: "bedrock-converse-stream",
}

func (of APIOf) refOf(r model.Ref) modelRef {
	return modelRef{API: apiNames[of(r)], Provider: r.Provider, Model: r.ID}
}

// message is an assistant's or a tool's message.
type message struct {
	Role string `json:"role"`
	*toolRef
	Content []block `json:"content"`
	modelRef
	Usage        *Usage          `json:"usage,omitempty"`
	StopReason   string          `json:"stopReason,omitempty"`
	ErrorMessage string          `json:"errorMessage,omitempty"`
	Details      json.RawMessage `json:"details,omitempty"`
	Timestamp    int64           `json:"timestamp"`
}

// toolRef is what a tool's message has beside its content.
type toolRef struct {
	ToolCallID string `json:"toolCallId"`
	ToolName   string `json:"toolName"`
	IsError    bool   `json:"isError"`
}

// bareMessage is a message without bookkeeping.
type bareMessage struct {
	Role string `json:"role"`
	*toolRef
	Content []block `json:"content"`
}

// block is one piece of a message.
type block struct {
	Type      string          `json:"type"`
	Text      *string         `json:"text,omitempty"`
	Thinking  *string         `json:"thinking,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	Data      []byte          `json:"data,omitempty"`
	MimeType  string          `json:"mimeType,omitempty"`
}

// assistant is an assistant's message with the given content.
func assistant(ref modelRef, content []block, at time.Time) *message {
	return &message{
		Role: "assistant", Content: content, modelRef: ref, Usage: &Usage{}, StopReason: string(model.StopEnd),
		Timestamp: at.UnixMilli(),
	}
}

// assistantOf is an assistant's entry.
func (of APIOf) assistantOf(e *session.Entry, ref model.Ref) *message {
	if e.Message.Model != nil {
		ref = *e.Message.Model
	}
	m := assistant(of.refOf(ref), blocksOf(e.Message), e.CreatedAt)
	if e.Message.Usage != nil {
		*m.Usage = usageOf(*e.Message.Usage)
	}
	switch e.Message.Stop {
	case model.StopTools:
		m.StopReason = stopToolUse
	case "":
	default:
		m.StopReason = string(e.Message.Stop)
	}
	return m
}

// blocksOf is what a message of an assistant or a user says.
func blocksOf(m model.Message) []block {
	blocks := []block{}
	for _, b := range m.Content {
		switch b.Type {
		case model.TextBlock:
			blocks = append(blocks, textBlock(b.Text))
		case model.ThinkingBlock:
			blocks = append(blocks, block{Type: "thinking", Thinking: &b.Text})
		case model.ToolCallBlock:
			blocks = append(blocks, block{Type: "toolCall", ID: b.CallID, Name: b.Tool, Arguments: arguments(b.Args)})
		case model.FileBlock:
			blocks = append(blocks, textBlock("[File: "+b.Text+"]"))
		case model.ImageBlock:
			blocks = append(blocks, imageBlock(b.Image))
		}
	}
	return blocks
}

// imageBlock is an image; of one that is stored beside the conversation it says so, and where it is.
func imageBlock(i *model.Image) block {
	if len(i.Data) == 0 {
		return textBlock(fmt.Sprintf("[Image: %s, %d bytes, sha256 %s]", i.MediaType, i.Bytes(), i.SHA256))
	}
	return block{Type: "image", Data: i.Data, MimeType: i.MediaType}
}

func textBlock(text string) block { return block{Type: "text", Text: &text} }

// arguments are a call's arguments. What a model wrote instead of JSON is passed on as a string, so that the event can
// be sent.
func arguments(raw json.RawMessage) json.RawMessage {
	switch {
	case len(raw) == 0:
		return json.RawMessage("{}")
	case json.Valid(raw):
		return raw
	}
	text, err := json.Marshal(string(raw))
	if err != nil {
		return json.RawMessage("{}")
	}
	return text
}

// resultOf is a tool result's entry; nil when it holds no result.
func resultOf(e *session.Entry) *message {
	for _, b := range e.Message.Content {
		if m := toolMessage(b); m != nil {
			m.Timestamp = e.CreatedAt.UnixMilli()
			return m
		}
	}
	return nil
}

// toolMessage is a tool result's message; nil for a block that is none.
func toolMessage(b model.Block) *message {
	if b.Type != model.ToolResultBlock {
		return nil
	}
	m := &message{
		Role: "toolResult", toolRef: &toolRef{ToolCallID: b.CallID, ToolName: b.Tool, IsError: b.IsError},
		Content: []block{textBlock(b.Text)},
	}
	if b.Image != nil {
		m.Content = append(m.Content, imageBlock(b.Image))
	}
	if len(b.Details) > 0 && json.Valid(b.Details) {
		m.Details = b.Details
	}
	return m
}

// request is what the model is asked with.
type request struct {
	Input     requestInput   `json:"input"`
	Reasoning model.Thinking `json:"reasoning,omitempty"`

	messages []model.Message // that Input is to have
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
// translated, and before one that Outdates.
func (t *Translator) Show(r model.Request) {
	in := requestInput{SystemPrompt: r.System}
	for _, tool := range r.Tools {
		in.Tools = append(in.Tools, requestTool{
			Name: tool.Name, Description: tool.Description,
			Parameters: tool.Schema,
		})
	}
	t.root.asked = &request{Input: in, Reasoning: r.Thinking, messages: r.Messages}
}

// Outdates reports whether an event changes what was shown before it: a summary stands for some of the messages then,
// and Show is to be called again, with those up to the summary.
func Outdates(e *event.Event) bool {
	return e.Loop == nil && e.Type == event.EntryAdded && e.Entry != nil && e.Entry.Kind == session.Summary
}

// add appends an entry, unless nothing is shown. A summary was shown before.
func (r *request) add(e *session.Entry) {
	if r != nil && e != nil && e.Kind != session.Summary {
		r.messages = session.Join(r.messages, *e)
	}
}

// shown is the request with its messages.
func (r *request) shown() *request {
	if r == nil {
		return nil
	}
	all := request{Input: r.Input, Reasoning: r.Reasoning}
	all.Input.Messages = []*bareMessage{}
	for _, m := range r.messages {
		all.message(m)
	}
	return &all
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
