package provider

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/fnv"
	"strconv"

	"charm.land/fantasy"
	"charm.land/fantasy/providers/anthropic"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Texts that stand for what cannot be sent.
const (
	noOutput  = "(no output)"
	noResult  = "No result provided"
	noImages  = "(an image is left out: this model does not take images)"
	imageNext = "(see the image below)"
)

// prompter turns a conversation into fantasy's form, and repairs what APIs refuse: empty texts, tool calls without a result, results
// without a call, ids that occur twice or have foreign characters.
type prompter struct {
	model    *languageModel
	exchange *exchange
	out      fantasy.Prompt

	pending []string          // the calls of the last assistant message that have no result yet, as they are sent
	ids     map[string]string // of those calls, from the message to what is sent
	used    map[string]bool   // ids that were sent
}

// prompt is the whole conversation.
func (m *languageModel) prompt(req model.Request, x *exchange) fantasy.Prompt {
	p := &prompter{model: m, exchange: x, used: map[string]bool{}}
	if req.System != "" {
		p.add(fantasy.MessageRoleSystem, fantasy.TextPart{Text: req.System})
	}
	for i := 0; i < len(req.Messages); i++ {
		switch msg := req.Messages[i]; msg.Role {
		case model.Assistant:
			p.settle(nil)
			p.assistant(msg)
		case model.ToolRole: // all results of one turn are one message
			results := msg.Content
			for ; i+1 < len(req.Messages) && req.Messages[i+1].Role == model.ToolRole; i++ {
				results = append(results[:len(results):len(results)], req.Messages[i+1].Content...)
			}
			p.settle(results)
		default:
			p.settle(nil)
			p.user(msg)
		}
	}
	p.settle(nil)
	if m.api == model.APIAnthropic {
		markCache(p.out)
	}
	return p.out
}

func (p *prompter) add(role fantasy.MessageRole, parts ...fantasy.MessagePart) {
	if len(parts) > 0 {
		p.out = append(p.out, fantasy.Message{Role: role, Content: parts})
	}
}

func (p *prompter) user(msg model.Message) {
	var parts []fantasy.MessagePart
	for _, b := range msg.Content {
		switch {
		case b.Type == model.TextBlock && b.Text != "":
			parts = append(parts, fantasy.TextPart{Text: b.Text})
		case b.Type == model.ImageBlock && b.Image != nil:
			parts = append(parts, p.image(b.Image))
		}
	}
	p.add(fantasy.MessageRoleUser, parts...)
}

func (p *prompter) image(i *model.Image) fantasy.MessagePart {
	if !p.seesImages() {
		return fantasy.TextPart{Text: noImages}
	}
	return fantasy.FilePart{Data: i.Data, MediaType: i.MediaType}
}

func (p *prompter) seesImages() bool { return p.model.info.Images == nil || *p.model.info.Images }

// assistant adds a message of a model, unless it only thought.
func (p *prompter) assistant(msg model.Message) {
	own := msg.Model != nil && *msg.Model == p.model.ref
	var parts []fantasy.MessagePart
	says := false
	p.ids = map[string]string{}
	for _, b := range msg.Content {
		switch b.Type {
		case model.TextBlock:
			if b.Text != "" {
				parts = append(parts, fantasy.TextPart{Text: b.Text})
				says = true
			}
		case model.ThinkingBlock:
			if part := p.thinking(b, own); part != nil {
				parts = append(parts, part)
				says = says || part.GetType() == fantasy.ContentTypeText && !own
			}
		case model.ToolCallBlock:
			id := p.id(b.CallID)
			p.ids[b.CallID] = id
			p.pending = append(p.pending, id)
			parts = append(parts, fantasy.ToolCallPart{ToolCallID: id, ToolName: b.Tool, Input: string(b.Args), ProviderOptions: unpack(b, own)})
			says = true
		}
	}
	if p.model.api == model.APIChat {
		parts = oneText(parts)
	}
	if says {
		p.add(fantasy.MessageRoleAssistant, parts...)
	}
}

// oneText makes one text of all, in the place of the first: fantasy sends no more than one in a chat.
func oneText(parts []fantasy.MessagePart) []fantasy.MessagePart {
	var out []fantasy.MessagePart
	at := -1
	for _, part := range parts {
		text, ok := part.(fantasy.TextPart)
		switch {
		case !ok:
			out = append(out, part)
		case at < 0:
			at, out = len(out), append(out, text)
		default:
			first, _ := out[at].(fantasy.TextPart)
			out[at] = fantasy.TextPart{Text: join(first.Text, text.Text)}
		}
	}
	return out
}

// thinking is a thought as its own model gets it back. To other models it is a text.
func (p *prompter) thinking(b model.Block, own bool) fantasy.MessagePart {
	switch {
	case !own && b.Text != "":
		return fantasy.TextPart{Text: b.Text}
	case !own:
		return nil
	case p.model.api == model.APIResponses:
		if item := reasoningItem(b.Opaque); item != nil {
			return fantasy.TextPart{Text: p.exchange.mark(item)}
		}
		return nil
	default:
		return fantasy.ReasoningPart{Text: b.Text, ProviderOptions: unpack(b, own)}
	}
}

