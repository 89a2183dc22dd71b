package loop_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/session"
)

// scripted is a bench of an agent whose model gives these answers.
func scripted(t *testing.T, def agent.Definition, replies ...modeltest.Reply) (*bench, *modeltest.Scripted) {
	t.Helper()
	b := newBench(t, def)
	b.die()
	m := modeltest.New(replies...)
	b.model = m
	b.start(def)
	return b, m
}

// sums counts the summaries of a conversation.
func (b *bench) sums(sessionID string) (n int) {
	b.Helper()
	all, err := b.store.Entries(b.Context(), sessionID, 0, 1000)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range all {
		if e.Kind == session.Summary {
			n++
		}
	}
	return n
}

// A deadline that passes while a summary is written ends the submission at once. The conversation is as it was, and the
// next submission has the summary written.
func TestDeadlineWhileASummaryIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		def.Compaction, def.Limits.Timeout = &small, time.Minute
		b, m := scripted(t, def, askLong("c1", 1_000), askLong("c2", 12_000), modeltest.Reply{modeltest.Hang()})
		began := time.Now()
		sub := b.wait(b.submit("s", "print much").ID)
		took := time.Since(began)
		if sub.Outcome != lane.Expired || took < time.Minute || took > time.Minute+3*time.Second {
			t.Errorf("settled %s after %v", sub.Outcome, took)
		}
		if done := b.compactions(sub.SessionID); len(done) != 1 || done[0].Error == "" || done[0].EntrySeq != 0 {
			t.Errorf("watchers are told %+v", done)
		}
		if n := b.sums(sub.SessionID); n != 0 {
			t.Errorf("there are %d summaries", n)
		}
		m.Add(modeltest.Say("## State\nprinted"), modeltest.Say("and on"))
		b.expect(b.wait(b.submit("s", "go on").ID), lane.Completed, "and on")
		if n := b.sums(sub.SessionID); n != 1 {
			t.Errorf("there are %d summaries after the next submission", n)
		}
	})
}

// A sub-agent's conversation is summarised as any other: the summary is its own, and told and billed as its own. What
// waits meanwhile for an approval beside it is decided, or expires, at its time.
func TestSubAgentSummarisesBesideAnApproval(t *testing.T) {
	for name, decides := range map[string]bool{"that expires": false, "that is decided": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				def := ruled(askAbout(within(time.Minute)))
				def.Compaction = &small
				summary := modeltest.Say("## State\nprinted one")
				summary[0].Wait = 5 * time.Minute
				b, m := scripted(t, def, modeltest.Ask(
					model.Block{CallID: "t", Tool: "task", Args: []byte(`{"prompt":"print much"}`)},
					model.Block{CallID: "r", Tool: "bash", Args: []byte(`{"command":"rm x"}`)},
				), askLong("c1", 1_000), askLong("c2", 12_000), summary, modeltest.Say("child"), modeltest.Say("all"))
				sub := b.submit("s", "go")
				a := b.asked()
				time.Sleep(30 * time.Second) // the summary is being written
				if decides {
					b.decide(a)
				}
				time.Sleep(45 * time.Second)
				synctest.Wait()
				state, ran := approval.Expired, 0
				if decides {
					state, ran = approval.Approved, 1
				}
				got, err := b.store.GetApproval(t.Context(), a.Tenant, a.ID)
				took := got.DecidedAt.Sub(got.AskedAt)
				if err != nil || got.State != state || !got.Told || took > time.Minute+sweeps {
					t.Errorf("while the summary is written: %s, told %v, after %v, %v", got.State, got.Told, took, err)
				}
				if n := strings.Count(strings.Join(b.executor.ran, ","), "rm x"); n != ran {
					t.Errorf("it ran %d times", n)
				}
				done := b.wait(sub.ID)
				b.expect(done, lane.Completed, "all")
				b.expectTold(sub.SessionID, map[string]int{"requested": 1, state.String(): 1})
				b.checkTree(sub.SessionID, 1)
				b.summarisedBelow(sub.SessionID)
				if done.Usage.Input != 13_040 || len(m.Requests()) != 6 {
					t.Errorf("billed %+v for %d calls", done.Usage, len(m.Requests()))
				}
				if sent := sentIn(m.Requests()[5]); strings.Contains(sent, "printed one") {
					t.Errorf("the agent above is told the summary: %.300s", sent)
				}
			})
		})
	}
}

// sweeps is how late an approval may expire that nothing else wakes its loop for.
const sweeps = 6 * time.Second

// summarisedBelow checks that the conversation of a sub-agent has one summary, told as the sub-agent's, and the one
// above has none.
func (b *bench) summarisedBelow(laneID string) {
	b.Helper()
	below := ""
	for _, e := range b.stream(laneID) {
		if e.Type == event.CompactionFinished && e.Compaction.EntrySeq > 0 && e.Loop != nil {
			below = e.Loop.Session
		}
	}
	if below == "" {
		b.Fatal("no sub-agent has told of a summary")
	}
	if own, above := b.sums(below), b.sums(laneID); own != 1 || above != 0 {
		b.Errorf("%d summaries below, %d above", own, above)
	}
}
