package provider_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/provider"
)

const key = "sk-test-0123456789"

// ids are models that the catalogue knows, so that all features are on.
var ids = map[model.API]string{
	model.APIAnthropic: "claude-sonnet-4-5", model.APIChat: "gpt-5", model.APIResponses: "gpt-5",
	model.APIGemini:   "gemini-3-flash-preview",
	model.APIConverse: "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
}

// open makes the model that speaks w to s.
func open(t *testing.T, w modeltest.Wire, s *modeltest.Server, change ...func(*model.Endpoint)) model.Model {
	t.Helper()
	e := model.Endpoint{Name: "test", BaseURL: s.URL(), Key: key, Settings: model.Settings{API: w.API}}
	if w.API == model.APIConverse {
		e.Cloud = model.Cloud{Kind: model.Bedrock, Region: "eu-central-1"}
	}
	for _, c := range change {
		c(&e)
	}
	m, err := provider.APIs(s.Client())[w.API](e, ids[w.API])
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// each runs a test for every protocol, in a bubble.
func each(t *testing.T, test func(t *testing.T, w modeltest.Wire)) {
	for _, w := range modeltest.Wires() {
		t.Run(string(w.API), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, w) })
		})
	}
}

func user(text string) model.Message {
	return model.Message{Role: model.User, Content: []model.Block{{Type: model.TextBlock, Text: text}}}
}

// ask makes one call.
func ask(t *testing.T, m model.Model, req model.Request) (modeltest.Transcript, error) {
	t.Helper()
	if req.Messages == nil {
		req.Messages = []model.Message{user("hi")}
	}
	tr, err, broken := modeltest.Read(m.Stream(t.Context(), req))
	if broken != nil {
		t.Fatalf("the stream breaks a rule: %v", broken)
	}
	return tr, err
}

// twoCalls asks for two tools at once, their arguments in pieces.
var twoCalls = modeltest.Turn{
	Text: []string{"let me ", "see"},
	Calls: []modeltest.WireCall{
		{ID: "call_1", Tool: "bash", Args: []string{`{"comm`, `and":"ls`, ` -l"}`}},
		{ID: "call_2", Tool: "read", Args: []string{`{"path":`, `"a"}`}},
	},
}

func TestContract(t *testing.T) {
	greeting := []string{"hello  ", "wide ", "world"}
	turns := map[modeltest.Scenario]modeltest.Turn{
		modeltest.Text:     {Text: greeting},
		modeltest.Thinking: {Thinking: []string{"h", "m"}, Signature: "sig", Text: greeting},
		modeltest.Tools:    twoCalls,
		modeltest.Twins: {Calls: []modeltest.WireCall{
			{ID: "x", Tool: "bash", Args: []string{`{"command":"1"}`}},
			{ID: "x", Tool: "bash", Args: []string{`{"command":"2"}`}},
		}},
		modeltest.CutShort: {
			Calls: []modeltest.WireCall{{
				ID: "x", Tool: "bash",
				Args: []string{`{"command":"1`},
			}}, Stop: model.StopLength,
		},
	}
	for _, w := range modeltest.Wires() {
		t.Run(string(w.API), func(t *testing.T) {
			modeltest.Contract(t, modeltest.Subject{New: func(t *testing.T, s modeltest.Scenario) (model.Model,
				model.Request, bool,
			) {
				srv := modeltest.NewServer(t)
				switch s {
				case modeltest.Failure:
					srv.Always(modeltest.Answer(http.StatusBadRequest, w.Error("invalid_request_error", "no")))
				case modeltest.Stall:
					p := w.Stream(turns[modeltest.Text])
					srv.Always(p.Until(p.Index("wide ")+1, modeltest.Stop))
				default:
					srv.Always(w.Stream(turns[s]))
				}
				return open(t, w, srv), model.Request{
					Messages: []model.Message{user("hi")},
					Thinking: model.ThinkingMedium,
				}, s != modeltest.CutShort || w.API != model.APIGemini // whose calls come whole
			}})
		})
	}
}

func TestToolCallsComeWhole(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		tr, err := ask(t, open(t, w, modeltest.NewServer(t, w.Stream(twoCalls))), model.Request{})
		if err != nil {
			t.Fatal(err)
		}
		c := tr.Message.Content
		if len(c) != 3 || c[0].Text != "let me see" || c[1].CallID != "call_1" ||
			string(c[1].Args) != `{"command":"ls -l"}` ||
			c[2].CallID != "call_2" || c[2].Tool != "read" || string(c[2].Args) != `{"path":"a"}` {
			t.Errorf("%+v", c)
		}
	})
}

func TestACallWithoutArguments(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		turn := modeltest.Turn{Calls: []modeltest.WireCall{{ID: "c", Tool: "ls"}}}
		if w.API == model.APIResponses {
			turn.Calls[0].Args = []string{"{}"}
		}
		tr, err := ask(t, open(t, w, modeltest.NewServer(t, w.Stream(turn))), model.Request{})
		if err != nil || len(tr.Message.Content) != 1 || string(tr.Message.Content[0].Args) != "{}" {
			t.Errorf("%+v, %v", tr.Message, err)
		}
	})
}

func TestArgumentsCutAtTheLimitAreTold(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		if w.API == model.APIGemini {
			return // whose calls come whole
		}
		turn := modeltest.Turn{Stop: model.StopLength, Calls: []modeltest.WireCall{{
			ID: "c", Tool: "write",
			Args: []string{`{"path":"a`},
		}}}
		tr, err := ask(t, open(t, w, modeltest.NewServer(t, w.Stream(turn))), model.Request{})
		if err != nil || tr.Message.Stop != model.StopLength || len(tr.Message.Content) != 1 {
			t.Fatalf("%+v, %v", tr.Message, err)
		}
		b := tr.Message.Content[0]
		if e := b.ArgsError; string(b.Args) != "{}" || !strings.Contains(e, "cut at byte 10") ||
			!strings.Contains(e, `{"path":"a`) {
			t.Errorf("%s: %s", b.Args, b.ArgsError)
		}
	})
}

