package flue

import (
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
)

// answering is what was sent of the message at hand.
type answering struct {
	open     bool // a message was started and not ended
	thinking bool // a thinking block is open
	thought  strings.Builder
	texts    int // bytes of text
	thoughts int // bytes of thinking
}

func (l *loop) delta(e *event.Event, text string) {
	if l.settled || text == "" {
		return
	}
	l.begin(e.Time)
	if l.answer != nil {
		return // the whole was sent already
	}
	l.startMessage(e.Time)
	if e.Type == event.Thinking {
		l.thoughts += len(text)
		l.think(e.Time, text)
		return
	}
	l.texts += len(text)
	l.say(e.Time, text)
}

func (l *loop) startMessage(at time.Time) {
	l.beginTurn(at)
	if l.open {
		return
	}
	l.open, l.texts, l.thoughts = true, 0, 0
	l.emit(at, "message_start", &messageEvent{Message: assistant(l.t.api.refOf(l.ref), []block{}, at)})
}

func (l *loop) say(at time.Time, text string) {
	l.stopThinking(at)
	l.emitDelta(at, "text_delta", "text", text)
}

func (l *loop) think(at time.Time, text string) {
	if !l.thinking {
		l.thinking = true
		l.emit(at, "thinking_start", &common{})
	}
	l.thought.WriteString(text)
	l.emitDelta(at, "thinking_delta", "delta", text)
}

func (l *loop) stopThinking(at time.Time) {
	if !l.thinking {
		return
	}
	l.thinking = false
	l.emit(at, "thinking_end", &thinkingEnd{Content: l.thought.String()})
	l.thought.Reset()
}

// rest sends what of an answer the deltas did not: some are merged into the entry and never come.
func (l *loop) rest(at time.Time, m model.Message) {
	texts, thoughts := l.texts, l.thoughts
	for _, b := range m.Content {
		switch b.Type {
		case model.TextBlock:
			sent := min(texts, len(b.Text))
			texts -= sent
			if sent < len(b.Text) {
				l.say(at, b.Text[sent:])
			}
		case model.ThinkingBlock:
			sent := min(thoughts, len(b.Text))
			thoughts -= sent
			if sent < len(b.Text) {
				l.think(at, b.Text[sent:])
			}
			if thoughts == 0 {
				l.stopThinking(at) // the next block, if it is one of thinking, is another
			}
		}
	}
	l.stopThinking(at)
}

func (l *loop) endMessage(at time.Time, m *message) {
	l.open, l.answer = false, m
	l.messages = append(l.messages, m)
	l.emit(at, "message_end", &messageEvent{Message: m})
}
