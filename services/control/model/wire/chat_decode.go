package wire

import (
	"bytes"
	"encoding/json"

	"github.com/pawl-dev/pawl/services/control/model"
)

// chat takes a chunk of OpenAI's Chat Completions, or a whole completion.
func (d *Decoder) chat(e Event) error {
	var choices, usage, groq, failure, object, kind, detail []byte
	if !pick(e.Data, field{"choices", &choices}, field{"usage", &usage}, field{"x_groq", &groq},
		field{"error", &failure}, field{"object", &object}, field{"type", &kind}, field{"detail", &detail},
		field{"message", &detail}, field{"errors", &detail}, field{"error_message", &detail}) {
		return foreignEvent(e.Data)
	}
	if usage == nil {
		usage = member(groq, "usage")
	}
	known := choices != nil || isObject(usage)
	failed := string(e.Name) == "error" || !isNull(failure) || string(object) == `"error"` || string(kind) == `"error"`
	if failed || !known && detail != nil {
		return reported(e.Data)
	}
	var choice []byte
	each(choices, func(c []byte) {
		if choice == nil && count(member(c, "index")) == 0 {
			choice = c
		}
	})
	d.chatUsage(usage)
	if choice != nil {
		return d.chatChoice(choice)
	}
	if !known {
		d.emit(model.Part{Type: model.PartAlive})
	}
	return nil
}

func (d *Decoder) chatChoice(choice []byte) error {
	var delta, message, text, reason, usage []byte // text is of the older API, which some servers stream here
	pick(choice, field{"delta", &delta}, field{"message", &message}, field{"text", &text},
		field{"finish_reason", &reason}, field{"usage", &usage})
	d.chatUsage(usage)
	if isNull(delta) && !d.meaning { // some servers repeat in a message all that the deltas have said
		delta = message
	}
	switch {
	case isString(delta):
		d.chatContent(delta)
	case isNull(delta):
		d.chatContent(text)
	default:
		if err := d.chatDelta(delta); err != nil {
			return err
		}
	}
	if string(word(reason)) == "error" {
		return reported(choice)
	}
	d.because(string(word(reason)))
	return nil
}

// Keys of the blocks of a chat, which has at most one text and one thought at a time.
const (
	saidKey = iota
	thoughtKey
)

// chatDelta takes a delta, or a whole message. A call that cannot be understood is an error at once, since the rest of
// the answer would be taken for all of it.
func (d *Decoder) chatDelta(delta []byte) error {
	var content, thought, field, calls, legacy []byte
	if !members(delta, func(name, v []byte) {
		switch string(name) {
		case "content":
			content = v
		case "refusal":
			if isString(v) && len(v) > 2 {
				content = v
			}
		case "reasoning_content", "reasoning", "thinking":
			if thought == nil && isString(v) && len(v) > 2 { // some servers write the same into two fields
				thought, field = v, name
			}
		case "tool_calls":
			calls = v
		case "function_call":
			legacy = v
		}
	}) {
		d.unknown(delta)
	}
	if thought != nil {
		d.add(model.ThinkingBlock, thoughtKey, thought)
		if string(field) != defaultThoughtField {
			d.meta = json.RawMessage(`{"field":"` + string(field) + `"}`)
		}
	}
	d.chatContent(content)
	n, odd := 0, false
	listed := each(calls, func(v []byte) {
		if odd = odd || !isObject(v); !odd {
			d.chatCall(v, n > 0)
		}
		n++
	})
	if odd || !listed {
		return &ForeignError{
			What: "the tool calls of the provider's answer are no list of objects", Came: bytes.Clone(calls),
		}
	}
	if isObject(legacy) {
		d.chatCall([]byte(`{"index":0,"function":`+string(legacy)+`}`), false)
	}
	return nil
}

// chatContent is a text, or a list of parts that are texts and thoughts.
func (d *Decoder) chatContent(v []byte) {
	if isString(v) {
		d.add(model.TextBlock, saidKey, v)
		return
	}
	known := each(v, func(part []byte) {
		if isString(part) {
			d.add(model.TextBlock, saidKey, part)
			return
		}
		if thought := member(part, "thinking"); thought != nil {
			if isString(thought) {
				d.add(model.ThinkingBlock, thoughtKey, thought)
			}
			elements(thought, func(p []byte) { d.add(model.ThinkingBlock, thoughtKey, member(p, "text")) })
			return
		}
		text := member(part, "text")
		if text == nil {
			d.unknown(part)
		}
		d.add(model.TextBlock, saidKey, text)
	})
	if !known {
		d.unknown(v)
	}
}