func TestUsageAndCost(t *testing.T) {
	each(t, func(t *testing.T, w modeltest.Wire) {
		turn := modeltest.Turn{Text: []string{"x"}, Usage: model.Usage{Input: 1000, Output: 200, CacheRead: 4000}}
		if w.API == model.APIAnthropic {
			turn.Usage.CacheWrite = 500
		}
		price := model.Info{Price: &model.Price{Input: 3, Output: 15, CacheRead: 0.3, CacheWrite: 3.75}}
		m := open(t, w, modeltest.NewServer(t, w.Stream(turn)), func(e *model.Endpoint) {
			e.Info = price
		})
		tr, err := ask(t, m, model.Request{})
		if err != nil {
			t.Fatal(err)
		}
		want := turn.Usage
		want.Cost = price.Price.Cost(want)
		if *tr.Message.Usage != want || want.Cost.Input != 0.003 || want.Cost.CacheRead != 0.0012 {
			t.Errorf("%+v, want %+v", *tr.Message.Usage, want)
		}
	})
}

// What an answer has cost that did not come to its end, or was refused, counts as well.
func TestACallThatComesToNothingHasItsCost(t *testing.T) {
	price := &model.Price{Input: 3, Output: 15}
	spent := func(t *testing.T, w modeltest.Wire, p modeltest.Play) (last model.Usage) {
		t.Helper()
		m := open(t, w, modeltest.NewServer(t, p), func(e *model.Endpoint) { e.Info.Price = price })
		for part, err := range m.Stream(t.Context(), model.Request{Messages: []model.Message{user("hi")}}) {
			switch {
			case part.Type == model.PartFinish:
				t.Fatalf("%s: it came to its end", w.API)
			case err == nil && part.Type == model.PartUsage:
				last = part.Usage
			}
		}
		return last
	}
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Anthropic
		p := w.Stream(modeltest.Turn{Text: []string{"one ", "two"}})
		u := spent(t, w, p.Until(p.Index("two"), modeltest.Cut))
		if u.Input == 0 || u.Cost.Input == 0 || u.Cost != price.Cost(u) {
			t.Errorf("cut: %+v", u)
		}
	})
	each(t, func(t *testing.T, w modeltest.Wire) {
		u := spent(t, w, w.Stream(modeltest.Turn{Refused: true, Usage: model.Usage{Input: 100, Output: 7}}))
		if u.Input != 100 || u.Output != 7 || u.Cost != price.Cost(u) {
			t.Errorf("refused: %+v", u)
		}
	})
}

func TestWindowsComeFromTheCatalogue(t *testing.T) {
	apis := provider.APIs(nil)
	anthropic, chat := model.Settings{API: model.APIAnthropic}, model.Settings{API: model.APIChat}
	for _, tt := range []struct {
		e    model.Endpoint
		id   string
		want int64
	}{
		{model.Endpoint{Name: "anthropic", Settings: anthropic}, "claude-sonnet-4-5", 200_000},
		{model.Endpoint{Name: "anthropic", Settings: anthropic}, "claude-sonnet-4-5-20250929", 200_000},
		{model.Endpoint{Name: "proxy", BaseURL: "http://h", Settings: anthropic}, "claude-sonnet-4-6", 200_000},
		{
			model.Endpoint{Name: "openai", Settings: model.Settings{API: model.APIResponses}},
			"gpt-5-2025-08-07",
			400_000,
		},
		{model.Endpoint{Name: "local", BaseURL: "http://h", Settings: chat}, "mine", 0},
		{
			model.Endpoint{Name: "local", BaseURL: "http://h", Settings: chat, Info: model.Info{Window: 8192}},
			"mine",
			8192,
		},
	} {
		m, err := apis[tt.e.API](tt.e, tt.id)
		if err != nil {
			t.Fatal(err)
		}
		if m.Window() != tt.want {
			t.Errorf("%s has a window of %d, want %d", m.Ref(), m.Window(), tt.want)
		}
	}
}

func TestKnownProviders(t *testing.T) {
	for name, want := range map[string]model.Provider{
		"anthropic": {Settings: model.Settings{API: model.APIAnthropic}, KeyEnv: "ANTHROPIC_API_KEY"},
		"openai":    {Settings: model.Settings{API: model.APIResponses}, KeyEnv: "OPENAI_API_KEY"},
		"gemini":    {Settings: model.Settings{API: model.APIGemini}, KeyEnv: "GEMINI_API_KEY"},
		"vertexai":  {Cloud: model.Cloud{Kind: model.Vertex}},
		"azure":     {Cloud: model.Cloud{Kind: model.Azure}, KeyEnv: "AZURE_OPENAI_API_KEY"},
		"bedrock":   {Cloud: model.Cloud{Kind: model.Bedrock}},
		"groq": {
			Settings: model.Settings{API: model.APIChat}, KeyEnv: "GROQ_API_KEY", BaseURL: "https://api.groq.com/openai/v1",
		},
	} {
		if p, ok := provider.Known(name); !ok || p.API != want.API || p.KeyEnv != want.KeyEnv ||
			p.BaseURL != want.BaseURL || p.Cloud != want.Cloud {
			t.Errorf("%s is %+v", name, p)
		}
	}
	for _, name := range []string{"", "nope", "bedrock-europe", "copilot"} {
		if p, ok := provider.Known(name); ok {
			t.Errorf("%q is known: %+v", name, p)
		}
	}
}
