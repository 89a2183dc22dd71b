package wire

import (
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Body is the request for the conversation as it is now: head, which ends where the conversation begins, and what
// closes it. marked asks for the marks of Anthropic's cache. The parts stay valid when more messages are taken.
//
// A mark tells Anthropic where a prefix ends that it keeps. Marks are no part of what it compares, so a mark may move
// from request to request, but the bytes around it would differ. So there is one mark that moves, on the very last
// piece, where this request ends anyway, and the encoding that is kept has none. Anthropic finds the prefix that it
// kept at the last request by looking back from a mark, over 20 pieces. A turn with more pieces gets a second mark
// where the request before ended.
func (e *Encoder) Body(head []byte, marked bool) [][]byte { return e.body(head, marked, nil) }

func (e *Encoder) body(head []byte, marked bool, paused []content) [][]byte {
	end := *e // what closes the conversation is not kept
	end.buf = e.buf[:len(e.buf):len(e.buf)]
	end.settle()
	switch {
	case len(paused) > 0:
		end.answer(paused)
	case end.last != user && end.last != tools:
		end.say([]content{{kind: model.TextBlock, text: goOn}})
	}
	tail := []byte("]}")
	mark, closing := marksOf(e.target)
	if !marked || mark == nil {
		return [][]byte{head, end.buf, tail}
	}
	if last, before := end.at, end.prev; before.offset > 0 && last.piece-before.piece > lookBack {
		first, second := before.offset-closing, last.offset-closing
		return [][]byte{head, end.buf[:first], mark, end.buf[first:second], mark, end.buf[second:], tail}
	}
	at := end.at.offset - closing
	return [][]byte{head, end.buf[:at], mark, end.buf[at:], tail}
}

// lookBack is how far Anthropic looks back from a mark, in content blocks, with something to spare.
const lookBack = 18

var anthropicMark = []byte(`,"cache_control":{"type":"ephemeral"}`)

// isClaude reports whether a model of a cloud is one of Anthropic's.
func isClaude(t Target) bool { return strings.Contains(t.Ref.ID, "claude") }

// cachePoint marks on Bedrock what a cache keeps, as a piece of its own.
var cachePoint = []byte(`,{"cachePoint":{"type":"default"}}`)

// marksOf are the marks of a cache that a model's API takes, and how many bytes of a turn's end stand behind one; nil
// when it takes none. Bedrock refuses them for all models but Anthropic's and Amazon's own.
func marksOf(t Target) (mark []byte, closing int) {
	switch {
	case t.API == model.APIAnthropic:
		return anthropicMark, len("}]}") // of the piece, the list and the turn
	case t.API == model.APIConverse && (isClaude(t) || strings.Contains(t.Ref.ID, "nova")):
		return cachePoint, len("]}")
	}
	return nil, 0
}
