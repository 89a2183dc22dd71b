package modeltest

import (
	"encoding/json"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Turn is what a provider answers, apart from how its protocol spells it.
type Turn struct {
	Thinking  []string // deltas
	Signature string   // Anthropic's signature or OpenAI's encrypted content
	Redacted  string   // an Anthropic thinking block that may not be read
	Text      []string // deltas
	Calls     []WireCall
	Stop      model.Stop // "" is what the content says
	Refused   bool
	Usage     model.Usage
}

// WireCall is a tool call whose arguments come in pieces.
type WireCall struct {
	ID, Tool string
	Args     []string
}

// Wire is a provider's streaming protocol.
type Wire struct {
	API  model.API
	Path string
	// Stream is a turn as events, with a ping or comment among them.
	Stream func(Turn) Play
	// Error is the body of a failed request.
	Error func(kind, message string) string
	// ErrorEvent is an error in the middle of a stream.
	ErrorEvent func(kind, message string) Event
	// Framed says that events are framed as AWS does it, and not server-sent.
	Framed bool
}

// Wires are all protocols.
func Wires() []Wire { return []Wire{Anthropic, Chat, Responses, Gemini, Converse} }

// usage is 100 in, 7 out unless the turn says otherwise.
func (t Turn) usage() model.Usage {
	if t.Usage == (model.Usage{}) {
		return model.Usage{Input: 100, Output: 7}
	}
	return t.Usage
}

func (t Turn) stop() model.Stop {
	switch {
	case t.Stop != "":
		return t.Stop
	case len(t.Calls) > 0:
		return model.StopTools
	default:
		return model.StopEnd
	}
}

type object = map[string]any

// event is a JSON event.
func event(name string, data object) Event {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err) // maps of strings and numbers always have a form
	}
	return Event{Name: name, Data: string(raw)}
}

func text(data object) string { return event("", data).Data }
