package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/wire"
)

var (
	apis = []model.API{model.APIAnthropic, model.APIChat, model.APIResponses, model.APIGemini, model.APIConverse}
	self = model.Ref{Provider: "p", ID: "m"}
	pic  = []byte("\x89PNG\r\n\x1a\n and more")
)

func target(api model.API) wire.Target { return wire.Target{API: api, Ref: self} }

// body is the request for a conversation.
func body(t wire.Target, omit wire.Omission, messages []model.Message) []byte {
	e := wire.NewEncoder(t, omit)
	e.Take(messages)
	return bytes.Join(e.Body(wire.Head{}.Append(nil, t), true), nil)
}

func says(role model.Role, blocks ...model.Block) model.Message {
	m := model.Message{Role: role, Content: blocks}
	if role == model.Assistant {
		m.Model = &self
	}
	return m
}

func textOf(s string) model.Block  { return model.Block{Type: model.TextBlock, Text: s} }
func thought(s string) model.Block { return model.Block{Type: model.ThinkingBlock, Text: s} }
func imageOf(data []byte) model.Block {
	return model.Block{Type: model.ImageBlock, Image: &model.Image{MediaType: "image/png", Data: data}}
}

func callOf(id, args string) model.Block {
	return model.Block{Type: model.ToolCallBlock, CallID: id, Tool: "bash", Args: json.RawMessage(args)}
}

func resultOf(id, text string) model.Block {
	return model.Block{Type: model.ToolResultBlock, CallID: id, Tool: "bash", Text: text}
}

// turn is a turn of a request, as a strict server reads it.
type turn struct {
	who     string // user, assistant, tool
	texts   []string
	images  int
	calls   []string // ids
	results []string // ids
}

// strict reads a request and refuses what the strictest servers refuse.
func strict(api model.API, raw []byte) ([]turn, error) {
	var turns []turn
	var err error
	switch api {
	case model.APIAnthropic:
		turns, err = strictAnthropic(raw)
	case model.APIChat:
		turns, err = strictChat(raw)
	case model.APIGemini:
		turns, err = strictGemini(raw)
	case model.APIConverse:
		turns, err = strictConverse(raw)
	default:
		turns, err = strictResponses(raw)
	}
	if err != nil {
		return nil, err
	}
	return turns, strictOrder(turns)
}

// strictOrder checks the order of turns: they alternate, a user's is first and last, and after calls come their
// results, each once.
func strictOrder(turns []turn) error {
	seen := map[string]bool{}
	var open []string
	last := ""
	for i, t := range turns {
		switch {
		case i == 0 && t.who != "user":
			return fmt.Errorf("the first turn is of %s", t.who)
		case t.who == "assistant" && last == "assistant", t.who == "user" && last == "user":
			return fmt.Errorf("turn %d: roles do not alternate", i)
		case len(open) > 0 && t.who != "tool":
			return fmt.Errorf("turn %d: calls %v have no result", i, open)
		case t.who == "tool" && last != "assistant":
			return fmt.Errorf("turn %d: results after a turn of %s", i, last)
		}
		for _, s := range t.texts {
			if strings.TrimSpace(s) == "" {
				return fmt.Errorf("turn %d: a blank text", i)
			}
		}
		if len(t.texts)+t.images+len(t.calls)+len(t.results) == 0 {
			return fmt.Errorf("turn %d is empty", i)
		}
		if t.who == "tool" {
			if strings.Join(open, " ") != strings.Join(t.results, " ") {
				return fmt.Errorf("turn %d: results %v for calls %v", i, t.results, open)
			}
			open = nil
		}
		for _, id := range t.calls {
			if seen[id] || id == "" || len(id) > 40 || strings.ContainsFunc(id, func(r rune) bool {
				return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", r)
			}) {
				return fmt.Errorf("turn %d: the id %q", i, id)
			}
			seen[id] = true
			open = append(open, id)
		}
		last = t.who
	}
	if last == "assistant" || last == "" {
		return fmt.Errorf("the last turn is of %q", last)
	}
	return nil
}

// object reads a JSON object as strict servers do.
func object(raw []byte) (map[string]any, error) {
	var o map[string]any
	err := json.Unmarshal(raw, &o)
	if err == nil && o == nil {
		err = fmt.Errorf("no object: %s", raw)
	}
	return o, err
}

func strictName(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("the name %q", name)
	}
	return nil
}

