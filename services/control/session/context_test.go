package session_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// conversation is a conversation that grows as loops make it grow.
type conversation struct {
	t       *rapid.T
	entries []session.Entry
	budget  session.Budget
	calls   int
}

func (h *conversation) add(kind session.Kind, m model.Message) {
	seq := int64(len(h.entries)) + 1
	h.entries = append(h.entries, session.Entry{
		Seq: seq, Kind: kind, Message: m, CreatedAt: time.Unix(1_700_000_000+seq, 0).UTC(),
	})
}

// text is one of mostly small, sometimes large size.
func (h *conversation) text(most int) string {
	n := rapid.SampledFrom([]int{1, 20, 300, 2_000, most}).Draw(h.t, "size")
	return strings.Repeat("word ", min(n, most)/5+1)
}

func (h *conversation) input() {
	m := model.Message{Role: model.User, Content: []model.Block{
		{Type: model.TextBlock, Text: fmt.Sprintf("input %d %s", len(h.entries)+1, h.text(8_000))},
	}}
	if rapid.IntRange(0, 5).Draw(h.t, "image") == 0 {
		m.Content = append(m.Content, model.Block{Type: model.ImageBlock, Image: &model.Image{MediaType: "image/png"}})
	}
	h.add(session.Input, m)
}

// say adds a text of the model.
func (h *conversation) say(kind session.Kind, text string) {
	h.add(kind, model.Message{Role: model.Assistant, Content: []model.Block{{Type: model.TextBlock, Text: text}}})
}

// turn is an answer with calls and their results.
func (h *conversation) turn() {
	m := model.Message{Role: model.Assistant, Content: []model.Block{{Type: model.TextBlock, Text: h.text(2_000)}}}
	var results []model.Message
	for range rapid.IntRange(1, 6).Draw(h.t, "calls") {
		h.calls++
		id := fmt.Sprintf("call_%d", h.calls)
		path := strings.Repeat("d", rapid.SampledFrom([]int{0, 290}).Draw(h.t, "long")) + fmt.Sprintf("f%d", h.calls)
		args, _ := json.Marshal(map[string]string{"path": path, "content": h.text(4_000)})
		m.Content = append(m.Content, model.Block{Type: model.ToolCallBlock, CallID: id, Tool: "write", Args: args})
		r := model.Block{Type: model.ToolResultBlock, CallID: id, Tool: "write", Text: id + h.text(20_000)}
		if rapid.IntRange(0, 9).Draw(h.t, "shows") == 0 {
			r.Image = &model.Image{MediaType: "image/png"}
		}
		keep := rapid.IntRange(0, 40).Draw(h.t, "keep") == 0 && len(r.Text) < 4_000
		results = append(results, model.Message{Role: model.ToolRole, Content: []model.Block{r}, Keep: keep})
	}
	h.add(session.Assistant, m)
	for _, r := range results {
		h.add(session.ToolResult, r)
	}
}

// makeFit is what a loop does before it asks its model.
func (h *conversation) makeFit() []model.Message {
	for tries := 0; session.Estimate(session.Live(h.entries), h.budget.Fixed) > h.budget.Limit; tries++ {
		if tries > 200 {
			h.t.Fatal("the conversation is summarised again and again")
		}
		live := session.Live(h.entries)
		cut, ok := session.Plan(live, h.budget)
		if !ok || rapid.IntRange(0, 9).Draw(h.t, "fails") == 0 {
			break
		}
		capacity := rapid.SampledFrom([]int64{4_000, 30_000, 150_000}).Draw(h.t, "capacity")
		req, cut := session.Ask(live, cut, capacity)
		if n := session.TextTokens(len(req.System)) + session.Tokens(req.Messages[0]); n > capacity {
			h.t.Fatalf("the summariser is asked with %d tokens of %d", n, capacity)
		}
		answers := []string{
			"## Goal\nmake it\n## State\nit is made", "no headings", strings.Repeat("## State\nlong ", 5_000),
		}
		answer := answers[rapid.IntRange(0, len(answers)-1).Draw(h.t, "answer")]
		m, ok := session.Write(live, cut, answer, "threshold", func(string) bool { return true })
		if !ok {
			h.t.Fatal("an answer says nothing")
		}
		h.add(session.Summary, m)
	}
	return session.Fit(session.Context(h.entries), h.budget.Limit-h.budget.Fixed)
}

// check is what holds for every context that is sent.
func (h *conversation) check(sent []model.Message) {
	var size, must int64
	for _, m := range sent {
		size += session.Tokens(m)
	}
	latest, text := "", allText(sent)
	for _, e := range h.entries {
		if e.Kind == session.Input {
			latest = e.Message.Text()
		}
		if e.Message.Keep {
			must += session.Tokens(e.Message)
		}
	}
	if !strings.Contains(text, latest) {
		h.t.Fatal("the latest input is lost")
	}
	room := h.budget.Limit - h.budget.Fixed
	for _, e := range h.entries {
		// A summary keeps at most half, the latest input of at most 3,700 tokens included.
		if e.Message.Keep && must+3_700 < room/2 && !strings.Contains(text, e.Message.Content[0].Text) {
			h.t.Fatalf("entry %d, which is to be kept, is lost", e.Seq)
		}
	}
	if size > room && must < room/4 {
		h.t.Fatalf("%d tokens are sent where %d fit", size, room)
	}
	open := map[string]bool{}
	for i, m := range sent {
		if m.Role != model.ToolRole && len(open) > 0 {
			h.t.Fatalf("message %d comes before the results of %v", i, open)
		}
		for _, b := range m.Content {
			switch b.Type {
			case model.ToolCallBlock:
				open[b.CallID] = true
			case model.ToolResultBlock:
				if !open[b.CallID] {
					h.t.Fatalf("a result of %s without its call", b.CallID)
				}
				delete(open, b.CallID)
			}
		}
	}
	if len(open) > 0 {
		h.t.Fatalf("no results of %v", open)
	}
	to := int64(0)
	for _, e := range h.entries {
		if e.Kind != session.Summary {
			continue
		}
		if r := e.Range(); r.From != to+1 || r.To < r.From || r.To >= e.Seq {
			h.t.Fatalf("summary %d is of %d to %d, the one before ended at %d", e.Seq, r.From, r.To, to)
		}
		to = e.Range().To
	}
}

func allText(messages []model.Message) string {
	var b strings.Builder
	for _, m := range messages {
		for _, k := range m.Content {
			b.WriteString(k.Text)
		}
	}
	return b.String()
}

func TestWhateverHappenedTheContextFitsAndKeepsCallsWithTheirResultsAndTheLatestInput(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.Int64Range(20_000, 40_000).Draw(t, "window")
		h := &conversation{t: t, budget: session.Settings{Window: window}.Budget(2_000)}
		h.input()
		for range rapid.IntRange(1, 16).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0: // the answer, and the next prompt
				h.say(session.Assistant, "done")
				h.input()
			case 1: // a prompt that got no answer, and the next one
				h.say(session.Marker, "[no answer]")
				h.input()
			case 2: // somebody steers
				h.turn()
				h.input()
			case 3: // a fork at an earlier answer
				at := rapid.IntRange(1, len(h.entries)).Draw(t, "at")
				for at < len(h.entries) && h.entries[at].Kind == session.ToolResult {
					at++
				}
				h.entries = h.entries[:at:at]
				h.input()
			default:
				h.turn()
			}
			h.check(h.makeFit())
			if !reflect.DeepEqual(session.Context(session.Live(h.entries)), session.Context(h.entries)) {
				t.Fatal("what is live is not enough for the context")
			}
		}
	})
}
