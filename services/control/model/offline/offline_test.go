package offline_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/offline"
)

func user(text string) model.Message {
	return model.Message{Role: model.User, Content: []model.Block{{Type: model.TextBlock, Text: text}}}
}

func TestContract(t *testing.T) {
	prompts := map[modeltest.Scenario]string{
		modeltest.Text:     "say: " + modeltest.Greeting,
		modeltest.Thinking: "think: hm, well\nsay: " + modeltest.Greeting,
		modeltest.Tools:    "ls\n& pwd",
		modeltest.Failure:  "fail: no",
	}
	modeltest.Contract(t, modeltest.Subject{New: func(_ *testing.T, s modeltest.Scenario) (model.Model, model.Request,
		bool,
	) {
		p, ok := prompts[s]
		return offline.New(), model.Request{Messages: []model.Message{user(p)}}, ok
	}})
}

// drive runs a prompt to its end: every tool call gets the result that tool gives. It returns a log of what happened.
func drive(t *testing.T, prompt string, tool func(model.Block) string) []string {
	t.Helper()
	var log []string
	messages := []model.Message{user("echo before"), {Role: model.Assistant, Content: []model.Block{
		{Type: model.ToolCallBlock, CallID: "old", Tool: "bash"},
	}}, {Role: model.ToolRole, Content: []model.Block{{
		Type: model.ToolResultBlock, CallID: "old",
		Text: "old",
	}}}, user(prompt)}
	for range 100 {
		tr, err, broken := modeltest.Read(offline.New().Stream(t.Context(), model.Request{Messages: messages}))
		if broken != nil {
			t.Fatal(broken)
		}
		results := model.Message{Role: model.ToolRole}
		line := ""
		for _, b := range tr.Message.Content {
			switch b.Type {
			case model.ToolCallBlock:
				line += fmt.Sprintf("[%s %s]", b.Tool, b.Args)
				results.Content = append(results.Content,
					model.Block{Type: model.ToolResultBlock, CallID: b.CallID, Tool: b.Tool, Text: tool(b)})
			default:
				line += fmt.Sprintf("%s(%s)", b.Type, b.Text)
			}
		}
		if err != nil {
			return append(log, line+"error("+err.Error()+")")
		}
		log = append(log, line)
		if tr.Message.Stop != model.StopTools {
			return log
		}
		slices.Reverse(results.Content) // results may come in any order
		messages = append(messages, tr.Message, results)
	}
	t.Fatal("the program does not end")
	return nil
}