func strictAnthropic(raw []byte) ([]turn, error) {
	type block struct {
		Type, Text, ID, Name, Thinking, Signature, Data string
		Input                                           json.RawMessage
		ToolUseID                                       string `json:"tool_use_id"`
		Content                                         []struct {
			Type, Text string
			Source     *struct{ Type, Media_type, Data string } //nolint:revive // as the API names it
		}
		Source       *struct{ Data string }
		CacheControl json.RawMessage `json:"cache_control"`
	}
	var req struct {
		Messages []struct {
			Role    string
			Content []block
		}
	}
	if err := json.Unmarshal(raw, &req); err != nil {
		return nil, err
	}
	var turns []turn
	for i, m := range req.Messages {
		t := turn{who: m.Role}
		for n, b := range m.Content {
			switch b.Type {
			case "text":
				t.texts = append(t.texts, b.Text)
			case "image":
				t.images++
			case "thinking", "redacted_thinking":
				if b.Signature+b.Data == "" || n == len(m.Content)-1 {
					return nil, fmt.Errorf("message %d: a thought at %d of %d", i, n, len(m.Content))
				}
			case "tool_use":
				if _, err := object(b.Input); err != nil {
					return nil, fmt.Errorf("message %d: %w", i, err)
				}
				if err := strictName(b.Name); err != nil {
					return nil, err
				}
				t.calls = append(t.calls, b.ID)
			case "tool_result":
				if len(t.texts)+t.images > 0 || len(b.Content) == 0 {
					return nil, fmt.Errorf("message %d: a result that is empty or behind something else", i)
				}
				t.who, t.results = "tool", append(t.results, b.ToolUseID)
				for _, c := range b.Content {
					if c.Type == "text" && strings.TrimSpace(c.Text) == "" {
						return nil, fmt.Errorf("message %d: a blank text in a result", i)
					}
				}
			default:
				return nil, fmt.Errorf("message %d: a block of type %q", i, b.Type)
			}
		}
		if len(m.Content) == 0 {
			return nil, fmt.Errorf("message %d is empty", i)
		}
		turns = append(turns, t)
	}
	if n := bytes.Count(raw, []byte("cache_control")); n < 1 || n > 4 {
		return nil, fmt.Errorf("%d marks of the cache", n)
	}
	return turns, nil
}

