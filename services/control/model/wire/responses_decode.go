package wire

import (
	"bytes"

	"github.com/pawl-dev/pawl/services/control/model"
)

// item is one item of a Responses answer.
type item struct {
	id    string
	index int // of the output, -1 when it is not said
	key   int // of its text or thought
	call  *toolCall
	said  bool // its text or thought has come, at least in part
	done  bool
	part  int64 // of its summary, whose text came last
}

// responses takes an event of OpenAI's Responses, or a whole response.
func (d *Decoder) responses(e Event) error {
	f, ok := fieldsOf(e.Data)
	if !ok {
		return foreignEvent(e.Data)
	}
	if len(f.kind) == 0 {
		if f.kind = e.Name; string(f.object) == "response" {
			f.kind, f.response = append([]byte("response."), f.status...), e.Data
		}
	}
	switch string(f.kind) {
	case "response.created", "response.in_progress", "response.queued", "keepalive", "ping":
		d.emit(model.Part{Type: model.PartAlive})
	case "response.output_item.added":
		d.itemAdded(f)
	case "response.output_text.delta", "response.refusal.delta":
		d.itemText(f, model.TextBlock, f.delta)
	case "response.reasoning_summary_text.delta", "response.reasoning_text.delta", "response.reasoning.delta":
		d.itemText(f, model.ThinkingBlock, f.delta)
	case "response.output_text.done", "response.refusal.done":
		if it := d.find(f); !it.said {
			d.itemText(f, model.TextBlock, f.text)
		}
	case "response.function_call_arguments.delta":
		d.itemCall(d.find(f), f.item).write(f.delta)
	case "response.function_call_arguments.done":
		c := d.itemCall(d.find(f), f.item)
		c.settle(f.arguments)
		if c.name == "" {
			c.name = str(f.name)
		}
	case "response.output_item.done":
		d.itemDone(d.find(f), f.item)
	case "response.completed", "response.incomplete":
		d.responseEnded(f.response)
	case "response.failed", "response.cancelled", "error":
		d.chatUsage(member(f.response, "usage"))
		return reported(e.Data)
	default:
		if !isNull(f.failure) || len(f.kind) == 0 && complains(e.Data) {
			return reported(e.Data)
		}
	}
	return nil
}

// fields are the members of an event that mean something.
type fields struct {
	kind, id, name, object, status                  []byte
	index                                           int
	part                                            int64
	item, delta, text, arguments, response, failure []byte
}

func fieldsOf(data []byte) (f fields, ok bool) {
	var index, part []byte
	ok = pick(data, field{"type", &f.kind}, field{"item_id", &f.id}, field{"name", &f.name},
		field{"object", &f.object}, field{"status", &f.status}, field{"output_index", &index},
		field{"summary_index", &part}, field{"item", &f.item}, field{"delta", &f.delta}, field{"text", &f.text},
		field{"refusal", &f.text}, field{"arguments", &f.arguments}, field{"response", &f.response},
		field{"error", &f.failure})
	f.kind, f.object, f.status, f.id = word(f.kind), word(f.object), word(f.status), word(f.id)
	f.index, f.part = position(index), count(part)
	if id := word(member(f.item, "id")); len(id) > 0 {
		f.id = id
	}
	return f, ok
}

// items are those of an answer.
type items struct {
	all     []*item
	byID    map[string]*item // the last one that began with an id
	byIndex map[int]*item    // the last one that began with an index
	undone  []*item          // in the order in which they began; some of them may be done
}

// open is the last item that is not done, nil when there is none.
func (s *items) open() *item {
	for n := len(s.undone); n > 0; n-- {
		if it := s.undone[n-1]; !it.done {
			return it
		}
		s.undone = s.undone[:n-1]
	}
	return nil
}

// known is the item that an event is about: the one with its id, else the one with its index, since some servers give
// every event another id. nil for an item that has not begun.
func (s *items) known(f fields) *item {
	if len(f.id) > 0 {
		if it := s.byID[string(f.id)]; it != nil {
			return it
		}
	}
	if f.index >= 0 {
		return s.byIndex[f.index]
	}
	return nil
}

// find is the item that an event is about; of an event without an index it may be the last one that is not done. An
// item that is not known begins.
func (d *Decoder) find(f fields) *item {
	if it := d.items.known(f); it != nil {
		return it
	}
	if it := d.items.open(); it != nil && f.index < 0 {
		return it
	}
	return d.begins(f)
}