func TestProgram(t *testing.T) {
	tests := []struct{ name, prompt, want string }{
		{"one line", "ls -l", `[bash {"command":"ls -l"}] | text(<ls -l>)`},
		{"several lines", " a \n\n\r\nb\nc\n", `[bash {"command":"a"}] | [bash {"command":"b"}] | [bash {"command":"c"}] | text(<a>~<b>~<c>)`},
		{"equal lines", "a\na", `[bash {"command":"a"}] | [bash {"command":"a"}] | text(<a>~<a>)`},
		{
			"parallel", "a\n& b\n& tool read: {\"path\": \"x\"}\nc",
			`[bash {"command":"a"}][bash {"command":"b"}][read {"path":"x"}] | [bash {"command":"c"}] | text(<a>~<b>~{"path":"x"}~<c>)`,
		},
		{"nothing to join", "& a", `[bash {"command":"a"}] | text(<a>)`},
		{"say", "say: one  two ", "text(one  two)"},
		{"say twice", "say: one\nsay: two", "text(one~two)"},
		{"say nothing", "say:", ""},
		{"say, think, say", "say: a\nthink: b\nthink: c\nsay: d", "text(a)thinking(b~c)text(d)"},
		{"say before a call", "say: a\nls", `text(a)[bash {"command":"ls"}] | text(<ls>)`},
		{"say after a call", "ls\nsay: done", `[bash {"command":"ls"}] | text(done)`},
		{"think after a call", "ls\nthink: hm", `[bash {"command":"ls"}] | thinking(hm)text(<ls>)`},
		{"fail", "fail: no  way", "error(no  way)"},
		{"fail after say", "say: a\nfail: b\nsay: c", "text(a)error(b)"},
		{"fail after a call", "ls\nfail: b", `[bash {"command":"ls"}] | error(b)`},
		{"call without arguments", "tool ls:", `[ls {}] | text({})`},
		{
			"call with bad arguments", "say: x\ntool write: {",
			`text(x)error(line 2: write tool NAME: {"argument": "value"})`,
		},
		{"call with no object", "tool write: 1", `error(line 1: write tool NAME: {"argument": "value"})`},
		{"call without a name", "tool:", `error(line 1: write tool NAME: {"argument": "value"})`},
		{"task", "task: a: b", `[task {"prompt":"a: b"}] | text({"prompt":"a: b"})`},
		{
			"tasks", "task one: say: a\n& task two :b\n&   task two: ls\nls",
			`[task {"agent":"one","prompt":"say: a"}][bash {"command":"task two :b"}]` +
				`[task {"agent":"two","prompt":"ls"}] | [bash {"command":"ls"}] | ` +
				`text({"agent":"one","prompt":"say: a"}~<task two :b>~{"agent":"two","prompt":"ls"}~<ls>)`,
		},
		{"no task", "taskset: x", `[bash {"command":"taskset: x"}] | text(<taskset: x>)`},
		{"finish", "finish: {\"a\": 1}", `[finish {"a":1}] | text({"a":1})`},
		{"finish with no object", "finish: [1, 2]", `[finish {"result":[1,2]}] | text({"result":[1,2]})`},
		{"finish with bad JSON", "finish: {", `error(line 1: write finish: JSON)`},
		{"give up", "give up: no", `[give_up {"reason":"no"}] | text({"reason":"no"})`},
		{"end early", "say: a\nagain:\nsay: b", "text(a)"},
		{"nothing", " \n", "text(Each line of a message is run as a shell command; `say: TEXT` answers with TEXT.)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := drive(t, tt.prompt, func(b model.Block) string {
				var args struct{ Command string }
				if json.Unmarshal(b.Args, &args); args.Command != "" {
					return "<" + args.Command + ">"
				}
				return string(b.Args)
			})
			if got := strings.ReplaceAll(strings.Join(log, " | "), "\n", "~"); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// answers is how a model goes on from messages.
func answers(t *testing.T, req model.Request) string {
	t.Helper()
	tr, err, broken := modeltest.Read(offline.New().Stream(t.Context(), req))
	if err != nil || broken != nil {
		t.Fatal(err, broken)
	}
	b := tr.Message.Content[0]
	if b.Type == model.ToolCallBlock {
		return b.Tool + " " + string(b.Args)
	}
	return b.Text
}

// An agent that is told what other models are told, too, has its program in its instructions.
func TestProgramOfInstructions(t *testing.T) {
	for system, want := range map[string]string{
		"Be kind.\n\n```offline\nsay: Hello.\n```\n\nDate: x": "Hello.",
		"```offline\nls\n```":                `bash {"command":"ls"}`,
		"```offline\necho \"$MESSAGE\"\n```": `bash {"command":"MESSAGE='It'\\''s\nlate.'\necho \"$MESSAGE\""}`,
		"```offline\nls":                     `bash {"command":"It's"}`,
		"An ```offline\nls\n```":             `bash {"command":"It's"}`,
	} {
		got := answers(t, model.Request{System: system, Messages: []model.Message{user("It's\nlate.")}})
		if got != want {
			t.Errorf("%q: %s, want %s", system, got, want)
		}
	}
}

// Where a structured result is asked for, what a call has printed is the result if it is JSON.
func TestStructuredResultOfPrintedJSON(t *testing.T) {
	finish := []model.Tool{{Name: "finish"}}
	for _, tt := range []struct {
		tools   []model.Tool
		results []string
		want    string
	}{
		{finish, []string{"{\"a\": 1}\n", "not found"}, `finish {"a":1}`},
		{finish, []string{"{\"a\": 1}", "[2]"}, `finish {"result":[2]}`},
		{finish, []string{"none"}, "none"},
		{nil, []string{"[2]"}, "[2]"},
	} {
		messages := []model.Message{user(strings.Repeat("x\n", len(tt.results)))}
		for i, text := range tt.results {
			id := fmt.Sprint(i)
			messages = append(messages,
				model.Message{Role: model.Assistant, Content: []model.Block{{Type: model.ToolCallBlock, CallID: id}}},
				model.Message{Role: model.ToolRole, Content: []model.Block{
					{Type: model.ToolResultBlock, CallID: id, Text: text},
				}})
		}
		if got := answers(t, model.Request{Tools: tt.tools, Messages: messages}); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.results, got, tt.want)
		}
	}
}

