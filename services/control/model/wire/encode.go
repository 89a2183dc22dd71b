package wire

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Texts that stand for what cannot be sent.
const (
	noOutput  = "(no output)"
	noResult  = "The outcome of this call is unknown: no result was recorded."
	noAnswer  = "(no answer was given)"
	noMessage = "(an empty message)"
	goOn      = "(go on)"
	imageNext = "(see the image below)"
)

// speaker is whose turn of a conversation it is.
type speaker uint8

const (
	nobody speaker = iota
	user
	assistant
	tools
)

// Encoder keeps a conversation in the form in which it is sent. Every message is encoded once: what an Encoder has is
// only ever appended to, so that the request for a conversation begins with the bytes of all earlier requests for it.
//
// The encoding is repaired as it is made, by these rules; what repairs a conversation that goes on is part of it for
// good, what repairs its end is sent and not kept.
//
//   - Turns alternate, and a user's is first and last. A turn that is missing, as after a prompt that failed, is filled
//     in.
//   - The results of a turn's calls come together after it, in the order of the calls, each once. A call without a
//     result gets one that says so; a result without a call is left out.
//   - Ids of calls are unique and of plain characters.
//   - Blank texts, thoughts that end a message, and messages with nothing in them are left out.
//   - Arguments that are no object are sent as an empty one; their result has told the model.
//
// An Encoder is used by one goroutine at a time. Its fields are where it stands in one request,
// which every repair reads.
type Encoder struct {
	target Target
	omit   Omission
	format format

	buf   []byte
	taken int // messages that were encoded
	last  speaker
	calls []pending        // of the last turn, until they all have a result
	open  map[string][]int // of those, the ones without a result: their positions, by id in the journal
	ids   map[string]int
	sizes []int // of all images, as they are sent
	skip  int   // so many of the first images are left out
	seen  int   // images so far
	at    place // the end of the last turn that is not the model's
	prev  place // the one before the last turn of the model
	piece int   // content blocks so far
	has   struct{ images, thoughts, calls bool }
	sent  func(from, id string) // is told of every call, nil for nobody
	first *model.Block          // of the last message that was taken and has content
}

// place is a position between two turns.
type place struct{ offset, piece int }

// pending is a call that waits for its result.
type pending struct {
	from   string // the id in the journal
	id     string // the id as it is sent
	tool   string
	given  string // the id that the provider gave it and wants to be named by the result; "" for none
	plain  bool   // the call was sent as a text
	result *model.Block
}

// format encodes turns whose content is repaired.
type format interface {
	// turn appends a user's turn, an assistant's or the results of tools; each is at least one element of a list, the
	// elements separated by commas.
	user(dst []byte, content []content) []byte
	assistant(dst []byte, content []content) []byte
	results(dst []byte, results []outcome) []byte
}

// content is one piece of a turn. A call has an id, all else has none.
type content struct {
	kind  model.BlockType
	text  string
	image *model.Image
	id    string
	tool  string
	args  []byte
	given string          // see pending
	meta  json.RawMessage // of the model itself
}

// outcome is the result of a call.
type outcome struct {
	id, text string
	tool     string
	given    string // see pending
	image    *model.Image
	failed   bool
	plain    bool // the call was sent as a text, and so is the result
}

// NewEncoder encodes for a target, leaving out what omit says.
func NewEncoder(t Target, omit Omission) *Encoder {
	e := &Encoder{target: t, omit: omit}
	switch t.API {
	case model.APIAnthropic:
		e.format = anthropicFormat{}
	case model.APIResponses:
		e.format = responsesFormat{}
	case model.APIConverse:
		e.format = converseFormat{}
	case model.APIGemini:
		e.format = geminiFormat{signed: wantsSignatures(t)}
	default:
		e.format = chatFormat{}
	}
	e.reset()
	return e
}

func (e *Encoder) reset() {
	*e = Encoder{target: e.target, omit: e.omit, format: e.format, skip: e.skip, sent: e.sent, ids: map[string]int{}}
}

// Omits is what the encoding leaves out.
func (e *Encoder) Omits() Omission { return e.omit }

// Continues reports whether messages begin with those that are encoded.
func (e *Encoder) Continues(messages []model.Message) bool {
	if e.taken == 0 {
		return true
	}
	return e.taken <= len(messages) && firstBlock(messages[e.taken-1]) == e.first
}

// firstBlock identifies a message: content is never shared nor copied.
func firstBlock(m model.Message) *model.Block {
	if len(m.Content) == 0 {
		return nil
	}
	return &m.Content[0]
}

// Size is how many bytes the encoding takes.
func (e *Encoder) Size() int { return cap(e.buf) + 64*len(e.ids) }

// Take encodes the messages that are new. messages must begin with those of the call before.
func (e *Encoder) Take(messages []model.Message) {
	for e.taken < len(messages) {
		e.add(messages[e.taken])
		e.first = firstBlock(messages[e.taken])
		e.taken++
		if skip := e.excess(); skip > e.skip { // rare, see excess
			e.skip = skip
			e.reset()
		}
	}
}

func (e *Encoder) add(m model.Message) {
	switch m.Role {
	case model.Assistant:
		e.settle()
		e.assistant(m)
	case model.ToolRole:
		for i := range m.Content {
			e.result(&m.Content[i])
		}
		if len(e.open) == 0 {
			e.settle()
		}
	default:
		e.settle()
		e.user(m)
	}
}

// element makes room for the next element.
func (e *Encoder) element() {
	if len(e.buf) > 0 {
		e.buf = append(e.buf, ',')
	}
}

// end notes that the turn of a speaker is over.
func (e *Encoder) end(s speaker, pieces int) {
	e.last, e.piece = s, e.piece+pieces
	if s == assistant {
		e.prev = e.at
	} else {
		e.at = place{offset: len(e.buf), piece: e.piece}
	}
}

