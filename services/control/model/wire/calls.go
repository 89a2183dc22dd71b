package wire

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/pawl-dev/pawl/services/control/model"
)

// toolCall is a call whose pieces come.
type toolCall struct {
	index    int // the provider's, -1 for none
	id       string
	name     string
	args     []byte
	chars    joiner          // of args
	complete json.RawMessage // arguments that came whole, used if no pieces came
	meta     json.RawMessage
	given    bool
	before   *toolCall // the call that began before this one with the same index
}

// callKey is what pieces of a call are known by when several calls share an index.
type callKey struct {
	index int // -1 for any
	id    string
}

// write adds a piece of the arguments: a JSON string, or the arguments themselves.
func (c *toolCall) write(v []byte) {
	switch {
	case isString(v):
		c.args = c.chars.append(c.args, v)
	case !isNull(v):
		c.complete = bytes.Clone(v)
	}
}

// text is the arguments so far.
func (c *toolCall) text() []byte {
	if len(c.args) == 0 {
		return c.complete
	}
	return c.args
}

// over reports that the arguments are a whole object, so that what follows belongs to another call.
func (c *toolCall) over() bool {
	args := bytes.TrimSpace(c.text())
	return isObject(args) && args[len(args)-1] == '}' && json.Valid(args)
}

// start adds a call.
func (d *Decoder) start(index int, id, name string) *toolCall {
	if d.byIndex == nil {
		d.byIndex, d.byID = map[int]*toolCall{}, map[callKey]*toolCall{}
	}
	c := &toolCall{index: index, name: name, before: d.byIndex[index]}
	d.identify(c, id)
	d.byIndex[index] = c
	d.calls = append(d.calls, c)
	d.meaning = true
	return c
}

// identify gives a call its id.
func (d *Decoder) identify(c *toolCall, id string) {
	if c.id = id; id != "" {
		d.byID[callKey{c.index, id}], d.byID[callKey{-1, id}] = c, c
	}
}

// latest is the last call that began with this index; nil if there is none, or it was passed on.
func (d *Decoder) latest(index int) *toolCall {
	if c := d.byIndex[index]; c != nil && !c.given {
		return c
	}
	return nil
}

// last is the call that began last and was not passed on.
func (d *Decoder) last() *toolCall {
	if n := len(d.calls); n > 0 && !d.calls[n-1].given {
		return d.calls[n-1]
	}
	return nil
}

// flush passes on the calls that were not. cut says that the model was stopped, and may have been in the middle of the
// last one.
func (d *Decoder) flush(cut bool) {
	for i, c := range d.calls {
		if !c.given {
			d.give(c, cut && i == len(d.calls)-1)
		}
	}
}

// give passes a call on. Arguments that are several objects are several calls.
func (d *Decoder) give(c *toolCall, cut bool) {
	if c.given {
		return
	}
	c.given = true
	d.close()
	c.args = c.chars.flush(c.args)
	name := c.name
	if name == "" {
		name = "unnamed" // the model is told that there is no such tool
	}
	for i, args := range arguments(c.text(), cut) {
		b := model.Block{
			Type: model.ToolCallBlock, CallID: d.unique(c.id), Tool: name, Args: args.args, ArgsError: args.bad,
		}
		if i == 0 {
			b.Opaque = c.meta
		}
		d.given++
		d.emit(model.Part{Type: model.PartBlock, Block: b})
	}
}

// unique is the id, or one made of it that no call of the answer has. What the journal maps results by must be unique
// before anything is stored.
func (d *Decoder) unique(id string) string {
	if d.ids == nil {
		d.ids = map[string]int{}
	}
	id = keptID(id)
	made := id
	if id == "" {
		id, made = "call", "call_1"
	}
	for d.ids[made] > 0 {
		d.ids[id] = max(d.ids[id], 1) + 1
		made = id + "_" + strconv.Itoa(d.ids[id])
	}
	d.ids[made] = max(d.ids[made], 1)
	return made
}

// offers reports whether the request offered a tool of this name.
func (d *Decoder) offers(name string) bool {
	return slices.ContainsFunc(d.offered, func(t model.Tool) bool { return t.Name == name })
}