func (d *Decoder) begins(f fields) *item {
	s := &d.items
	if s.byID == nil {
		s.byID, s.byIndex = map[string]*item{}, map[int]*item{}
	}
	it := &item{id: string(f.id), index: f.index, key: len(s.all)}
	if s.all, s.undone = append(s.all, it), append(s.undone, it); it.id != "" {
		s.byID[it.id] = it
	}
	if it.index >= 0 {
		s.byIndex[it.index] = it
	}
	return it
}

func (d *Decoder) itemAdded(f fields) {
	it := d.begins(f)
	if str(member(f.item, "type")) != "function_call" {
		return
	}
	c := d.itemCall(it, f.item)
	c.settle(member(f.item, "arguments"))
	c.complete, c.args = c.text(), nil // pieces may still come
}

// itemCall is the call of an item, which begins if it has not.
func (d *Decoder) itemCall(it *item, v []byte) *toolCall {
	if it.call == nil {
		it.call = d.start(it.key, str(member(v, "call_id")), str(member(v, "name")))
	}
	return it.call
}

// settle takes the whole arguments, which are the truth when pieces of them were lost.
func (c *toolCall) settle(v []byte) {
	if isString(v) && len(v) > 2 {
		c.args, c.chars = []byte(str(v)), joiner{}
	} else if isObject(v) {
		c.args, c.complete = nil, bytes.Clone(v)
	}
}

func (d *Decoder) itemText(f fields, kind model.BlockType, quoted []byte) {
	if !isString(quoted) || len(quoted) == 2 {
		return
	}
	it := d.find(f)
	if kind == model.ThinkingBlock && it.said && it.part != f.part {
		d.plain(kind, it.key, "\n\n") // between two parts of a summary
	}
	it.said, it.part = true, f.part
	d.add(kind, it.key, quoted)
}

// itemDone ends an item. What of it has not come in pieces comes now.
func (d *Decoder) itemDone(it *item, v []byte) {
	if it.done {
		return
	}
	it.done = true
	switch str(member(v, "type")) {
	case "function_call":
		c := d.itemCall(it, v)
		c.settle(member(v, "arguments"))
		if name := str(member(v, "name")); name != "" {
			c.name = name
		}
		if id := str(member(v, "call_id")); id != "" {
			c.id = id
		}
		d.give(c, false)
	case "message":
		if !it.said {
			elements(member(v, "content"), func(part []byte) {
				d.add(model.TextBlock, it.key, member(part, "text"))
				d.add(model.TextBlock, it.key, member(part, "refusal"))
			})
		}
		if d.open != "" && d.key == it.key {
			d.close()
		}
	case "reasoning":
		d.thought(it, v)
	case "web_search_call":
		d.searchItem(v)
	default:
		d.unknown(v)
	}
}

// thought ends a reasoning item, which its model wants back as it is.
func (d *Decoder) thought(it *item, v []byte) {
	if !it.said {
		n := 0
		elements(member(v, "summary"), func(part []byte) {
			if n++; n > 1 {
				d.plain(model.ThinkingBlock, it.key, "\n\n")
			}
			d.add(model.ThinkingBlock, it.key, member(part, "text"))
		})
	}
	encrypted := member(v, "encrypted_content")
	if isString(encrypted) && len(encrypted) > 2 {
		d.begin(model.ThinkingBlock, it.key)
		d.meta = valid(append(append([]byte(`{"item":`), v...), '}'))
		d.meaning = true
	}
	if d.open != "" && d.key == it.key {
		d.close()
	}
}

// responseEnded takes the whole response at its end. Its output counts where nothing of it was streamed. Events that
// had neither the id nor an index of their item are told by their order.
func (d *Decoder) responseEnded(v []byte) {
	streamed := d.items.all
	n := 0
	elements(member(v, "output"), func(out []byte) {
		f := fields{id: word(member(out, "id")), index: n}
		it := d.items.known(f)
		if it == nil && n < len(streamed) && streamed[n].index < 0 {
			it = streamed[n]
		}
		if n++; it == nil {
			it = d.begins(f)
		}
		d.itemDone(it, out)
	})
	d.chatUsage(member(v, "usage"))
	d.reason = "completed"
	if str(member(v, "status")) == "incomplete" {
		d.because(str(member(member(v, "incomplete_details"), "reason")))
	}
	d.ended = true
}
