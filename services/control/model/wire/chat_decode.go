package wire

import (
	"bytes"
	"encoding/json"

	"github.com/pawl-dev/pawl/services/control/model"
)

// chat takes a chunk of OpenAI's Chat Completions, or a whole completion.
func (d *Decoder) chat(e Event) error {
	var choice, usage, detail []byte
	known, failed := false, string(e.Name) == "error"
	ok := members(e.Data, func(name, v []byte) {
		switch string(name) {
		case "choices":
			known = true
			each(v, func(c []byte) {
				if choice == nil && count(member(c, "index")) == 0 {
					choice = c
				}
			})
		case "usage":
			usage = v
		case "x_groq":
			if u := member(v, "usage"); usage == nil && u != nil {
				usage = u
			}
		case "error":
			failed = failed || !isNull(v)
		case "object":
			failed = failed || string(v) == `"error"`
		case "type":
			failed = failed || string(v) == `"error"`
		case "detail", "message", "errors", "error_message":
			detail = v
		}
	})
	if !ok {
		return foreignEvent(e.Data)
	}
	known = known || isObject(usage)
	if failed || !known && detail != nil {
		return &ReportedError{Body: bytes.Clone(e.Data)}
	}
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
	var reason, delta, message, text []byte
	members(choice, func(name, v []byte) {
		switch string(name) {
		case "delta":
			delta = v
		case "message":
			message = v
		case "text": // of the older API, which some servers stream under the address of this one
			text = v
		case "finish_reason":
			reason = word(v)
		case "usage":
			d.chatUsage(v)
		}
	})
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
	if string(reason) == "error" {
		return &ReportedError{Body: bytes.Clone(choice)}
	}
	d.because(string(reason))
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
	index, id, name := -1, "", ""
	var args, extra []byte
	members(v, func(n, v []byte) {
		switch string(n) {
		case "index":
			index = position(v)
		case "id":
			id = str(v)
		case "function":
			name, args = str(member(v, "name")), member(v, "arguments")
		case "name": // without the object "function" around it, as in Responses
			if isString(v) {
				name = str(v)
			}
		case "arguments":
			args = v
		case "extra_content":
			extra = v
		}
	})
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
	var prompt, completion, cached, written int64
	members(v, func(name, v []byte) {
		switch string(name) {
		case "prompt_tokens", "input_tokens":
			prompt = count(v)
		case "completion_tokens", "output_tokens":
			completion = count(v)
		case "prompt_cache_hit_tokens":
			cached = max(cached, count(v))
		case "prompt_tokens_details", "input_tokens_details":
			cached = max(cached, count(member(v, "cached_tokens")))
			written = count(member(v, "cache_write_tokens"))
		}
	})
	if prompt == 0 && completion == 0 {
		return
	}
	charge(&d.usage.Input, max(prompt-cached-written, 0))
	charge(&d.usage.Output, completion)
	charge(&d.usage.CacheRead, cached)
	charge(&d.usage.CacheWrite, written)
	d.counted = true
}