// settle adds the results of the pending calls: those of the message and, for calls that have none, an error.
func (p *prompter) settle(results []model.Block) {
	var parts, images []fantasy.MessagePart
	for _, b := range results {
		id, ok := p.ids[b.CallID]
		if b.Type != model.ToolResultBlock || !ok || !p.take(id) {
			continue
		}
		part, image := p.result(id, b)
		parts = append(parts, part)
		if image != nil {
			images = append(images, image)
		}
	}
	for _, id := range p.pending {
		//lint:ignore ST1005 the model reads it
		parts = append(parts, fantasy.ToolResultPart{ToolCallID: id, Output: fantasy.ToolResultOutputContentError{Error: errors.New(noResult)}})
	}
	p.pending, p.ids = nil, nil
	p.add(fantasy.MessageRoleTool, parts...)
	p.add(fantasy.MessageRoleUser, images...)
}

// take removes a pending call.
func (p *prompter) take(id string) bool {
	for i, pending := range p.pending {
		if pending == id {
			p.pending = append(p.pending[:i:i], p.pending[i+1:]...)
			return true
		}
	}
	return false
}

// result is one result. OpenAI takes no images in results, and nothing between two results: images follow in a user message.
func (p *prompter) result(id string, b model.Block) (fantasy.ToolResultPart, fantasy.MessagePart) {
	part := fantasy.ToolResultPart{ToolCallID: id}
	text := b.Text
	var image fantasy.MessagePart
	switch {
	case b.Image == nil || b.IsError:
	case !p.seesImages():
		text = join(text, noImages)
	case p.model.api == model.APIAnthropic:
		part.Output = fantasy.ToolResultOutputContentMedia{
			Data: base64.StdEncoding.EncodeToString(b.Image.Data), MediaType: b.Image.MediaType, Text: text,
		}
		return part, nil
	default:
		text, image = join(text, imageNext), p.image(b.Image)
	}
	if text == "" {
		text = noOutput
	}
	part.Output = fantasy.ToolResultOutputContentText{Text: text}
	if b.IsError {
		part.Output = fantasy.ToolResultOutputContentError{Error: errors.New(text)}
	}
	return part, image
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "\n" + b
}

// id is the id of a call as it is sent: of characters that every API takes, and new.
func (p *prompter) id(from string) string {
	to := name(from)
	for n := 2; p.used[to]; n++ {
		to = name(from + "\x00" + strconv.Itoa(n))
	}
	p.used[to] = true
	return to
}

// maxName is what OpenAI accepts.
const maxName = 64

// name is s if it is short and plain, else a hash of it.
func name(s string) string {
	plain := s != "" && len(s) <= maxName
	for _, c := range []byte(s) {
		plain = plain && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-')
	}
	if plain {
		return s
	}
	h := fnv.New128a()
	_, _ = h.Write([]byte(s))
	return "id_" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// markCache marks the ends of prefixes that Anthropic shall cache: the system prompt, and the last two messages that are not the
// model's, so that a turn finds what the turn before has written.
func markCache(p fantasy.Prompt) {
	mark := func(m *fantasy.Message) {
		m.ProviderOptions = anthropic.NewProviderCacheControlOptions(
			&anthropic.ProviderCacheControlOptions{CacheControl: anthropic.CacheControl{Type: "ephemeral"}})
	}
	left := 2
	for i := len(p) - 1; i >= 0; i-- {
		switch {
		case p[i].Role == fantasy.MessageRoleSystem:
			mark(&p[i])
		case p[i].Role != fantasy.MessageRoleAssistant && left > 0:
			mark(&p[i])
			left--
		}
	}
}

// pack is provider metadata in the form of Block.Opaque, nil for none.
func pack(meta fantasy.ProviderMetadata) json.RawMessage {
	if len(meta) == 0 {
		return nil
	}
	raw, err := json.Marshal(meta)
	if err != nil {
		return nil
	}
	return raw
}

// unpack is what pack has made. A block of another model, or with what we do not understand, has none.
func unpack(b model.Block, own bool) fantasy.ProviderOptions {
	var raw map[string]json.RawMessage
	if !own || b.Opaque == nil || json.Unmarshal(b.Opaque, &raw) != nil {
		return nil
	}
	options, err := fantasy.UnmarshalProviderOptions(raw)
	if err != nil {
		return nil
	}
	return options
}

// opaqueItem is the Opaque of a reasoning block of the Responses API.
type opaqueItem struct {
	Item json.RawMessage `json:"openai_item"`
}

func packItem(item []byte) json.RawMessage {
	if item == nil {
		return nil
	}
	raw, err := json.Marshal(opaqueItem{Item: item})
	if err != nil {
		return nil
	}
	return raw
}

func reasoningItem(opaque json.RawMessage) []byte {
	var o opaqueItem
	if opaque == nil || json.Unmarshal(opaque, &o) != nil {
		return nil
	}
	return o.Item
}
