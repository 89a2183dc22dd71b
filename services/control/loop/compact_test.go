package loop_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// compacting is a bench whose model has a small window and gives these answers.
func compacting(t *testing.T, c agent.Compaction, replies ...modeltest.Reply) (*bench, *modeltest.Scripted) {
	t.Helper()
	def := agent.Shell()
	def.Compaction = &c
	b := newBench(t, def)
	b.die()
	m := modeltest.New(replies...)
	b.model = m
	b.start(def)
	return b, m
}

// askLong is an answer that asks for a call with a result of about 5,000 tokens, to a request of so many.
func askLong(id string, tokens int64) modeltest.Reply {
	r := modeltest.Ask(model.Block{
		CallID: id, Tool: "bash", Args: fmt.Appendf(nil, `{"command": "echo %s"}`, id+strings.Repeat("x", 20_000)),
	})
	r[len(r)-1].Part.Usage.Input = tokens
	return r
}

// asked tells of each request whether it is for a summary.
func asked(m *modeltest.Scripted) (sums []bool) {
	for _, r := range m.Requests() {
		sums = append(sums, r.Sums)
	}
	return sums
}

// sentIn is the text of all messages of a request.
func sentIn(r model.Request) string {
	var b strings.Builder
	for _, m := range r.Messages {
		for _, k := range m.Content {
			b.WriteString(k.Text + string(k.Args) + "\n")
		}
	}
	return b.String()
}

// compactions are those that the session's stream tells of, finished ones.
func (b *bench) compactions(sessionID string) (all []event.Compaction) {
	for _, e := range b.logged(sessionID) {
		if e.Type == event.CompactionFinished {
			all = append(all, *e.Compaction)
		}
	}
	return all
}

var small = agent.Compaction{Window: 20_000, Reserve: 4_000, Keep: 500}

func TestAConversationIsSummarisedBetweenTwoTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := compacting(t, small, askLong("c1", 1_000), askLong("c2", 12_000),
			modeltest.Say("## Goal\nprint\n## State\nprinted one"), modeltest.Say("done"))
		sub := b.wait(b.submit("s", "print much").ID)
		b.expect(sub, lane.Completed, "done")
		if got := asked(m); !slices.Equal(got, []bool{false, false, true, false}) {
			t.Fatalf("requests for summaries: %v", got)
		}
		sent := sentIn(m.Requests()[3])
		for text, want := range map[string]bool{
			"print much": true, "printed one": true, "c2xxx": true, "c1xxx": false, "conversation_summary": true,
		} {
			if strings.Contains(sent, text) != want {
				t.Errorf("%q is told: %v", text, !want)
			}
		}
		if sub.Usage.Input != 13_020 || sub.Usage.Output != 20 {
			t.Errorf("billed %+v for four calls", sub.Usage)
		}
		done := b.compactions(sub.SessionID)
		if len(done) != 1 || done[0].Why != "threshold" || done[0].From != 1 || done[0].Error != "" ||
			done[0].TokensNow >= done[0].Tokens || done[0].Usage.Output != 5 {
			t.Errorf("watchers are told %+v", done)
		}
		var texts int
		for _, e := range b.logged(sub.SessionID) {
			if e.Type == event.Text && strings.Contains(e.Text, "Goal") {
				texts++
			}
		}
		if texts > 0 {
			t.Error("the summary is streamed as an answer")
		}
	})
}

func TestASummariserThatFailsLeavesTheConversationAndIsNotAskedAtEveryTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := modeltest.Fail(&model.Error{Kind: model.KindServer, Text: "the summariser is broken"})
		replies := []modeltest.Reply{askLong("c1", 1_000), askLong("c2", 12_000), broken}
		for i := range 9 { // it is asked again after 2 and after 4 more turns
			replies = append(replies, askLong(fmt.Sprint("d", i), 12_000))
			if i == 1 || i == 5 {
				replies = append(replies, broken)
			}
		}
		b, m := compacting(t, small, append(replies, modeltest.Say("done"))...)
		sub := b.wait(b.submit("s", "print much").ID)
		b.expect(sub, lane.Completed, "done")
		done := b.compactions(sub.SessionID)
		if len(done) != 3 || !strings.Contains(done[0].Error, "the summariser is broken") || done[0].EntrySeq != 0 {
			t.Errorf("watchers are told %+v", done)
		}
		last := m.Requests()[len(m.Requests())-1]
		if sent := sentIn(last); len(sent) > 80_000 || !strings.Contains(sent, "left out") {
			t.Errorf("%d bytes are sent where 64,000 fit", len(sent))
		}
	})
}

var overflow = modeltest.Fail(&model.Error{Kind: model.KindContextOverflow, Text: "prompt is too long"})