func TestResultsAreJoinedByExactlyOneNewline(t *testing.T) {
	log := drive(t, "a\nb", func(model.Block) string { return "x\n" })
	if got := log[len(log)-1]; got != "text(x\nx\n)" {
		t.Errorf("%q", got)
	}
}

func TestSayIsStreamedWordByWord(t *testing.T) {
	tr, err, broken := modeltest.Read(offline.New().Stream(t.Context(),
		model.Request{Messages: []model.Message{user("say: one two  three")}}))
	if err != nil || broken != nil {
		t.Fatal(err, broken)
	}
	if want := []string{"one ", "two ", " ", "three"}; !slices.Equal(tr.Deltas, want) {
		t.Errorf("%q, want %q", tr.Deltas, want)
	}
}

func TestSameRequestSameStream(t *testing.T) {
	req := model.Request{CacheKey: "s1", Messages: []model.Message{user("a\n& b")}}
	first, err, _ := modeltest.Read(offline.New().Stream(t.Context(), req))
	if err != nil {
		t.Fatal(err)
	}
	again, _, _ := modeltest.Read(offline.New().Stream(t.Context(), req))
	req.CacheKey = "s2"
	other, _, _ := modeltest.Read(offline.New().Stream(t.Context(), req))
	if first.Message.Content[1].CallID != again.Message.Content[1].CallID {
		t.Error("the id of a call is not stable")
	}
	if first.Message.Content[1].CallID == other.Message.Content[1].CallID {
		t.Error("two sessions have one id")
	}
}

func TestUsageIsOfThePromptAlone(t *testing.T) {
	long := user(strings.Repeat("x", 1000))
	for range 2 {
		tr, err, _ := modeltest.Read(offline.New().Stream(t.Context(), model.Request{
			System:   "12345678",
			Messages: []model.Message{long, user("say: 34567890ab")},
		}))
		if err != nil {
			t.Fatal(err)
		}
		if *tr.Message.Usage != (model.Usage{Input: 6, Output: 3}) {
			t.Errorf("%+v", tr.Message.Usage)
		}
	}
}

func TestOpenKnowsOneModel(t *testing.T) {
	if _, err := offline.Open(model.Endpoint{}, "shell"); err != nil {
		t.Error(err)
	}
	if _, err := offline.Open(model.Endpoint{}, "other"); err == nil {
		t.Error("offline/other was opened")
	}
}

func FuzzPrompt(f *testing.F) {
	f.Add("ls\nsay: a\n& pwd\n& tool x: {}\nthink: b\nfail: c")
	f.Add("tool a: {\"b\": [1]}\ntask b: c\n& & ls")
	f.Fuzz(func(t *testing.T, prompt string) {
		messages := []model.Message{user(prompt)}
		for range strings.Count(prompt, "\n") + 2 {
			tr, err, broken := modeltest.Read(offline.New().Stream(t.Context(), model.Request{Messages: messages}))
			if broken != nil {
				t.Fatal(broken)
			}
			if err != nil || tr.Message.Stop == model.StopEnd {
				return
			}
			results := model.Message{Role: model.ToolRole}
			for _, b := range tr.Message.Content {
				if b.Type == model.ToolCallBlock {
					results.Content = append(results.Content, model.Block{
						Type:   model.ToolResultBlock,
						CallID: b.CallID, Text: "ok",
					})
				}
			}
			messages = append(messages, tr.Message, results)
		}
		t.Fatal("the program does not end")
	})
}

func BenchmarkStream(b *testing.B) {
	var history []model.Message
	for range 5000 {
		history = append(history, user("ls"), model.Message{Role: model.Assistant})
	}
	req := model.Request{Messages: append(history, user("ls -l"))}
	b.ReportAllocs()
	for b.Loop() {
		for range offline.New().Stream(b.Context(), req) {
		}
	}
}
