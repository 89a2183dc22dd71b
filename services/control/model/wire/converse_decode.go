package wire

import (
	"github.com/pawl-dev/pawl/services/control/model"
)

// converse takes an event of Bedrock's ConverseStream.
func (d *Decoder) converse(e Event) error {
	var index, start, delta, reason, usage, failure []byte
	if !pick(e.Data, field{"contentBlockIndex", &index}, field{"start", &start}, field{"delta", &delta},
		field{"stopReason", &reason}, field{"usage", &usage}, field{"error", &failure}) {
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
		return d.converseStop(str(reason))
	case "metadata":
		d.converseUsage(usage)
		d.ended = d.reason != ""
	default:
		if !isNull(failure) {
			return reported(e.Data)
		}
	}
	return nil
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

func (d *Decoder) converseStop(reason string) error {
	switch reason {
	case "malformed_model_output", "malformed_tool_use":
		// The model wrote what the server cannot read. Another answer may be better.
		return &ForeignError{What: "the provider could not read its model's answer: " + reason}
	case "guardrail_intervened", "content_filtered":
		d.refused, d.why = true, "it ended with "+reason
	}
	d.because(reason)
	return nil
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
