package wire

import (
	"bytes"
	"encoding/json"

	"github.com/pawl-dev/pawl/services/control/model"
)

// gemini takes a chunk of Google's streamGenerateContent, or a whole answer of generateContent.
func (d *Decoder) gemini(e Event) error {
	var candidates, feedback, usage, failure, version []byte
	if !pick(e.Data, field{"candidates", &candidates}, field{"promptFeedback", &feedback},
		field{"usageMetadata", &usage}, field{"error", &failure}, field{"modelVersion", &version}) {
		return foreignEvent(e.Data)
	}
	if !isNull(failure) {
		return reported(e.Data)
	}
	d.geminiUsage(usage)
	if reason := str(member(feedback, "blockReason")); reason != "" {
		d.reason, d.refused, d.why = reason, true, "it blocked the prompt: "+reason
		return nil
	}
	var candidate []byte
	each(candidates, func(c []byte) {
		if candidate == nil && count(member(c, "index")) == 0 {
			candidate = c
		}
	})
	if candidate != nil {
		d.geminiCandidate(candidate)
		return nil
	}
	if usage == nil && version == nil {
		if complains(e.Data) {
			return reported(e.Data)
		}
		d.unknown(e.Data)
	}
	d.emit(model.Part{Type: model.PartAlive})
	return nil
}

func (d *Decoder) geminiCandidate(candidate []byte) {
	var said, reason, message []byte
	pick(candidate, field{"content", &said}, field{"finishReason", &reason}, field{"finishMessage", &message})
	each(member(said, "parts"), d.geminiPart)
	d.grounded(member(candidate, "groundingMetadata"))
	switch why := str(reason); why {
	case "", "FINISH_REASON_UNSPECIFIED":
	case "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE",
		"MISSING_THOUGHT_SIGNATURE":
		d.spoil("the provider could not read its model's answer: "+why, why, message)
	case "OTHER":
		if d.because(why); !d.meaning {
			d.spoil("the provider ended the answer for a reason that it does not tell", why, message)
		}
	default:
		if d.because(why); d.refused {
			d.why = "it ended with " + why
		}
	}
}

// geminiPart takes a piece of an answer. Calls come whole. A signature belongs to the part that it comes with; one that
// comes with an empty text belongs to the text before.
func (d *Decoder) geminiPart(part []byte) {
	var text, thought, signature, call []byte
	pick(part, field{"text", &text}, field{"thought", &thought}, field{"thoughtSignature", &signature},
		field{"functionCall", &call})
	var meta []byte
	if isString(signature) && len(signature) > 2 {
		meta = valid(append(append([]byte(`{"signature":`), signature...), '}'))
	}
	switch {
	case isObject(call):
		id := member(call, "id")
		c := d.start(len(d.calls), str(id), str(member(call, "name")))
		c.meta = identified(meta, id)
		if args := member(call, "args"); !isNull(args) {
			c.complete = bytes.Clone(args)
		}
		d.give(c, false)
	case isString(text):
		kind, key := model.TextBlock, saidKey
		if string(thought) == "true" {
			kind, key = model.ThinkingBlock, thoughtKey
		}
		d.geminiText(kind, key, text, meta)
	case isObject(member(part, "toolCall")), isObject(member(part, "toolResponse")): // of a tool of the provider
		d.opaque(valid(append(append([]byte(`{"part":`), part...), '}')))
	case meta != nil:
		d.opaque(meta)
	default:
		d.unknown(part)
	}
}

// identified is what is kept of a call beside its arguments: its signature, and the id that its result has to name.
func identified(meta, id []byte) json.RawMessage {
	if !isString(id) || len(id) == 2 {
		return meta
	}
	if meta == nil {
		meta = []byte("{}")
	}
	begun := bytes.TrimSuffix(meta, []byte("}"))
	if len(begun) > 1 {
		begun = append(begun, ',')
	}
	return valid(append(append(append(begun, `"id":`...), id...), '}'))
}

// geminiText takes a piece of a text. One with a signature is a block of its own: it goes back as it came, and a
// signature is of nothing but its own piece.
func (d *Decoder) geminiText(kind model.BlockType, key int, text, meta []byte) {
	empty := len(text) == 2
	if d.open == kind && (d.meta != nil || meta != nil && !empty) {
		d.close()
	}
	d.add(kind, key, text)
	switch {
	case meta == nil:
	case d.open == kind:
		d.meta = meta
	case empty:
		d.opaque(meta)
	}
}

// geminiUsage counts. What was read from a cache is part of the prompt's count, and thoughts are none of the answer's.
func (d *Decoder) geminiUsage(v []byte) {
	if !isObject(v) {
		return
	}
	var prompt, tools, answer, thoughts, cached []byte
	pick(v, field{"promptTokenCount", &prompt}, field{"toolUsePromptTokenCount", &tools},
		field{"candidatesTokenCount", &answer}, field{"thoughtsTokenCount", &thoughts},
		field{"cachedContentTokenCount", &cached})
	charge(&d.usage.Input, max(count(prompt)+count(tools)-count(cached), 0))
	charge(&d.usage.Output, count(answer)+count(thoughts))
	charge(&d.usage.CacheRead, count(cached))
	d.counted = true
}
