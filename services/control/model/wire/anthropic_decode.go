package wire

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/model"
)

// anthropic takes an event of Anthropic's Messages, or a whole message.
func (d *Decoder) anthropic(e Event) error {
	var kind, index, block, delta, whole, usage, failure []byte
	if !pick(e.Data, field{"type", &kind}, field{"index", &index}, field{"content_block", &block},
		field{"delta", &delta}, field{"message", &whole}, field{"usage", &usage}, field{"error", &failure}) {
		return foreignEvent(e.Data)
	}
	if kind = word(kind); len(kind) == 0 {
		kind = e.Name
	}
	if string(kind) == "error" || !isNull(failure) {
		return reported(e.Data)
	}
	var body []byte
	for _, v := range [][]byte{block, delta, whole} {
		if isObject(v) {
			body = v
		}
	}
	switch string(kind) {
	case "message_start":
		d.emit(model.Part{Type: model.PartAlive})
		d.anthropicUsage(member(body, "usage"))
	case "content_block_start":
		d.blockStart(d.blockIndex(index), body)
	case "content_block_delta":
		d.blockDelta(d.blockIndex(index), body)
	case "content_block_stop":
		d.blockStop(d.blockIndex(index))
	case "message_delta":
		d.because(str(member(body, "stop_reason")))
		d.anthropicUsage(usage)
	case "message_stop":
		d.ended = true
	case "message":
		d.message(e.Data)
	case "ping":
		d.emit(model.Part{Type: model.PartAlive})
	case "":
		if complains(e.Data) {
			return reported(e.Data)
		}
	}
	return nil
}

// message takes an answer that was not streamed.
func (d *Decoder) message(v []byte) {
	n := 0
	elements(member(v, "content"), func(block []byte) {
		d.blockStart(n, block)
		d.blockStop(n)
		n++
	})
	d.because(str(member(v, "stop_reason")))
	d.anthropicUsage(member(v, "usage"))
	d.ended = true
}

// blockIndex is an event's index; without one the event is about the block that began last.
func (d *Decoder) blockIndex(v []byte) int {
	if i := position(v); i >= 0 {
		return i
	}
	return d.lastBlock
}

func (d *Decoder) blockStart(index int, block []byte) {
	d.lastBlock = index
	switch str(member(block, "type")) {
	case "text":
		d.begin(model.TextBlock, index)
		d.add(model.TextBlock, index, member(block, "text"))
		elements(member(block, "citations"), func(v []byte) { d.cite(index, v) })
	case "thinking":
		d.begin(model.ThinkingBlock, index)
		d.add(model.ThinkingBlock, index, member(block, "thinking"))
		d.sign(index, member(block, "signature"))
	case "redacted_thinking":
		if data := member(block, "data"); isString(data) {
			d.opaque(valid(append(append([]byte(`{"redacted":`), data...), '}')))
		}
	case "tool_use":
		// An index that is used again begins another call; the one before stays and is passed on at the end.
		c := d.start(index, str(member(block, "id")), str(member(block, "name")))
		if input := member(block, "input"); isObject(input) && string(bytes.TrimSpace(input)) != "{}" {
			c.complete = bytes.Clone(input)
		} else if isString(input) {
			c.complete = []byte(str(input))
		}
	case "server_tool_use":
		d.hostedStart(index, block)
	case "web_search_tool_result":
		d.hostedDone(block)
	default:
		d.unknown(block)
	}
}

func (d *Decoder) blockDelta(index int, delta []byte) {
	var kind, text, thinking, signature, partial []byte
	pick(delta, field{"type", &kind}, field{"text", &text}, field{"thinking", &thinking},
		field{"signature", &signature}, field{"partial_json", &partial})
	switch string(word(kind)) {
	case "text_delta":
		d.add(model.TextBlock, index, text)
	case "thinking_delta":
		d.add(model.ThinkingBlock, index, thinking)
	case "signature_delta":
		d.sign(index, signature)
	case "citations_delta":
		d.cite(index, member(delta, "citation"))
	case "input_json_delta":
		if a := d.hosted[index]; a != nil {
			if isString(partial) {
				a.args = a.chars.append(a.args, partial)
			}
			return
		}
		c := d.latest(index)
		if c == nil {
			c = d.last()
		}
		if c == nil {
			c = d.start(index, "", "")
		}
		c.write(partial)
	}
}

// sign keeps the signature of a thought, which may come in pieces.
func (d *Decoder) sign(index int, quoted []byte) {
	if !isString(quoted) || len(quoted) == 2 {
		return
	}
	d.begin(model.ThinkingBlock, index)
	d.meta = append(rawjson.AppendString([]byte(`{"signature":`), str(member(d.meta, "signature"))+str(quoted)), '}')
}

func (d *Decoder) blockStop(index int) {
	if d.open != "" && d.key == index {
		d.close()
	}
	var open []*toolCall // calls of this index, the last first
	for c := d.latest(index); c != nil && !c.given; c = c.before {
		open = append(open, c)
	}
	for _, c := range slices.Backward(open) {
		d.give(c, false)
	}
}

func (d *Decoder) anthropicUsage(v []byte) {
	if !isObject(v) {
		return
	}
	var input, prompt, output, completion, read, written []byte
	pick(v, field{"input_tokens", &input}, field{"prompt_tokens", &prompt}, field{"output_tokens", &output},
		field{"completion_tokens", &completion}, field{"cache_read_input_tokens", &read},
		field{"cache_creation_input_tokens", &written})
	charge(&d.usage.Input, max(count(input), count(prompt)))
	charge(&d.usage.Output, max(count(output), count(completion)))
	charge(&d.usage.CacheRead, count(read))
	charge(&d.usage.CacheWrite, count(written))
	charge(&d.usage.Searches, count(member(member(v, "server_tool_use"), "web_search_requests")))
	d.counted = true
}

// opaqueField is a text that the Opaque of a block holds, as a JSON string; nil for none.
func opaqueField(opaque json.RawMessage, name string) []byte {
	if v := member(opaque, name); isString(v) {
		return v
	}
	return nil
}
