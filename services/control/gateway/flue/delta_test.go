package flue

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// translated is the text deltas of batches.
func translated(batches ...[]event.Event) (texts []string) {
	s := begin()
	t := NewTranslator(submission.Submission{Loop: lane.Loop{ID: submissionID, Key: session.Key{
		Agent:    "a",
		Instance: `i"eventIndex":7,"timestamp":"`, Name: "s",
	}}}, opus, apiOf)
	for _, b := range batches {
		s.add(b...)
	}
	for _, batch := range s.batches {
		for _, e := range t.Translate(batch) {
			if e.Type != "text_delta" {
				continue
			}
			var d struct {
				common
				Text string `json:"text"`
			}
			if err := json.Unmarshal(e.JSON, &d); err != nil {
				panic(err)
			}
			want, err := rawjson.Encode(struct {
				common
				Text string `json:"text"`
			}{t.root.common(batch[len(batch)-1].Time, "text_delta"), d.Text})
			if d.Timestamp = ""; err != nil || d.Index != e.Index || d.InstanceID != t.sub.Key.Instance ||
				d.OperationID == "" || d.TurnID == "" ||
				strings.Count(string(e.JSON), ":") != strings.Count(string(want), ":") {
				panic(fmt.Sprintf("%s, want the like of %s", e.JSON, want))
			}
			texts = append(texts, d.Text)
		}
	}
	return texts
}

// A delta comes in the pieces in which the model said it. What waits for a reader that is behind comes in few.
func TestPieces(t *testing.T) {
	piece := event.Event{Type: event.Text, Text: "Hello world", Pieces: []int{2, 4, 5}}
	for name, c := range map[string]struct {
		batches [][]event.Event
		want    []string
	}{
		"pieces":          {[][]event.Event{{piece}}, []string{"He", "llo ", "world"}},
		"one piece":       {[][]event.Event{{text("Hello")}}, []string{"Hello"}},
		"one after other": {[][]event.Event{{piece, text("!")}}, []string{"He", "llo ", "world", "!"}},
		"too few lengths": {[][]event.Event{{{Type: event.Text, Text: "Hello", Pieces: []int{2}}}}, []string{
			"He",
			"llo",
		}},
		"too long lengths": {
			[][]event.Event{{{Type: event.Text, Text: "Hello", Pieces: []int{2, 100, 1}}}},
			[]string{"He", "llo"},
		},
	} {
		if got := translated(c.batches...); fmt.Sprint(got) != fmt.Sprint(c.want) || len(got) != len(c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	var late []event.Event
	for range 40 {
		late = append(late, event.Event{Type: event.Text, Text: strings.Repeat("x", 4<<10), Pieces: []int{
			1 << 10,
			3 << 10,
		}})
	}
	if got := translated(late); len(got) != 3 || len(strings.Join(got, "")) != 160<<10 {
		t.Errorf("160 KiB that waited came in %d pieces", len(got))
	}
}

// A turn_request shows, to who asks for it, all that the model is asked with at that point, and nothing to others.
func TestInput(t *testing.T) {
	s := scripts["tools"]()
	s.batches[0][0].Entry = &session.Entry{Kind: session.Input, Message: model.Message{
		Role:    model.User,
		Content: []model.Block{said("look around")},
	}}
	tr := NewTranslator(submission.Submission{Loop: lane.Loop{ID: submissionID, Key: session.Key{
		Agent: "a", Instance: "i",
		Name: "default",
	}}}, opus, apiOf)
	tr.Show(model.Request{
		System: "be brief", Thinking: model.ThinkingLow, Tools: []model.Tool{{
			Name: "bash", Description: "runs",
			Schema: json.RawMessage(`{"type":"object"}`),
		}},
		Messages: []model.Message{{Role: model.User, Content: []model.Block{said("before"), {
			Type:  model.ImageBlock,
			Image: &model.Image{MediaType: "image/png", Data: []byte{1}},
		}}}},
	})
	var inputs []string
	for _, batch := range s.batches {
		for _, e := range tr.Translate(batch) {
			if e.Type != "turn_request" {
				continue
			}
			var r struct {
				Input struct {
					SystemPrompt string `json:"systemPrompt"`
					Messages     []struct {
						Role       string `json:"role"`
						ToolCallID string `json:"toolCallId"`
						Content    []struct {
							Type string `json:"type"`
						} `json:"content"`
					} `json:"messages"`
					Tools []struct {
						Name       string          `json:"name"`
						Parameters json.RawMessage `json:"parameters"`
					} `json:"tools"`
				} `json:"input"`
				Reasoning string `json:"reasoning"`
			}
			if err := json.Unmarshal(e.JSON, &r); err != nil {
				t.Fatal(err)
			}
			if r.Input.SystemPrompt != "be brief" || r.Reasoning != "low" || len(r.Input.Tools) != 1 ||
				string(r.Input.Tools[0].Parameters) != `{"type":"object"}` {
				t.Errorf("%s", e.JSON)
			}
			text := ""
			for _, m := range r.Input.Messages {
				text += m.Role + m.ToolCallID + " "
				for _, b := range m.Content {
					text += b.Type + " "
				}
			}
			inputs = append(inputs, strings.TrimSpace(text))
		}
	}
	const first = "user text image user text"
	want := []string{
		first,
		first + " assistant text toolCall toolCall toolCall toolResultt1 text toolResultt2 text image toolResultt3 " +
			"text",
	}
	if fmt.Sprintf("%q", inputs) != fmt.Sprintf("%q", want) {
		t.Errorf("%q, want %q", inputs, want)
	}
	if out := scripts["tools"]().frames(); strings.Contains(out, `"input":{`) {
		t.Errorf("who did not ask is told: %s", out)
	}
}
