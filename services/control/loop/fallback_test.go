package loop_test

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/model/provider"
	"github.com/pawl-dev/pawl/services/control/session"
)

var (
	first  = model.Ref{Provider: "first", ID: "m"}
	second = model.Ref{Provider: "second", ID: "m"}
	third  = model.Ref{Provider: "third", ID: "m"}
)

// falling is a bench whose agent may ask these models, in their order.
func falling(t *testing.T, m map[model.Ref]model.Model, refs ...model.Ref) *bench {
	t.Helper()
	def := agent.Shell()
	def.Model, def.Fallbacks = refs[0], refs[1:]
	b := newBench(t, def)
	b.die()
	b.models = m
	b.start(def)
	return b
}

func fails(k model.Kind) modeltest.Reply {
	return modeltest.Fail(&model.Error{Kind: k, Text: "they say " + string(k)})
}

// switches are those that a session's events tell of.
func (b *bench) switches(sessionID string) (all []string) {
	b.Helper()
	for _, e := range b.logged(sessionID) {
		if e.Type == event.ModelSwitched {
			all = append(all, fmt.Sprintf("%s to %s: %s: %s", e.Switch.From, e.Switch.To, e.Switch.Reason,
				e.Switch.Message))
		}
	}
	return all
}

// answeredBy is the model that an answer of the session says it is of.
func (b *bench) answeredBy(sessionID string) string {
	b.Helper()
	entries, err := b.store.Entries(b.Context(), sessionID, 0, 100)
	if err != nil {
		b.Fatal(err)
	}
	last := entries[len(entries)-1]
	if last.Kind != session.Assistant || last.Message.Model == nil {
		return ""
	}
	return last.Message.Model.String()
}

// Which failures another model is asked for, and that the switch is told in an event, the answer and the submission.
func TestAnotherModelGoesOn(t *testing.T) {
	for _, tt := range []struct {
		kind     model.Kind
		switches bool
	}{
		{model.KindOverloaded, true},
		{model.KindRateLimited, true},
		{model.KindServer, true},
		{
			model.KindNetwork,
			true,
		},
		{model.KindStalled, true},
		{model.KindCut, true},
		{model.KindQuota, true},
		{model.KindContextOverflow, true},
		{model.KindAuth, false},
		{model.KindInvalidRequest, false},
		{model.KindRefused, false},
		{model.KindNotFound, false},
		{model.KindProtocol, false},
		{model.KindDeadline, false},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one := modeltest.New(append(cutAfterUse()[:2], fails(tt.kind)[0]))
				if tt.kind == model.KindContextOverflow { // a shorter context comes first
					one.Add(fails(tt.kind))
				}
				one.Add(modeltest.Say("from the first"))
				other := modeltest.New(modeltest.Say("done"))
				b := falling(t, map[model.Ref]model.Model{first: one, second: other}, first, second)
				var turns []string
				b.counted.before = func(c lane.Commit) {
					for _, s := range c.Steps {
						if s.Turn != nil {
							turns = append(turns, s.Turn.Model+": "+s.Turn.Error)
						}
					}
				}
				sub := b.wait(b.submit("s", "go").ID)
				if !tt.switches {
					if sub.Outcome != lane.Failed || sub.Model != first.String() || b.switches(sub.SessionID) != nil {
						t.Errorf("%s by %s", sub.Outcome, sub.Model)
					}
					return
				}
				b.expect(sub, lane.Completed, "done")
				told := b.switches(sub.SessionID)
				if len(told) != 1 || !strings.HasPrefix(told[0], "first/m to second/m: MODEL_") ||
					!strings.HasSuffix(told[0], ": they say "+string(tt.kind)) {
					t.Errorf("told %q", told)
				}
				if sub.Model != second.String() || b.answeredBy(sub.SessionID) != second.String() {
					t.Errorf("%s, answered by %s", sub.Model, b.answeredBy(sub.SessionID))
				}
				if want := used.Part.Usage.Add(model.Usage{Input: 10, Output: 5}); sub.Usage != want {
					t.Errorf("it cost %+v, want %+v", sub.Usage, want)
				}
				if n := len(turns); n < 2 || turns[n-1] != "second/m: " ||
					turns[n-2] != "first/m: they say "+string(tt.kind) {
					t.Errorf("turns of %q", turns)
				}
				// The next submission begins with the first model.
				next := b.wait(b.submit("s", "again").ID)
				b.expect(next, lane.Completed, "from the first")
				if next.Model != first.String() {
					t.Errorf("the next one ended with %s", next.Model)
				}
			})
		})
	}
}

