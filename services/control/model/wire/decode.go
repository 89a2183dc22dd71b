package wire

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Decoder turns the events of one answer into parts. It is used by one goroutine.
//
// Text and thinking are passed on as they come. A tool call is passed on when it is complete, at the latest at the end.
//
// Its fields are the state of one parser, and every protocol's events set them.
type Decoder struct {
	handle  func(*Decoder, Event) error
	offered []model.Tool
	out     []model.Part

	open  model.BlockType // of the block whose deltas come, "" for none
	key   int             // which of the provider's blocks it is
	text  []byte          // of the open block
	chars joiner          // of the open block
	meta  json.RawMessage // Block.Opaque of the open block

	calls   []*toolCall           // in the order in which they began
	byIndex map[int]*toolCall     // the last call that began with an index
	byID    map[callKey]*toolCall // the last call that has an id, by index and without
	ids     map[string]int        // how many calls that were passed on have an id
	given   int                   // calls that were passed on

	lastBlock int            // index of the block of an Anthropic answer that began last
	items     items          // of a Responses answer
	hosted    map[int]*asked // tools of Anthropic that run, by index
	found     string         // what Gemini has found, in words

	before  model.Usage // of the responses that were paused
	usage   model.Usage
	counted bool   // usage has changed since it was passed on
	reason  string // why the model stopped, in the protocol's words
	stop    model.Stop
	refused bool
	why     string // it was refused, "" when the provider does not tell
	spoiled error  // why the answer is of no use, although it is over
	paused  bool   // the provider wants to be asked to go on
	ended   bool   // the protocol's mark of the end came
	meaning bool   // something of an answer came
	strange []byte // the first content of a shape or kind that is not known
}

// NewDecoder reads the answer to a request that offered these tools.
func NewDecoder(api model.API, offered []model.Tool) *Decoder {
	d := &Decoder{handle: (*Decoder).chat, offered: offered}
	switch api {
	case model.APIAnthropic:
		d.handle = (*Decoder).anthropic
	case model.APIResponses:
		d.handle = (*Decoder).responses
	case model.APIGemini:
		d.handle = (*Decoder).gemini
	case model.APIConverse:
		d.handle = (*Decoder).converse
	}
	return d
}

// Event takes one event. The parts are valid until the next call. The error is a *ReportedError or a *ForeignError.
func (d *Decoder) Event(e Event) ([]model.Part, error) {
	d.out = d.out[:0]
	data := bytes.TrimSpace(e.Data)
	switch {
	case len(data) == 0:
		d.emit(model.Part{Type: model.PartAlive})
		return d.out, nil
	case string(data) == "[DONE]":
		d.ended = true
		return d.out, nil
	}
	err := d.take(e.Name, data)
	if d.counted && (d.Answered() || err != nil) { // what opens a message is no event of the answer
		d.counted = false
		d.emit(model.Part{Type: model.PartUsage, Usage: d.before.Add(d.usage)})
	}
	if err != nil {
		return d.out, err
	}
	if len(d.out) == 0 {
		d.emit(model.Part{Type: model.PartProgress})
	}
	return d.out, nil
}

// take takes the data of an event. Some servers put an error, or several chunks, into a list.
func (d *Decoder) take(name, data []byte) (err error) {
	listed := false
	if data[0] == '[' {
		elements(data, func(v []byte) {
			if listed = true; err == nil {
				err = d.handle(d, Event{Name: name, Data: v})
			}
		})
	}
	if !listed {
		err = d.handle(d, Event{Name: name, Data: data})
	}
	return err
}

// Ended reports that the answer is over and nothing of it can follow.
func (d *Decoder) Ended() bool { return d.ended }

// Complete reports that the provider said why the model stopped. What may still follow is what it cost.
func (d *Decoder) Complete() bool { return d.reason != "" || d.ended }

// Answered reports whether anything of an answer came.
func (d *Decoder) Answered() bool { return d.meaning || d.reason != "" }