func TestWhenTheProviderSaysThatItIsTooLongAShorterContextIsSentOnce(t *testing.T) {
	long1, long2, short := askLong("c1", 1_000), askLong("c2", 12_000), modeltest.Say("## State\nshort")
	for name, tt := range map[string]struct {
		replies []modeltest.Reply
		outcome lane.Outcome
		text    string
		sums    []bool
	}{
		"which fits": {
			[]modeltest.Reply{long1, long2, overflow, short, modeltest.Say("done")},
			lane.Completed, "done",
			[]bool{false, false, false, true, false},
		},
		"which does not fit": {
			[]modeltest.Reply{long1, long2, overflow, short, overflow},
			lane.Failed, "",
			[]bool{false, false, false, true, false},
		},
		"without anything to sum up": {
			[]modeltest.Reply{long1, overflow, modeltest.Say("done")},
			lane.Completed, "done",
			[]bool{false, false, false},
		},
		"the summariser fails": {
			[]modeltest.Reply{
				long1, long2, overflow, modeltest.Fail(&model.Error{Kind: model.KindServer, Text: "broken"}),
				overflow,
			},
			lane.Failed, "",
			[]bool{false, false, false, true, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, m := compacting(t, agent.Compaction{Keep: 500}, tt.replies...)
				sub := b.wait(b.submit("s", "print much").ID)
				b.expect(sub, tt.outcome, tt.text)
				if got := asked(m); !slices.Equal(got, tt.sums) {
					t.Errorf("requests for summaries: %v, want %v", got, tt.sums)
				}
				if tt.outcome == lane.Failed && (sub.Reason != "MODEL_CONTEXT_OVERFLOW" ||
					!strings.Contains(sub.Message, "a shorter context was sent")) {
					t.Errorf("it failed with %s: %s", sub.Reason, sub.Message)
				}
			})
		})
	}
}

func TestWithoutCompactionAndWithoutAWindowNothingIsSummarised(t *testing.T) {
	for name, c := range map[string]agent.Compaction{"off": {Off: true, Window: 20_000}, "no window": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, m := compacting(t, c, askLong("c1", 1_000), askLong("c2", 12_000), modeltest.Say("done"))
				b.expect(b.wait(b.submit("s", "print much").ID), lane.Completed, "done")
				if got := asked(m); slices.Contains(got, true) {
					t.Errorf("requests for summaries: %v", got)
				}
			})
		})
	}
}

// compactByHand asks for a summary.
func (b *bench) compactByHand(name, key string) submission.Submission {
	b.Helper()
	got, err := b.service.Submit(b.Context(), submission.Input{
		Key: session.Key{Agent: "shell", Instance: "i", Name: name}, IdempotencyKey: key,
		Options: lane.Options{Compact: true},
	})
	if err != nil {
		b.Fatal(err)
	}
	return got.Submission
}

func TestASummaryIsAskedForByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := compacting(t, agent.Compaction{Keep: 500}, askLong("c1", 1_000), modeltest.Say("done"),
			modeltest.Say("again"), modeltest.Say("## State\nboth said"), modeltest.Say("and on"),
			modeltest.Fail(&model.Error{Kind: model.KindServer, Text: "broken"}))
		b.wait(b.submit("s", "one").ID)
		b.wait(b.submit("s", "two").ID)
		sub := b.wait(b.compactByHand("s", "key").ID)
		if sub.Outcome != lane.Completed || !strings.Contains(sub.Text, "both said") || sub.InputEntry != 0 {
			t.Errorf("it settled as %+v", sub)
		}
		if again := b.compactByHand("s", "key"); again.ID != sub.ID {
			t.Error("the same key makes another summary")
		}
		sub = b.wait(b.compactByHand("s", "").ID)
		if sub.Outcome != lane.Completed || sub.Reason != "NOTHING_TO_COMPACT" {
			t.Errorf("with nothing to cut it settled as %+v", sub)
		}
		b.expect(b.wait(b.submit("s", "three"+strings.Repeat("y", 3_000)).ID), lane.Completed, "and on")
		if sent := sentIn(m.Requests()[4]); !strings.Contains(sent, "both said") || strings.Contains(sent, "c1xxx") {
			t.Errorf("the model is told %.500s", sent)
		}
		sub = b.wait(b.compactByHand("s", "").ID)
		if sub.Outcome != lane.Failed || sub.Reason != "COMPACTION_FAILED" {
			t.Errorf("with a broken summariser it settled as %+v", sub)
		}
	})
}

func TestASummariserIsStoppedByAnAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m := compacting(t, small, askLong("c1", 1_000), askLong("c2", 12_000), modeltest.Reply{modeltest.Hang()})
		sub := b.submit("s", "print much")
		synctest.Wait()
		if got := asked(m); len(got) != 3 || !got[2] {
			t.Fatalf("requests for summaries: %v", got)
		}
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		b.expect(b.wait(sub.ID), lane.Aborted, "")
		done := b.compactions(sub.SessionID)
		if len(done) != 1 || done[0].Error == "" {
			t.Errorf("watchers are told %+v", done)
		}
	})
}