// A model that cannot be had is passed over, as is one whose window is too small as well.
func TestModelsThatDoNotHelpArePassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := falling(t, map[model.Ref]model.Model{
			first: modeltest.New(fails(model.KindContextOverflow), fails(model.KindContextOverflow),
				fails(model.KindServer)).WithWindow(100_000),
			second: modeltest.New(fails(model.KindServer)).WithWindow(100_000),
			third:  modeltest.New(modeltest.Say("done"), modeltest.Say("done")).WithWindow(200_000),
		}, first, second, third)
		sub := b.wait(b.submit("s", "go").ID)
		b.expect(sub, lane.Completed, "done")
		if told := b.switches(sub.SessionID); len(told) != 1 || !strings.HasPrefix(told[0], "first/m to third/m") {
			t.Errorf("told %q", told)
		}
		sub = b.wait(b.submit("s2", "go").ID)
		b.expect(sub, lane.Completed, "done")
		if told := b.switches(sub.SessionID); len(told) != 2 || !strings.HasPrefix(told[1], "second/m to third/m") {
			t.Errorf("told %q", told)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := falling(t, map[model.Ref]model.Model{
			first: modeltest.New(fails(model.KindServer)), second: nil,
		}, first, second)
		sub := b.wait(b.submit("s", "go").ID)
		if sub.Outcome != lane.Failed || sub.Message != "they say server" {
			t.Errorf("%s: %s", sub.Outcome, sub.Message)
		}
	})
}

// scenes plays what a function says of a request, and counts the calls.
type scenes struct {
	*modeltest.Scripted
	of    func(model.Request) modeltest.Reply
	calls atomic.Int32
}

func (m *scenes) Stream(ctx context.Context, req model.Request) iter.Seq2[model.Part, error] {
	m.calls.Add(1)
	return modeltest.New(m.of(req)).Stream(ctx, req)
}

// Whenever its owner dies, a submission goes on with the model that its rows say, and switches once.
func TestASwitchSurvivesADeathAtEveryCommit(t *testing.T) {
	play := func(t *testing.T) (b *bench, broken *scenes) {
		broken = &scenes{Scripted: modeltest.New(), of: func(model.Request) modeltest.Reply {
			return fails(model.KindOverloaded)
		}}
		works := &scenes{Scripted: modeltest.New(), of: func(req model.Request) modeltest.Reply {
			if req.Messages[len(req.Messages)-1].Role == model.ToolRole {
				return modeltest.Say("done")
			}
			return modeltest.Ask(model.Block{CallID: "c", Tool: "bash", Args: []byte(`{"command":"echo one"}`)})
		}}
		return falling(t, map[model.Ref]model.Model{first: broken, second: works}, first, second), broken
	}
	commits, switched := 0, 0 // the number of the commit that switches
	synctest.Test(t, func(t *testing.T) {
		b, _ := play(t)
		b.counted.before = func(c lane.Commit) {
			if commits++; c.Steps[0].Model != "" {
				switched = commits
			}
		}
		b.expect(b.wait(b.submit("s", "go").ID), lane.Completed, "done")
	})
	if switched == 0 {
		t.Fatal("no commit switches")
	}
	for n := 1; n <= commits; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprint(n, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b, broken := play(t)
					b.counted.setDying(&dying{n: n, after: after, die: b.kill})
					sub := b.submit("s", "go")
					if !b.died(sub.ID) {
						return
					}
					def := agent.Shell()
					def.Model, def.Fallbacks = first, []model.Ref{second}
					b.start(def)
					sub = b.wait(sub.ID)
					b.expect(sub, lane.Completed, "done")
					asked := int32(1)
					if n == switched && !after {
						asked = 2
					}
					if got := broken.calls.Load(); got != asked || sub.Model != second.String() ||
						len(b.switches(sub.SessionID)) != 1 || len(b.executor.ran) != 1 {
						t.Errorf("the first model was asked %d times, want %d; it ended with %s; told %q; ran %q",
							got, asked,
							sub.Model, b.switches(sub.SessionID), b.executor.ran)
					}
				})
			})
		}
	}
}