func strictChat(raw []byte) ([]turn, error) {
	var req struct {
		Messages []struct {
			Role      string
			Content   any
			ToolCalls []struct {
				ID, Type string
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
			ToolCallID string `json:"tool_call_id"`
		}
	}
	if err := json.Unmarshal(raw, &req); err != nil {
		return nil, err
	}
	var turns []turn
	for i, m := range req.Messages {
		t := turn{who: m.Role}
		switch c := m.Content.(type) {
		case string:
			t.texts = []string{c}
		case []any:
			for _, p := range c {
				if o, _ := p.(map[string]any); o["type"] == "text" {
					t.texts = append(t.texts, fmt.Sprint(o["text"]))
				} else {
					t.images++
				}
			}
		}
		for _, c := range m.ToolCalls {
			if _, err := object([]byte(c.Function.Arguments)); err != nil || c.Type != "function" {
				return nil, fmt.Errorf("message %d: %w", i, err)
			}
			if err := strictName(c.Function.Name); err != nil {
				return nil, err
			}
			t.calls = append(t.calls, c.ID)
		}
		last := len(turns) - 1
		switch {
		case m.Role == "tool" && last >= 0 && turns[last].who == "tool":
			turns[last].results = append(turns[last].results, m.ToolCallID)
			turns[last].texts = append(turns[last].texts, t.texts...)
			continue
		case m.Role == "tool":
			t.results = []string{m.ToolCallID}
		case m.Role == "user" && last >= 0 && turns[last].who == "tool" &&
			(t.images > 0 || strings.HasPrefix(t.texts[0], "[result")):
			continue // images of results
		}
		turns = append(turns, t)
	}
	return turns, nil
}

func strictResponses(raw []byte) ([]turn, error) {
	var req struct {
		Input []struct {
			Type, Role, Name, Arguments, Output string
			CallID                              string `json:"call_id"`
			Content                             any
		}
	}
	if err := json.Unmarshal(raw, &req); err != nil {
		return nil, err
	}
	var turns []turn
	add := func(who string) *turn {
		if last := len(turns) - 1; last >= 0 && turns[last].who == who && who != "user" {
			return &turns[last]
		}
		turns = append(turns, turn{who: who})
		return &turns[len(turns)-1]
	}
	for i, item := range req.Input {
		switch {
		case item.Type == "reasoning":
			if i == len(req.Input)-1 || req.Input[i+1].Role == "user" {
				return nil, fmt.Errorf("item %d: a thought at the end", i)
			}
		case item.Type == "function_call":
			if _, err := object([]byte(item.Arguments)); err != nil {
				return nil, fmt.Errorf("item %d: %w", i, err)
			}
			if err := strictName(item.Name); err != nil {
				return nil, err
			}
			t := add("assistant")
			t.calls = append(t.calls, item.CallID)
		case item.Type == "function_call_output":
			t := add("tool")
			t.results, t.texts = append(t.results, item.CallID), append(t.texts, item.Output)
		case item.Role == "assistant":
			t := add("assistant")
			t.texts = append(t.texts, fmt.Sprint(item.Content))
		default:
			var here turn
			list, _ := item.Content.([]any)
			for _, p := range list {
				if o, _ := p.(map[string]any); o["type"] == "input_text" {
					here.texts = append(here.texts, fmt.Sprint(o["text"]))
				} else {
					here.images++
				}
			}
			if last := len(turns) - 1; last >= 0 && turns[last].who == "tool" &&
				(here.images > 0 || strings.HasPrefix(here.texts[0], "[result")) {
				continue // images of results
			}
			here.who = "user"
			turns = append(turns, here)
		}
	}
	return turns, nil
}

// history generates any history, however odd.
func history() *rapid.Generator[[]model.Message] {
	id := rapid.SampledFrom([]string{"", "a", "b", "a_2", "functions.bash:0", "ü", strings.Repeat("x", 100), "call_1"})
	text := rapid.SampledFrom([]string{"", " \n", "hi", "\xff\x00", "a😀b", `"\`, strings.Repeat("long ", 50)})
	args := rapid.SampledFrom([]string{
		"", "{}", `{"a":1}`, "null", "[]", `"x"`, "{", `{"a":"\ud83d"}`, "{\"a\":\"\xff\"}", " {} ", "12",
	})
	opaque := rapid.SampledFrom([]string{
		"", `{"signature":"s"}`, `{"redacted":"d"}`,
		`{"item":{"type":"reasoning","encrypted_content":"e","summary":[]}}`, `{"field":"reasoning"}`, `17`,
		`{"signature":17}`, `{"extra_content":{"a":1}}`,
	})
	picture := rapid.SampledFrom([]*model.Image{
		nil,
		{MediaType: "image/png", Data: pic},
		{MediaType: "image/tiff", Data: []byte("II")},
		{MediaType: "image/png"},
		{MediaType: "image/png", Data: make([]byte, 5<<20)},
	})
	block := rapid.Custom(func(t *rapid.T) model.Block {
		return model.Block{
			Type: rapid.SampledFrom([]model.BlockType{
				model.TextBlock, model.ThinkingBlock, model.ToolCallBlock, model.ToolResultBlock, model.ImageBlock,
				"future",
			}).Draw(t, "type"),
			Text: text.Draw(t, "text"), CallID: id.Draw(t, "id"), Tool: text.Draw(t, "tool"),
			Args:    json.RawMessage(args.Draw(t, "args")),
			IsError: rapid.Bool().Draw(t, "error"), Image: picture.Draw(t, "image"),
			Opaque: json.RawMessage(opaque.Draw(t, "opaque")),
		}
	})
	ref := rapid.SampledFrom([]*model.Ref{nil, &self, {Provider: "other", ID: "m"}})
	message := rapid.Custom(func(t *rapid.T) model.Message {
		return model.Message{
			Role: rapid.SampledFrom([]model.Role{
				model.User, model.Assistant, model.ToolRole, "future",
			}).Draw(t, "role"),
			Content: rapid.SliceOfN(block, 0, 5).Draw(t, "content"), Model: ref.Draw(t, "model"),
		}
	})
	return rapid.SliceOfN(message, 0, 10)
}

func omissions() *rapid.Generator[wire.Omission] {
	return rapid.Custom(func(t *rapid.T) wire.Omission {
		return wire.Omission{
			Images: rapid.Bool().Draw(t, "images"), Thinking: rapid.Bool().Draw(t, "thinking"),
			Calls: rapid.Bool().Draw(t, "calls"),
			Some:  rapid.SampledFrom([]string{"", "a\n", "\n"}).Draw(t, "some"),
		}
	})
}

// Whatever the history is, and wherever it ends, the request is one that the strictest server takes.
func TestEveryHistoryMakesARequestThatServersTake(t *testing.T) {
	for _, api := range apis {
		t.Run(string(api), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				messages, omit := history().Draw(t, "history"), omissions().Draw(t, "omit")
				for n := range len(messages) + 1 {
					raw := body(target(api), omit, messages[:n])
					if _, err := strict(api, raw); err != nil {
						t.Fatalf("the first %d messages: %v\n%s", n, err, raw)
					}
				}
			})
		})
	}
}

// What is encoded once stays: an encoder that has gone on makes the same request as a new one, and every request begins
// with what the requests before it have kept.
func TestEncodingsAreOnlyAppendedTo(t *testing.T) {
	for _, api := range apis {
		t.Run(string(api), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				messages := history().Draw(t, "history")
				on := wire.NewEncoder(target(api), wire.Omission{})
				var kept []byte
				for n := range len(messages) + 1 {
					if !on.Continues(messages[:n]) {
						t.Fatalf("the first %d messages are taken for another conversation", n)
					}
					on.Take(messages[:n])
					got := bytes.Join(on.Body(wire.Head{}.Append(nil, target(api)), false), nil)
					if !bytes.HasPrefix(got, kept) {
						t.Fatalf("message %d has changed what came before:\n%s\n%s", n, kept, got)
					}
					fresh := wire.NewEncoder(target(api), wire.Omission{})
					fresh.Take(messages[:n])
					if want := bytes.Join(
						fresh.Body(wire.Head{}.Append(nil, target(api)), false), nil,
					); !bytes.Equal(got, want) {
						t.Fatalf("an encoder that went on differs from a new one:\n%s\n%s", got, want)
					}
					if n > 0 && settled(messages[:n]) {
						kept = bytes.TrimSuffix(got, []byte("]}"))
					}
				}
			})
		})
	}
}

// settled reports whether the conversation ends where a request is made: with a user's message, or all results.
func settled(messages []model.Message) bool { return messages[len(messages)-1].Role == model.User }

func TestWhatARequestSays(t *testing.T) {
	no := false
	blind := target(model.APIAnthropic)
	blind.Info.Images = &no
	few := target(model.APIAnthropic)
	few.MaxImages = 3
	huge := make([]byte, 4<<20)
	for _, tt := range []struct {
		name     string
		target   wire.Target
		omit     wire.Omission
		messages []model.Message
		want     string // of the conversation
	}{
		{
			"two prompts", target(model.APIAnthropic),
			wire.Omission{},
			[]model.Message{says(model.User, textOf("a")), says(model.User, textOf("b"))},
			`{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":[{"` +
				`type":"text","text":"(no answer was given)"}]},{"role":"user","content":[{"type":"text",` +
				`"text":"b"MARK}]}`,
		},
		{
			"a blank text before a call", target(model.APIAnthropic),
			wire.Omission{},
			[]model.Message{
				says(model.User, textOf("a")), says(model.Assistant, textOf("\n\n"), callOf("t", `{"c": 1}`)),
				says(model.ToolRole, resultOf("t", "\n")),
			},
			`{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":[{"` +
				`type":"tool_use","id":"t","name":"bash","input":{"c": 1}}]},{"role":"user","content":[{"` +
				`type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"(no output)"}]MA` + `RK}]}`,
		},
		{
			"arguments that are no object", target(model.APIChat),
			wire.Omission{},
			[]model.Message{
				says(model.User, textOf("a")), says(model.Assistant, callOf("t", `[1]`)),
				says(model.ToolRole, resultOf("t", "no")),
			},
			`{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"t"` +
				`,"type":"function","function":{"name":"bash","arguments":"{}"}}]},{"role":"tool","tool_c` +
				`all_id":"t","content":"no"}`,
		},
		{
			"one id twice: each call gets its own result", target(model.APIChat),
			wire.Omission{},
			[]model.Message{
				says(model.User, textOf("a")), says(model.Assistant, callOf("t", `{}`), callOf("t", `{}`)),
				says(model.ToolRole, resultOf("t", "1")), says(model.ToolRole, resultOf("t", "2")),
			},
			`{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"t"` +
				`,"type":"function","function":{"name":"bash","arguments":"{}"}},{"id":"id_po2eIQKLWCKDbb` +
				`x5kHZrUQ","type":"function","function":{"name":"bash","arguments":"{}"}}]},{"role":"tool` +
				`","tool_call_id":"t","content":"1"},{"role":"tool","tool_call_id":"id_po2eIQKLWCKDbbx5kH` +
				`ZrUQ","content":"2"}`,
		},
		{
			"an image for the blind", blind,
			wire.Omission{},
			[]model.Message{says(model.User, imageOf(pic))},
			`{"role":"user","content":[{"type":"text","text":"(an image is left out: this model does ` +
				`not take images)"MARK}]}`,
		},
		{
			"an image too big", target(model.APIAnthropic),
			wire.Omission{},
			[]model.Message{says(model.User, imageOf(huge))},
			`{"role":"user","content":[{"type":"text","text":"(an image is left out: it has 5592408 b` +
				`ytes in base64, and 5242880 are allowed)"MARK}]}`,
		},
		{
			"too many images", few,
			wire.Omission{},
			[]model.Message{says(model.User, imageOf(pic), imageOf(pic), imageOf(pic), imageOf(pic))},
			`{"role":"user","content":[{"type":"text","text":"(an image is left out: later images hav` +
				`e taken its place)"},{"type":"text","text":"(an image is left out: later images have tak` +
				`en its place)"},{"type":"image","source":{"type":"base64","media_type":"image/png","data` +
				`":"iVBORw0KGgogYW5kIG1vcmU="}},{"type":"image","source":{"type":"base64","media_type":"i` +
				`mage/png","data":"iVBORw0KGgogYW5kIG1vcmU="}MARK}]}`,
		},
		{
			"calls as texts", target(model.APIAnthropic),
			wire.Omission{Calls: true},
			[]model.Message{
				says(model.User, textOf("a")), says(model.Assistant, callOf("t", `{"c":1}`)),
				says(model.ToolRole, resultOf("t", "out")),
			},
			`{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":[{"` +
				`type":"text","text":"[called bash with {\"c\":1}]"}]},{"role":"user","content":[{"type":` +
				`"text","text":"[result of bash]\nout"MARK}]}`,
		},
		{
			"one call as a text", target(model.APIResponses),
			wire.Omission{Some: "u\n"},
			[]model.Message{
				says(model.User, textOf("a")), says(model.Assistant, callOf("t", `{}`), callOf("u", `{}`)),
				says(model.ToolRole, resultOf("t", "1")), says(model.ToolRole, resultOf("u", "2")),
			},
			`{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call","ca` +
				`ll_id":"t","name":"bash","arguments":"{}"},{"role":"assistant","content":"[called bash w` +
				`ith {}]"},{"type":"function_call_output","call_id":"t","output":"1"},{"role":"user","con` +
				`tent":[{"type":"input_text","text":"[result of bash]\n2"}]}`,
		},
		{
			"own thoughts, and those of another", target(model.APIChat),
			wire.Omission{},
			[]model.Message{
				says(model.User, textOf("a")),
				says(
					model.Assistant,
					model.Block{
						Type: model.ThinkingBlock, Text: "hm", Opaque: json.RawMessage(`{"field":"reasoning"}`),
					},
					textOf("b"),
				),
				says(model.User, textOf("c")),
				{Role: model.Assistant, Content: []model.Block{thought("other"), textOf("d")}},
				says(model.User, textOf("e")),
			},
			`{"role":"user","content":"a"},{"role":"assistant","content":"b","reasoning":"hm"},{"role` +
				`":"user","content":"c"},{"role":"assistant","content":"other\nd"},{"role":"user","conten` + `t":"e"}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := body(tt.target, tt.omit, tt.messages)
			_, got, _ := strings.Cut(string(raw), `:[`)
			want := strings.ReplaceAll(tt.want, "MARK", `,"cache_control":{"type":"ephemeral"}`) + "]}"
			if got != want {
				t.Errorf("\ngot  %s\nwant %s", got, want)
			}
		})
	}
}

// Every API's body ends where the strict reader wants it also with everything that a head can say.
func TestHeads(t *testing.T) {
	tools, err := wire.EncodeTools(
		target(model.APIChat), []model.Tool{{Name: "ls", Schema: json.RawMessage("{\n \"type\": \"object\"\n}")}}, true,
	)
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	to := wire.Target{
		API: model.APIChat, Ref: self, Own: true, Info: model.Info{Thinks: &yes},
		Extra: map[string][]byte{
			"stream": []byte("false"), "messages": []byte("[]"), "reasoning_effort": []byte(`"max"`),
			"seed": []byte("1"),
		},
	}
	h := wire.Head{
		Request: model.Request{System: "s", Thinking: model.ThinkingHigh, MaxOutput: 9, CacheKey: "k"}, Tools: tools,
		Without: []string{"stream_options", "max_completion_tokens"},
	}
	want := `{"model":"m","stream":true,"max_tokens":9,"prompt_cache_key":"k","reasoning_effort":"max","seed":1,` +
		`"tools":[{"type":"function","function":{"name":"ls","parameters":{"properties":{},"type":"object"}}}],` +
		`"messages":[{"role":"system","content":"s"},`
	if got := string(h.Append(nil, to)); got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
}

func TestWhatARefusalIsAbout(t *testing.T) {
	messages := []model.Message{
		says(model.User, textOf("a"), imageOf(pic)),
		says(model.Assistant, thought("hm"), callOf("toolu_1", `{}`), callOf("odd:id", `{}`)),
		says(model.ToolRole, resultOf("toolu_1", "x")),
	}
	plain := []model.Message{says(model.User, textOf("a"))}
	for _, tt := range []struct {
		words, want string
		messages    []model.Message
		tooLarge    bool
	}{
		{"messages.0.content.1.image.source.base64: image exceeds 5 mb maximum", "images", messages, false},
		{"could not process image", "", plain, false},
		{"payload too large", "images", messages, true},
		{"payload too large", "", plain, true},
		{
			"`tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
			"the call toolu_1",
			messages,
			false,
		},
		{"no tool output found for function call toolu_1.", "the call toolu_1", messages, false},
		{"messages[1].tool_calls[0].function.arguments must be valid", "calls", messages, false},
		{"messages.1.content.0: invalid `signature` in `thinking` block", "the model's thoughts", messages, false},
		{"messages.1.content.0: input tag 'x' found", "images, thoughts and calls", messages, false},
		{"invalid 'input[1]'", "images, thoughts and calls", messages, false},
		{"messages.0: no", "", plain, false},
		{"this model does not support tools", "", messages, false},
	} {
		e := wire.NewEncoder(target(model.APIAnthropic), wire.Omission{})
		e.Take(tt.messages)
		omit, what := e.Refused(tt.words, tt.messages, tt.tooLarge)
		if what != tt.want {
			t.Errorf("%q: %q, want %q", tt.words, what, tt.want)
		}
		if what == "" {
			continue
		}
		again := wire.NewEncoder(target(model.APIAnthropic), omit)
		again.Take(tt.messages)
		if _, what := again.Refused(tt.words, tt.messages, tt.tooLarge); what == tt.want {
			t.Errorf("%q: asked again for the same", tt.words)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(
		[]byte(chunk(`{"content":"a","tool_calls":[{"index":0,"id":"a","function":{"name":"ls","arguments":"{}"}}]}`)+
			ended("stop")+done),
		uint8(1),
	)
	f.Add(
		[]byte(event(
			"content_block_start", `"index":0,"content_block":{"type":"tool_use","id":"t","name":"ls","input":{"a":1}}`,
		)+event("message_stop", "")),
		uint8(0),
	)
	f.Add(
		[]byte(event(
			"response.output_item.done", `"item":{"type":"function_call","call_id":"c","name":"ls","arguments":"{}"}`,
		)+done),
		uint8(2),
	)
	f.Add([]byte("\xef\xbb\xbfdata\rdata:[DONE]\r\n{\"a\":\"\\ud83d\"}\nevent: x"), uint8(1))
	f.Fuzz(func(t *testing.T, src []byte, which uint8) {
		tell(t, parts(apis[int(which)%len(apis)], bytes.NewReader(src)))
	})
}

func FuzzArguments(f *testing.F) {
	f.Add(`{"a":"\ud83d"}{"b":1}`)
	f.Add(`"{\"a\":1}"`)
	f.Fuzz(func(t *testing.T, text string) {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		call := `{"index":0,"id":"x","function":{"name":"bash","arguments":` + string(quoted) + `}}`
		src := chunk(`{"tool_calls":[`+call+`]}`) +
			done
		tell(t, parts(model.APIChat, strings.NewReader(src)))
	})
}

func TestAConversationOfManyCallsIsEncodedInLittleTime(t *testing.T) {
	const most = 60_000
	asks := model.Message{Role: model.Assistant}
	messages := []model.Message{says(model.User, textOf("x")), {}}
	for i := range most {
		id := strconv.Itoa(i)
		asks.Content = append(asks.Content, callOf(id, "{}"))
		messages = append(messages, says(model.ToolRole, resultOf(id, "y")))
	}
	messages[1] = asks
	start := time.Now()
	e := wire.NewEncoder(target(model.APIChat), wire.Omission{})
	e.Take(messages)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("%s: the time grows with the square of the calls", took)
	}
}
