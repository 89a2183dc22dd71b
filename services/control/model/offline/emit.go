package offline

import (
	"context"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/model"
)

// emitter turns steps into parts. Its methods return false when the call is over.
type emitter struct {
	ctx   context.Context
	yield func(model.Part, error) bool
	usage model.Usage

	open   model.BlockType // the block that say and think lines add to, "" for none
	text   strings.Builder // of that block
	spoken bool            // something was said in this call
	bytes  int             // of output
}

// run makes one model call.
func (e *emitter) run(s state, id func(int) string) {
	turns := 0
	for _, st := range parse(s.prompt, s.message) {
		if turns < s.turns {
			if st.verb == call || st.verb == again {
				turns++
			}
			continue
		}
		switch st.verb {
		case say:
			if !e.words(model.TextBlock, model.PartText, st.text) {
				return
			}
			e.spoken = true
		case think:
			if !e.words(model.ThinkingBlock, model.PartThinking, st.text) {
				return
			}
		case fail:
			if e.close() {
				e.yield(model.Part{}, &model.Error{Kind: model.KindFailed, Text: st.text})
			}
			return
		case again:
			if e.close() {
				e.finish(model.StopEnd)
			}
			return
		case call:
			if e.close() && e.ask(st.calls, id) {
				e.finish(model.StopTools)
			}
			return
		}
	}
	if data, ok := s.data(); ok && s.structured && !e.spoken {
		if e.close() && e.ask(finish(data, 0).calls, id) {
			e.finish(model.StopTools)
		}
		return
	}
	if e.last(s) && e.close() {
		e.finish(model.StopEnd)
	}
}

// last says the answer, unless say lines did.
func (e *emitter) last(s state) bool {
	switch {
	case e.spoken:
		return true
	case len(s.results) > 0:
		return e.delta(model.TextBlock, model.PartText, s.answer())
	case e.open == "" && e.bytes == 0:
		return e.delta(model.TextBlock, model.PartText, hint)
	default:
		return true
	}
}

// words streams one line, a word and its space at a time. Lines of one kind that follow each other make one block.
func (e *emitter) words(b model.BlockType, p model.PartType, line string) bool {
	if e.open == b {
		line = "\n" + line
	}
	if line == "" {
		return e.delta(b, p, "")
	}
	for word := range strings.SplitAfterSeq(line, " ") {
		if !e.delta(b, p, word) {
			return false
		}
	}
	return true
}

// delta adds text to the open block, after closing one of the other kind.
func (e *emitter) delta(b model.BlockType, p model.PartType, text string) bool {
	if e.open != b && !e.close() {
		return false
	}
	e.open = b
	e.text.WriteString(text)
	e.bytes += len(text)
	return text == "" || e.part(model.Part{Type: p, Text: text})
}

// close ends the open block.
func (e *emitter) close() bool {
	if e.open == "" {
		return true
	}
	b := model.Block{Type: e.open, Text: e.text.String()}
	e.open = ""
	e.text.Reset()
	return b.Text == "" || e.part(model.Part{Type: model.PartBlock, Block: b})
}

// ask asks for the calls of one step.
func (e *emitter) ask(calls []toolCall, id func(int) string) bool {
	for n, c := range calls {
		e.bytes += len(c.args)
		b := model.Block{Type: model.ToolCallBlock, CallID: id(n), Tool: c.tool, Args: c.args}
		if !e.part(model.Part{Type: model.PartBlock, Block: b}) {
			return false
		}
	}
	return true
}

// finish ends the call.
func (e *emitter) finish(stop model.Stop) {
	e.usage.Output = tokens(e.bytes)
	e.part(model.Part{Type: model.PartFinish, Usage: e.usage, Stop: stop})
}

// part passes one part on, or the context's error.
func (e *emitter) part(p model.Part) bool {
	if err := e.ctx.Err(); err != nil {
		e.yield(model.Part{}, fmt.Errorf("%s: %w", Shell, err))
		return false
	}
	return e.yield(p, nil)
}
