package loop_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/provider"
)

// speaking is a bench whose model is a provider that speaks w and answers with these, one request after the other.
func speaking(t *testing.T, w modeltest.Wire, answers ...http.Handler) (*bench, *modeltest.Server, agent.Definition) {
	t.Helper()
	s := modeltest.NewServer(t, answers...)
	id := map[model.API]string{
		model.APIAnthropic: "claude-sonnet-4-5", model.APIGemini: "gemini-3-flash-preview",
		model.APIConverse: "us.anthropic.claude-sonnet-4-6",
	}[w.API]
	if id == "" {
		id = "gpt-5"
	}
	e := model.Endpoint{Name: "test", BaseURL: s.URL(), Settings: model.Settings{API: w.API}}
	if w.API == model.APIConverse {
		e.Key, e.Cloud = "key", model.Cloud{Kind: model.Bedrock, Region: "us-east-1"}
	}
	m, err := provider.APIs(s.Client())[w.API](e, id)
	if err != nil {
		t.Fatal(err)
	}
	def := agent.Shell()
	def.Model = m.Ref()
	b := newBench(t, def)
	b.die()
	b.model = m
	b.start(def)
	return b, s, def
}

// asks is a turn that asks for commands, with thoughts; ids of calls are the same in every turn, as some servers have
// it.
func asks(commands ...string) modeltest.Turn {
	turn := modeltest.Turn{Thinking: []string{"well"}, Signature: "c2ln", Text: []string{"let me see"}}
	for i, c := range commands {
		turn.Calls = append(turn.Calls, modeltest.WireCall{
			ID: fmt.Sprint("bash:", i), Tool: "bash", Args: []string{`{"command":"echo `, c, `"}`},
		})
	}
	return turn
}

// mark is one of Anthropic's cache, at the end of a piece, and point is one of Bedrock's, a piece of its own. Marks are
// no part of what is kept and compared.
const (
	mark  = `,"cache_control":{"type":"ephemeral"}`
	point = `,{"cachePoint":{"type":"default"}}`
)

// unclosed is a request's body without what closes it.
func unclosed(body []byte) []byte {
	body = bytes.TrimSuffix(body, []byte("]}"))
	return bytes.TrimSuffix(bytes.TrimSuffix(body, []byte(mark+"}]}")), []byte(point+"]}"))
}

// unmarked is a body without the marks in its conversation.
func unmarked(body []byte) []byte {
	head, conversation, _ := bytes.Cut(body, []byte(`"messages":[`))
	for _, m := range []string{mark, point} {
		conversation = bytes.ReplaceAll(conversation, []byte(m), nil)
	}
	return append(bytes.Clone(head), conversation...)
}

// A provider's prompt cache hits only what is the same, byte for byte, from the beginning on: over the turns of a
// prompt, over prompts, after one that failed, and after the session has moved to a replica that reads it anew.
func TestEveryRequestBeginsWithTheOneBefore(t *testing.T) {
	for _, w := range modeltest.Wires() {
		t.Run(string(w.API), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				say := func(text string) modeltest.Play { return w.Stream(modeltest.Turn{Text: []string{text}}) }
				cut := asks("cut")
				if w.API != model.APIGemini { // whose calls come whole
					cut.Stop, cut.Calls[0].Args = model.StopLength, []string{`{"command":"echo`}
				}
				many := make([]string, 15)
				for i := range many {
					many[i] = fmt.Sprint(i)
				}
				b, s, def := speaking(t, w,
					w.Stream(asks("one", "two")), w.Stream(asks("three")), say("first"),
					modeltest.Answer(400, w.Error("invalid_request_error", "no")),
					say("third"),
					w.Stream(cut), w.Stream(asks(many...)), say("fourth"),
					say("fifth"), say("sixth"),
				)
				b.expect(b.wait(b.submit("s", "first").ID), lane.Completed, "first")
				b.expect(b.wait(b.submit("s", "second").ID), lane.Failed, "")
				b.expect(b.wait(b.submit("s", "third").ID), lane.Completed, "third")
				b.expect(b.wait(b.submit("s", "fourth").ID), lane.Completed, "fourth")
				b.expect(b.wait(b.submit("s", "fifth").ID), lane.Completed, "fifth")
				b.die()
				b.start(def)
				b.expect(b.wait(b.submit("s", "sixth").ID), lane.Completed, "sixth")

				asked := s.Requests()
				if len(asked) != 10 {
					t.Fatalf("%d requests", len(asked))
				}
				growing(t, asked)
				last := string(asked[9].Body)
				if w.API != model.APIGemini && !strings.Contains(last, "cut at byte") || strings.Contains(last,
					`echo}`) {
					t.Errorf("the model was not told of the cut: %s", last)
				}
			})
		})
	}
}

// growing checks that each request begins with the one before.
func growing(t *testing.T, asked []modeltest.Recorded) {
	t.Helper()
	for i := 1; i < len(asked); i++ {
		before, after := unclosed(asked[i-1].Body), asked[i].Body
		marks := bytes.Count(asked[i-1].Body, []byte(mark)) + bytes.Count(asked[i-1].Body, []byte(point))
		if twice := 4; marks == twice { // see TestALongTurnIsMarkedTwice
			before, after = unmarked(before), unmarked(after)
		}
		if !bytes.HasPrefix(after, before) {
			t.Errorf("request %d does not begin with the one before:\n%s\n%s", i+1, before, after)
		}
	}
}

// Anthropic finds what it kept by looking back from a mark over 20 pieces: a turn that has more is marked where the
// request before it ended as well.
func TestALongTurnIsMarkedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Anthropic
		many := make([]string, 15)
		for i := range many {
			many[i] = fmt.Sprint(i)
		}
		b, s, _ := speaking(
			t, w, w.Stream(asks("one")), w.Stream(asks(many...)), w.Stream(modeltest.Turn{Text: []string{"done"}}),
		)
		b.expect(b.wait(b.submit("s", "go").ID), lane.Completed, "done")
		for i, want := range []int{3, 3, 4} { // tools, instructions, the end; and where the request before ended
			if got := strings.Count(string(s.Requests()[i].Body), "cache_control"); got != want {
				t.Errorf("request %d has %d marks, want %d", i+1, got, want)
			}
		}
	})
}
