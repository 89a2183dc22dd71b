package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"charm.land/fantasy"
	"charm.land/fantasy/providers/openai"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Stream implements model.Model.
func (m *languageModel) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	return func(yield func(model.Part, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // fantasy closes no response: the end of its context does
		x := &exchange{}
		if m.api == model.APIResponses {
			x.marker = newMarker()
		}
		t := &translator{model: m, exchange: x, yield: yield}
		parts, err := m.call(withExchange(ctx, x), req, t)
		if err != nil {
			yield(model.Part{}, m.failure(ctx, x, err))
			return
		}
		for p := range parts {
			if p.Type == fantasy.StreamPartTypeError {
				yield(model.Part{}, m.failure(ctx, x, p.Error))
				return
			}
			if !t.part(p) {
				return
			}
		}
	}
}

// call begins the call.
func (m *languageModel) call(ctx context.Context, req model.Request, t *translator) (fantasy.StreamResponse, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var c fantasy.Call
	var err error
	if c.Tools, err = tools(req.Tools); err != nil {
		return nil, &model.Error{Kind: model.KindInvalidRequest, Text: fmt.Sprintf("%s: %v", m.ref, err)}
	}
	if err := m.options(req, &c); err != nil {
		return nil, &model.Error{Kind: model.KindInvalidRequest, Text: fmt.Sprintf("%s: %v", m.ref, err)}
	}
	c.Prompt = m.prompt(req, t.exchange)
	client, err := m.client(ctx, openai.WithLanguageModelMapFinishReasonFunc(func(reason string) fantasy.FinishReason {
		t.chatReason = reason
		return openai.DefaultMapFinishReasonFunc(reason)
	}))
	if err != nil {
		return nil, err
	}
	return client.Stream(ctx, c)
}

// translator turns fantasy's parts into ours. At most one block is open.
type translator struct {
	model    *languageModel
	exchange *exchange
	yield    func(model.Part, error) bool

	open model.BlockType // "" for none
	id   string          // of the open block
	text strings.Builder // of the open block
	meta fantasy.ProviderMetadata

	calls      int
	chatReason string // why a chat ended; "" if the stream did not say
}

// part translates one part. It returns false when the call is over.
func (t *translator) part(p fantasy.StreamPart) bool {
	switch p.Type {
	case fantasy.StreamPartTypeTextDelta:
		return t.delta(model.TextBlock, model.PartText, p)
	case fantasy.StreamPartTypeTextEnd:
		return t.open != model.TextBlock || t.close()
	case fantasy.StreamPartTypeReasoningStart:
		return t.begin(model.ThinkingBlock, p)
	case fantasy.StreamPartTypeReasoningDelta:
		return t.delta(model.ThinkingBlock, model.PartThinking, p)
	case fantasy.StreamPartTypeReasoningEnd:
		if t.open != model.ThinkingBlock || t.id != p.ID {
			return true // what came next has closed it
		}
		t.learn(p.ProviderMetadata)
		return t.close()
	case fantasy.StreamPartTypeToolCall:
		return t.call(p)
	case fantasy.StreamPartTypeFinish:
		return t.finish(p)
	default:
		return t.alive()
	}
}

// begin opens a block, after closing another.
func (t *translator) begin(b model.BlockType, p fantasy.StreamPart) bool {
	if t.open != b || t.id != p.ID {
		if !t.close() {
			return false
		}
		t.open, t.id = b, p.ID
	}
	t.learn(p.ProviderMetadata)
	return true
}

// learn keeps the latest metadata of the open block.
func (t *translator) learn(meta fantasy.ProviderMetadata) {
	if len(meta) > 0 {
		t.meta = meta
	}
}

func (t *translator) delta(b model.BlockType, kind model.PartType, p fantasy.StreamPart) bool {
	if t.open != b && p.Delta == "" && len(p.ProviderMetadata) == 0 {
		return t.alive()
	}
	if !t.begin(b, p) {
		return false
	}
	text := p.Delta
	if b == model.ThinkingBlock && t.text.Len() == 0 {
		text = strings.TrimPrefix(text, "\n") // fantasy sets one before every summary
	}
	if text == "" {
		return t.alive()
	}
	t.text.WriteString(text)
	return t.yield(model.Part{Type: kind, Text: text}, nil)
}

// alive tells that the provider is at work.
func (t *translator) alive() bool { return t.yield(model.Part{Type: model.PartProgress}, nil) }

// close ends the open block, if there is one with something in it.
func (t *translator) close() bool {
	if t.open == "" {
		return true
	}
	b := model.Block{Type: t.open, Text: t.text.String(), Opaque: pack(t.meta)}
	if t.open == model.ThinkingBlock && t.model.api == model.APIResponses {
		b.Opaque = packItem(t.exchange.reasoning[t.id])
	}
	t.open, t.id, t.meta = "", "", nil
	t.text.Reset()
	if b.Text == "" && b.Opaque == nil {
		return true
	}
	return t.yield(model.Part{Type: model.PartBlock, Block: b}, nil)
}

// call ends the open block and passes a tool call on. Arguments that are no JSON, as when the output was cut at its limit, become a
// string: the tool will refuse it, and the model will see what it wrote.
func (t *translator) call(p fantasy.StreamPart) bool {
	if p.ProviderExecuted {
		return t.alive()
	}
	if !t.close() {
		return false
	}
	args := json.RawMessage(p.ToolCallInput)
	if len(args) == 0 {
		args = json.RawMessage("{}")
	}
	if !json.Valid(args) {
		raw, err := json.Marshal(p.ToolCallInput)
		if err != nil {
			raw = json.RawMessage(`""`)
		}
		args = raw
	}
	t.calls++
	return t.yield(model.Part{Type: model.PartBlock, Block: model.Block{
		Type: model.ToolCallBlock, CallID: p.ID, Tool: p.ToolCallName, Args: args, Opaque: pack(p.ProviderMetadata),
	}}, nil)
}

// finish ends the stream.
func (t *translator) finish(p fantasy.StreamPart) bool {
	m := t.model
	stop := model.StopEnd
	switch {
	case m.api == model.APIChat && t.chatReason == "":
		// Fantasy takes a chat with tool calls that was cut for one that is complete.
		t.yield(model.Part{}, m.failed(model.KindCut, true, "the stream ended before its end"))
		return false
	case p.FinishReason == fantasy.FinishReasonContentFilter:
		t.yield(model.Part{}, m.failed(model.KindRefused, false, "the provider's safety system stopped the answer"))
		return false
	case p.FinishReason == fantasy.FinishReasonLength || t.chatReason == "length":
		stop = model.StopLength
	case t.calls > 0:
		stop = model.StopTools
	}
	if !t.close() {
		return false
	}
	u := model.Usage{
		Input: p.Usage.InputTokens, Output: p.Usage.OutputTokens,
		CacheRead: p.Usage.CacheReadTokens, CacheWrite: p.Usage.CacheCreationTokens,
	}
	u.Cost = m.info.Price.Cost(u)
	t.yield(model.Part{Type: model.PartFinish, Usage: u, Stop: stop}, nil)
	return false
}
