package wire

import (
	"github.com/pawl-dev/pawl/services/control/model"
)

// converse takes an event of Bedrock's ConverseStream, or a whole answer of Converse.
func (d *Decoder) converse(e Event) error {
	var index, start, delta, reason, usage []byte
	if !pick(e.Data, field{"contentBlockIndex", &index}, field{"start", &start}, field{"delta", &delta},
		field{"stopReason", &reason}, field{"usage", &usage}) {
		return foreignEvent(e.Data)
	}
	switch string(e.Name) {
	case exceptionName:
		return reported(e.Data)
	case "messageStart":
		d.emit(model.Part{Type: model.PartAlive})
	case "contentBlockStart":
		d.converseStart(d.blockIndex(index), start)
	case "contentBlockDelta":
		d.converseDelta(d.blockIndex(index), delta)
	case "contentBlockStop":
		d.blockStop(d.blockIndex(index))
	case "messageStop":
		d.converseStop(str(reason))
	case "metadata":
		d.converseUsage(usage)
		d.ended = d.reason != ""
	case "":
		return d.converseWhole(e.Data)
	}
	return nil
}

// converseWhole takes what came without frames: an answer that was not streamed, or an error.
func (d *Decoder) converseWhole(v []byte) error {
	var output, reason, usage []byte
	pick(v, field{"output", &output}, field{"stopReason", &reason}, field{"usage", &usage})
	switch {
	case isObject(output):
	case complains(v):
		return reported(v)
	default:
		d.unknown(v)
		return nil
	}
	n := 0
	elements(member(member(output, "message"), "content"), func(block []byte) {
		d.converseBlock(n, block)
		d.blockStop(n)
		n++
	})
	d.converseStop(str(reason))
	d.converseUsage(usage)
	d.ended = true
	return nil
}

// converseBlock takes a whole block.
func (d *Decoder) converseBlock(index int, block []byte) {
	var call, thought []byte
	pick(block, field{"toolUse", &call}, field{"reasoningContent", &thought})
	switch {
	case isObject(call):
		d.converseStart(index, block)
		d.latest(index).write(member(call, "input"))
	case isObject(member(thought, "reasoningText")):
		d.converseDelta(index, append(append([]byte(`{"reasoningContent":`), member(thought, "reasoningText")...), '}'))
	default:
		d.converseDelta(index, block)
	}
}

func (d *Decoder) converseStart(index int, start []byte) {
	d.lastBlock = index
	call := member(start, "toolUse")
	if !isObject(call) {
		d.unknown(start)
		return
	}
	d.start(index, str(member(call, "toolUseId")), str(member(call, "name")))
}

func (d *Decoder) converseDelta(index int, delta []byte) {
	d.lastBlock = index
	var text, call, thought []byte
	pick(delta, field{"text", &text}, field{"toolUse", &call}, field{"reasoningContent", &thought})
	switch {
	case isString(text):
		d.add(model.TextBlock, index, text)
	case isObject(call):
		c := d.latest(index)
		if c == nil {
			c = d.start(index, "", "")
		}
		c.write(member(call, "input"))
	case isObject(thought):
		d.add(model.ThinkingBlock, index, member(thought, "text"))
		d.sign(index, member(thought, "signature"))
		if data := member(thought, "redactedContent"); isString(data) {
			d.opaque(valid(append(append([]byte(`{"redacted":`), data...), '}')))
		}
	default:
		d.unknown(delta)
	}
}

func (d *Decoder) converseStop(reason string) {
	switch reason {
	case "malformed_model_output", "malformed_tool_use":
		d.spoil("the provider could not read its model's answer: "+reason, reason, nil)
	case "guardrail_intervened", "content_filtered":
		d.refused, d.why = true, "it ended with "+reason
	}
	d.because(reason)
}

func (d *Decoder) converseUsage(v []byte) {
	if !isObject(v) {
		return
	}
	var input, output, read, written []byte
	pick(v, field{"inputTokens", &input}, field{"outputTokens", &output}, field{"cacheReadInputTokens", &read},
		field{"cacheWriteInputTokens", &written})
	charge(&d.usage.Input, count(input))
	charge(&d.usage.Output, count(output))
	charge(&d.usage.CacheRead, count(read))
	charge(&d.usage.CacheWrite, count(written))
	d.counted = true
}