// chatCall is a piece of a call. What tells calls apart differs from server to server: the index, the id, or only that
// the one before is complete. beside says that the chunk holds another piece before this one: what has a name of its
// own there is a call of its own, even if it asks for the same.
func (d *Decoder) chatCall(v []byte, beside bool) {
	var at, called, function, plain, args, extra []byte // plain and args come without the object around, too
	pick(v, field{"index", &at}, field{"id", &called}, field{"function", &function}, field{"name", &plain},
		field{"arguments", &args}, field{"extra_content", &extra})
	index, id, name := position(at), str(called), str(plain)
	if isObject(function) {
		name, args = str(member(function, "name")), member(function, "arguments")
	}
	c := d.slot(index, id)
	if c != nil && (beside && name != "" && (index < 0 || c.over()) || d.another(c, id, name, args)) {
		c = nil
	}
	switch {
	case c == nil:
		c = d.start(index, id, name)
	case c.id == "":
		d.identify(c, id)
	}
	if c.name != name {
		c.name = rename(c.name, name)
	}
	if extra != nil {
		c.meta = valid(append(append([]byte(`{"extra_content":`), extra...), '}'))
	}
	if !c.repeats(args) {
		c.write(args)
	}
}

// slot is the call that a piece may belong to: the last one with its id, since the pieces of calls that share an index
// may be interleaved, else the last one with its index.
func (d *Decoder) slot(index int, id string) *toolCall {
	if c := d.byID[callKey{index, id}]; c != nil {
		return c
	}
	if index >= 0 {
		return d.latest(index)
	}
	if c := d.last(); c != nil && (id == "" || c.id == "") {
		return c
	}
	return nil
}

// another reports whether a piece begins a call and does not go on with c, whose place it has.
func (d *Decoder) another(c *toolCall, id, name string, args []byte) bool {
	switch {
	case id != "" && c.id != "" && id != c.id:
		return true
	case name == "" || c.repeats(args):
		return false
	case c.over():
		return name != c.name || isObject(args) || len(bytes.TrimSpace([]byte(str(args)))) > 0
	case len(c.text()) > 0:
		return false
	default: // two names in a row: the pieces of one, or of two calls without arguments
		return name != c.name && d.offers(name) && d.offers(c.name)
	}
}

// repeats reports whether a piece is the arguments that have come already, as servers send that repeat the whole call.
func (c *toolCall) repeats(args []byte) bool {
	return isString(args) && len(args)-2 >= len(c.args) && // what is cheap to see comes first: most pieces are short
		c.over() && str(args) == string(c.args)
}

// rename joins the pieces of a name; a name that is repeated, or comes as a whole after its beginning, is no piece.
func rename(have, piece string) string {
	switch {
	case piece == "" || have == piece:
		return have
	case len(piece) > len(have) && piece[:len(have)] == have:
		return piece
	}
	return have + piece
}

func (d *Decoder) chatUsage(v []byte) {
	if !isObject(v) {
		return
	}
	var in, out, input, output, hit, details, inputDetails []byte
	pick(v, field{"prompt_tokens", &in}, field{"completion_tokens", &out}, field{"input_tokens", &input},
		field{"output_tokens", &output}, field{"prompt_cache_hit_tokens", &hit},
		field{"prompt_tokens_details", &details}, field{"input_tokens_details", &inputDetails})
	if !isObject(details) {
		details = inputDetails
	}
	prompt, completion := max(count(in), count(input)), max(count(out), count(output))
	cached := max(count(hit), count(member(details, "cached_tokens")))
	written := count(member(details, "cache_write_tokens"))
	if prompt == 0 && completion == 0 {
		return
	}
	charge(&d.usage.Input, max(prompt-cached-written, 0))
	charge(&d.usage.Output, completion)
	charge(&d.usage.CacheRead, cached)
	charge(&d.usage.CacheWrite, written)
	d.counted = true
}