// End is called when the stream is over, or nothing of it is worth waiting for. Its last part is PartFinish. The error
// is ErrCut when the answer was not over, ErrRefused, or a *ForeignError when the stream was no answer at all.
func (d *Decoder) End() ([]model.Part, error) {
	d.out = d.out[:0]
	switch {
	case d.refused && d.why != "":
		return nil, fmt.Errorf("%w: %s", ErrRefused, d.why)
	case d.refused:
		return nil, ErrRefused
	case d.spoiled != nil:
		return nil, d.spoiled
	case d.reason == "" && !d.ended:
		return nil, ErrCut
	case d.reason == "" && !d.meaning:
		return nil, &ForeignError{What: "the provider's stream ended without an answer"}
	}
	d.close()
	d.flush(d.stop == model.StopLength)
	d.tellFound()
	if !d.meaning && d.strange != nil {
		return nil, &ForeignError{
			What: "the provider's answer has nothing but content of an unknown kind", Came: d.strange,
		}
	}
	if d.stop != model.StopLength {
		d.stop = model.StopEnd
		if d.given > 0 {
			d.stop = model.StopTools
		}
	}
	d.emit(model.Part{Type: model.PartFinish, Usage: d.before.Add(d.usage), Stop: d.stop})
	return d.out, nil
}

// foreignEvent is an event that is no JSON object. Whoever reads an event's members finds that out; to check every
// event before would take more than to read it.
func foreignEvent(data []byte) error {
	return &ForeignError{What: "an event of the provider's stream is no JSON object", Came: bytes.Clone(data)}
}

// unknown notes content that is passed over. An answer of nothing else is an error, which shows the content.
func (d *Decoder) unknown(v []byte) {
	if d.strange == nil {
		d.strange = bytes.Clone(v)
	}
}

// valid is raw JSON that is kept, nil if it is none.
func valid(raw []byte) json.RawMessage {
	if !json.Valid(raw) {
		return nil
	}
	return raw
}

func (d *Decoder) emit(p model.Part) { d.out = append(d.out, p) }

// because notes why the model stopped.
func (d *Decoder) because(reason string) {
	if reason == "" {
		return
	}
	d.reason = reason
	switch reason {
	case "pause_turn":
		d.stop, d.paused = model.StopLength, true
	case "length", "max_tokens", "max_output_tokens", "model_length", "MAX_TOKENS",
		"model_context_window_exceeded":
		d.stop = model.StopLength
	case "content_filter", "refusal", "safety", "SAFETY", "RECITATION", "BLOCKLIST",
		"PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "LANGUAGE",
		"MODEL_ARMOR":
		d.refused = true
	}
}

// spoil notes that the answer is over and of no use: its model wrote what the server cannot read. Another answer may be
// better. What it has cost may still come.
func (d *Decoder) spoil(what, reason string, message []byte) {
	d.because(reason)
	d.spoiled = &ForeignError{What: what, Came: []byte(str(message))}
}

// begin makes a block the open one.
func (d *Decoder) begin(kind model.BlockType, key int) {
	if d.open == kind && d.key == key {
		return
	}
	d.close()
	d.open, d.key = kind, key
}

// add passes a piece of a text on, as a JSON string.
func (d *Decoder) add(kind model.BlockType, key int, quoted []byte) {
	if !isString(quoted) || len(quoted) == 2 {
		return
	}
	d.begin(kind, key)
	at := len(d.text)
	d.text = d.chars.append(d.text, quoted)
	d.piece(at)
}

// plain passes a piece of a text on that is decoded already.
func (d *Decoder) plain(kind model.BlockType, key int, text string) {
	if text == "" {
		return
	}
	d.begin(kind, key)
	at := len(d.text)
	d.text = append(d.text, text...)
	d.piece(at)
}

// piece passes on what the open block's text has from at on.
func (d *Decoder) piece(at int) {
	if len(d.text) == at {
		return
	}
	d.meaning = true
	kind := model.PartText
	if d.open == model.ThinkingBlock {
		kind = model.PartThinking
	}
	d.emit(model.Part{Type: kind, Text: string(d.text[at:])})
}

// close ends the open block, if there is one with something in it.
func (d *Decoder) close() {
	if d.open == "" {
		return
	}
	at := len(d.text)
	d.text = d.chars.flush(d.text)
	d.piece(at)
	if len(d.text) > 0 || d.meta != nil {
		d.emit(model.Part{
			Type: model.PartBlock, Block: model.Block{Type: d.open, Text: string(d.text), Opaque: d.meta},
		})
	}
	d.open, d.text, d.meta = "", d.text[:0], nil
}

// opaque passes on a block that is nothing but provider metadata.
func (d *Decoder) opaque(meta json.RawMessage) {
	if meta == nil {
		return
	}
	d.close()
	d.meaning = true
	d.emit(model.Part{Type: model.PartBlock, Block: model.Block{Type: model.ThinkingBlock, Opaque: meta}})
}

// charge replaces what was counted by what is counted now; what is not said now stays.
func charge(to *int64, n int64) {
	if n > 0 {
		*to = n
	}
}