func (e *Encoder) user(m model.Message) {
	var parts []content
	for _, b := range m.Content {
		switch {
		case b.Type == model.TextBlock && !blank(b.Text):
			parts = append(parts, content{kind: model.TextBlock, text: b.Text})
		case b.Type == model.FileBlock:
			text := "[The message refers to this file in the workspace: " + strconv.Quote(b.Text) + "]"
			parts = append(parts, content{kind: model.TextBlock, text: text})
		case b.Type == model.ImageBlock && b.Image != nil:
			parts = append(parts, e.image(b.Image))
		}
	}
	if len(parts) == 0 {
		parts = []content{{kind: model.TextBlock, text: noMessage}}
	}
	e.say(parts)
}

// say adds a user's turn.
func (e *Encoder) say(parts []content) {
	if e.last == user || e.last == tools {
		e.answer([]content{{kind: model.TextBlock, text: noAnswer}})
	}
	e.element()
	e.buf = e.format.user(e.buf, parts)
	e.end(user, len(parts))
}

// answer adds an assistant's turn.
func (e *Encoder) answer(parts []content) {
	if e.last == nobody || e.last == assistant {
		e.say([]content{{kind: model.TextBlock, text: goOn}})
	}
	e.element()
	e.buf = e.format.assistant(e.buf, parts)
	e.end(assistant, len(parts))
}

func (e *Encoder) assistant(m model.Message) {
	own := m.Model != nil && *m.Model == e.target.Ref
	var parts []content
	kept := 0 // of parts: what follows the last text or call is thoughts, which cannot end a message
	for _, b := range m.Content {
		switch b.Type {
		case model.TextBlock:
			if blank(b.Text) {
				continue
			}
			said := content{kind: model.TextBlock, text: b.Text}
			if own && !e.omit.Thinking {
				said.meta = b.Opaque
			}
			parts = append(parts, said)
		case model.ThinkingBlock:
			switch {
			case !own && !blank(b.Text):
				parts = append(parts, content{kind: model.TextBlock, text: b.Text})
			case own && !e.omit.Thinking:
				parts = append(parts, content{kind: model.ThinkingBlock, text: b.Text, meta: b.Opaque})
				e.has.thoughts = true
				continue
			default:
				continue
			}
		case model.ToolCallBlock:
			parts = append(parts, e.call(b, own))
		default:
			continue
		}
		kept = len(parts)
	}
	if kept > 0 {
		e.answer(parts[:kept])
	}
}

// call is a call as it is sent. It waits for its result.
func (e *Encoder) call(b model.Block, own bool) content {
	args := object(b.Args)
	p := pending{from: b.CallID, tool: toolName(b.Tool), plain: e.omit.Calls || e.omit.holds(b.CallID)}
	if e.open == nil {
		e.open = map[string][]int{}
	}
	e.open[b.CallID] = append(e.open[b.CallID], len(e.calls))
	if p.plain {
		e.calls = append(e.calls, p)
		return content{kind: model.TextBlock, text: "[called " + p.tool + " with " + string(args) + "]"}
	}
	p.id = e.id(b.CallID)
	e.has.calls = true
	if e.sent != nil {
		e.sent(p.from, p.id)
	}
	c := content{kind: model.ToolCallBlock, id: p.id, tool: p.tool, args: args}
	if own && (e.target.API != model.APIGemini ||
		!e.omit.Thinking) { // Gemini's thoughts are in the signatures of calls
		c.meta = b.Opaque
		e.has.thoughts = e.has.thoughts || e.target.API == model.APIGemini && b.Opaque != nil
		if p.given = str(member(b.Opaque, "id")); p.given != b.CallID {
			p.given = "" // of several calls that it gave the same one
		}
	}
	e.calls = append(e.calls, p)
	c.given = p.given
	return c
}

// result keeps the result of a call that has none.
func (e *Encoder) result(b *model.Block) {
	if b.Type != model.ToolResultBlock {
		return
	}
	waiting := e.open[b.CallID]
	if len(waiting) == 0 {
		return
	}
	e.calls[waiting[0]].result = b
	if e.open[b.CallID] = waiting[1:]; len(waiting) == 1 {
		delete(e.open, b.CallID)
	}
}

// settle adds the turn of the results, unless there was no call.
func (e *Encoder) settle() {
	if len(e.calls) == 0 {
		return
	}
	results := make([]outcome, len(e.calls))
	pieces := 0
	for i, p := range e.calls {
		results[i] = e.outcome(p)
		if pieces++; results[i].image != nil {
			pieces++
		}
	}
	e.calls, e.open = nil, nil
	e.element()
	e.buf = e.format.results(e.buf, results)
	e.end(tools, pieces)
}

func (e *Encoder) outcome(p pending) outcome {
	o := outcome{id: p.id, tool: p.tool, given: p.given, plain: p.plain, text: noResult, failed: true}
	if b := p.result; b != nil {
		o.text, o.failed = b.Text, b.IsError
		if b.Image != nil && !b.IsError {
			if shown := e.image(b.Image); shown.image != nil {
				o.image = shown.image
			} else {
				o.text = join(o.text, shown.text)
			}
		}
		if blank(o.text) {
			o.text = ""
			if o.image == nil {
				o.text = noOutput
			}
		}
	}
	if p.plain {
		o.text = "[result of " + p.tool + "]\n" + o.text
	}
	return o
}

// blank reports whether servers refuse the text as empty.
func blank(s string) bool { return strings.TrimSpace(s) == "" }

func join(a, b string) string {
	if blank(a) {
		return b
	}
	return a + "\n" + b
}