// What a provider signed goes back to it alone, over a switch and back.
func TestSignaturesStayWithTheirProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		speak := func(w modeltest.Wire, name, id string, answers ...http.Handler) (*modeltest.Server, model.Model) {
			s := modeltest.NewServer(t, answers...)
			m, err := provider.APIs(s.Client())[w.API](model.Endpoint{
				Name: name, BaseURL: s.URL(), Settings: model.Settings{API: w.API},
			}, id)
			if err != nil {
				t.Fatal(err)
			}
			return s, m
		}
		thinks := func(command, signature string) modeltest.Turn {
			turn := asks(command)
			turn.Thinking, turn.Signature = []string{"thought of " + command}, signature
			return turn
		}
		claudes, claude := speak(modeltest.Anthropic, "first", "claude-sonnet-4-5",
			modeltest.Anthropic.Stream(thinks("one", "claudes-own")),
			modeltest.Answer(529, modeltest.Anthropic.Error("overloaded_error", "Overloaded")),
			modeltest.Anthropic.Stream(modeltest.Turn{Text: []string{"back"}}))
		geminis, gemini := speak(modeltest.Gemini, "second", "gemini-3-pro-preview",
			modeltest.Gemini.Stream(thinks("two", "Z2VtaW5p")),
			modeltest.Gemini.Stream(modeltest.Turn{Text: []string{"done"}}))
		b := falling(t, map[model.Ref]model.Model{claude.Ref(): claude, gemini.Ref(): gemini}, claude.Ref(),
			gemini.Ref())
		b.expect(b.wait(b.submit("s", "go").ID), lane.Completed, "done")
		b.expect(b.wait(b.submit("s", "again").ID), lane.Completed, "back")

		switched, last := string(geminis.Requests()[1].Body), string(claudes.Requests()[2].Body)
		for _, want := range []string{
			"thought of one", "skip_thought_signature_validator", `"Z2VtaW5p"`,
			"thought of two",
		} {
			if !strings.Contains(switched, want) {
				t.Errorf("Gemini is not sent %s: %s", want, switched)
			}
		}
		for _, want := range []string{`"signature":"claudes-own"`, "thought of two"} {
			if !strings.Contains(last, want) {
				t.Errorf("Anthropic is not sent %s: %s", want, last)
			}
		}
		if strings.Contains(switched, "claudes-own") || strings.Contains(last, "Z2VtaW5p") {
			t.Errorf("a signature went to another provider:\n%s\n%s", switched, last)
		}
	})
}

// The next model writes the summary that the first one cannot write, and goes on.
func TestAnotherModelWritesTheSummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := modeltest.New(modeltest.Say(strings.Repeat("word ", 9_000)), modeltest.Say("fine"))
		other := modeltest.New(modeltest.Say("## State\nall is said"))
		b := falling(t, map[model.Ref]model.Model{first: one, second: other}, first, second)
		b.expect(b.wait(b.submit("s", "go").ID), lane.Completed, strings.Repeat("word ", 9_000))
		b.expect(b.wait(b.submit("s", "on").ID), lane.Completed, "fine")
		one.Add(fails(model.KindOverloaded))
		sub := b.wait(b.compactByHand("s", "key").ID)
		if sub.Outcome != lane.Completed || !strings.Contains(sub.Text, "all is said") || sub.Model != second.String() {
			t.Errorf("it settled %s %s by %s: %q", sub.Outcome, sub.Message, sub.Model, sub.Text)
		}
		if got := b.switches(sub.SessionID); len(got) != 1 {
			t.Errorf("the stream tells of %q", got)
		}
	})
}
