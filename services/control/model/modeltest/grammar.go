package modeltest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/pawl-dev/pawl/services/control/model"
)

// Transcript is what a stream yielded.
type Transcript struct {
	Message  model.Message
	Text     string   // the text deltas, joined
	Deltas   []string // the text deltas
	Restarts []*model.Restart
	Parts    int
}

// Read reads a stream to its end and checks that it keeps to the grammar that model.Part states. The error is the
// stream's own; broken says which rule was broken, or is nil.
func Read(stream iter.Seq2[model.Part, error]) (t Transcript, err, broken error) {
	c := checker{seen: map[string]bool{}}
	for p, e := range stream {
		if c.ended {
			return t, err, fmt.Errorf("something came after the end: %+v, %v", p, e)
		}
		t.Parts++
		if e != nil {
			err, c.ended = e, true
			continue
		}
		if broken := c.part(&t, p); broken != nil {
			return t, nil, broken
		}
	}
	if !c.ended {
		return t, nil, fmt.Errorf("the stream ended with neither a finish nor an error")
	}
	return t, err, nil
}

// checker follows one stream.
type checker struct {
	open  model.PartType // of the deltas since the last block
	text  string
	calls int
	seen  map[string]bool // ids of calls
	ended bool
}

func (c *checker) part(t *Transcript, p model.Part) error {
	switch p.Type {
	case model.PartText, model.PartThinking:
		if c.open != 0 && c.open != p.Type {
			return fmt.Errorf("a delta of type %d came before the block of type %d was complete", p.Type, c.open)
		}
		if p.Text == "" {
			return fmt.Errorf("an empty delta")
		}
		c.open, c.text = p.Type, c.text+p.Text
		if p.Type == model.PartText {
			t.Text += p.Text
			t.Deltas = append(t.Deltas, p.Text)
		}
	case model.PartBlock:
		if err := c.block(p.Block); err != nil {
			return err
		}
		t.Message.Content = append(t.Message.Content, p.Block)
	case model.PartFinish:
		return c.finish(t, p)
	case model.PartRestart:
		if p.Restart == nil || p.Restart.Err == nil || p.Restart.Attempt < 2 {
			return fmt.Errorf("a restart that does not tell why: %+v", p.Restart)
		}
		t.Restarts = append(t.Restarts, p.Restart)
		t.Message.Content, t.Text, t.Deltas = nil, "", nil
		*c = checker{seen: map[string]bool{}}
	case model.PartProgress, model.PartAlive, model.PartUsage, model.PartWaiting, model.PartPaused:
	default:
		return fmt.Errorf("a part of type %d", p.Type)
	}
	return nil
}

func (c *checker) block(b model.Block) error {
	switch b.Type {
	case model.TextBlock, model.ThinkingBlock:
		want := model.PartText
		if b.Type == model.ThinkingBlock {
			want = model.PartThinking
		}
		if c.open != 0 && c.open != want {
			return fmt.Errorf("a %s block ends deltas of type %d", b.Type, c.open)
		}
		if b.Text != c.text {
			return fmt.Errorf("the %s block is %q, its deltas were %q", b.Type, b.Text, c.text)
		}
		if b.Text == "" && b.Opaque == nil {
			return fmt.Errorf("an empty %s block", b.Type)
		}
	case model.ToolCallBlock:
		switch {
		case c.open != 0:
			return fmt.Errorf("a tool call came before the block of type %d was complete", c.open)
		case b.CallID == "" || c.seen[b.CallID]:
			return fmt.Errorf("the tool call's id %q is not new", b.CallID)
		case b.Tool == "":
			return fmt.Errorf("the tool call names no tool")
		case !json.Valid(b.Args):
			return fmt.Errorf("the tool call's arguments are no JSON: %q", b.Args)
		case b.ArgsError != "" && string(b.Args) != "{}":
			return fmt.Errorf("the tool call has arguments %s that are said to be wrong: %s", b.Args, b.ArgsError)
		}
		c.seen[b.CallID] = true
		c.calls++
	default:
		return fmt.Errorf("a block of type %q", b.Type)
	}
	if b.Opaque != nil && !json.Valid(b.Opaque) {
		return fmt.Errorf("opaque data that is no JSON: %q", b.Opaque)
	}
	c.open, c.text = 0, ""
	return nil
}

func (c *checker) finish(t *Transcript, p model.Part) error {
	c.ended = true
	u := p.Usage
	switch {
	case c.open != 0:
		return fmt.Errorf("the stream finished before the block of type %d was complete", c.open)
	case min(u.Input, u.Output, u.CacheRead, u.CacheWrite) < 0:
		return fmt.Errorf("negative usage %+v", u)
	case p.Stop == model.StopTools && c.calls == 0:
		return fmt.Errorf("stopped for tools without a tool call")
	case p.Stop == model.StopEnd && c.calls > 0:
		return fmt.Errorf("tool calls, but stopped for %q", p.Stop)
	case p.Stop != model.StopTools && p.Stop != model.StopEnd && p.Stop != model.StopLength:
		return fmt.Errorf("stopped for %q", p.Stop)
	}
	t.Message.Role, t.Message.Usage, t.Message.Stop = model.Assistant, &u, p.Stop
	return nil
}

// same reports whether two values have the same JSON.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
