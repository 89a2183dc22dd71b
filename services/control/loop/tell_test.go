package loop_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/workspace"
	"github.com/pawl-dev/pawl/services/control/workspace/workspacetest"
)

// In a workspace, too, each request begins with the one before, as sent: within a prompt, between prompts, after the
// files have changed, after a restart, after a take-over while the model answered, and while the executor is away.
func TestWhatIsToldOfAWorkspaceOnlyGrows(t *testing.T) {
	for _, w := range modeltest.Wires() {
		t.Run(string(w.API), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				files := workspacetest.New(map[string]string{
					"AGENTS.md": "Use tabs.", "main.go": "x",
					".agents/skills/triage/SKILL.md": "---\ndescription: sorts issues\n---\nx",
				})
				say := func(text string) modeltest.Play {
					return w.Stream(modeltest.Turn{
						Text: []string{text}, Usage: model.Usage{Input: 10, Output: 2, CacheRead: 90},
					})
				}
				fifth := say("five-5")
				b, s, def := speaking(t, w,
					w.Stream(asks("one")), say("one-1"), say("two-2"), say("three-3"), say("four-4"),
					fifth.Until(1, modeltest.Stop), fifth, say("six-6"), say("seven-7"))
				restart := func() { b.die(); b.start(def) }
				b.workspaces = files
				restart()
				prompt := func(text string) {
					t.Helper()
					b.expect(b.wait(b.submit("s", text).ID), lane.Completed, text)
				}
				prompt("one-1")
				files.Write("new.go", "x")
				sub := b.wait(b.submit("s", "two-2").ID)
				if b.expect(sub, lane.Completed, "two-2"); sub.Usage.CacheRead != 90 {
					t.Errorf("usage %+v", sub.Usage)
				}
				restart()
				prompt("three-3")
				files.Write("AGENTS.md", "Use spaces.")
				prompt("four-4")
				sub = b.submit("s", "five-5")
				synctest.Wait()
				files.Write("AGENTS.md", "Use nothing.") // the new owner goes on with what the old one has told
				restart()
				b.expect(b.wait(sub.ID), lane.Completed, "five-5")
				files.Break("", errs.New(errs.Unavailable, "EXECUTOR_AWAY", "away"))
				prompt("six-6")
				restart()
				prompt("seven-7")

				asked := s.Requests()
				if len(asked) != 9 {
					t.Fatalf("%d requests", len(asked))
				}
				growing(t, asked)
				if a, b := string(asked[5].Body), string(asked[6].Body); a != b {
					t.Error("the new owner asks for something else")
				}
				last := string(asked[8].Body)
				for text, n := range map[string]int{
					"Use tabs.": 1, "Use spaces.": 1, "Use nothing.": 0, "triage: sorts issues": 1,
					"Working directory: /work": 1, "new.go": 0, "main.go": 1,
				} {
					if got := strings.Count(last, text); got != n {
						t.Errorf("%q is told %d times, want %d", text, got, n)
					}
				}
				if at := strings.Index(last, "Use tabs."); at > strings.Index(last, "one-1") {
					t.Error("the workspace is told behind the input")
				}
			})
		})
	}
}

// kinds are those of a session's entries.
func (b *bench) kinds(name string) (kinds []session.Kind) {
	b.Helper()
	for _, e := range b.entries(name) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// Nothing is looked at for an agent that does not work there, nor for a model that reads no prompt. A prompt waits
// neither for an executor nor for one that does not answer.
func TestAWorkspaceIsLookedAtWhereItMatters(t *testing.T) {
	none, quiet := agent.Shell(), agent.Shell()
	none.Sandbox.Kind, none.Tools = agent.SandboxNone, nil
	quiet.Tools = []string{"task"}
	for name, c := range map[string]struct {
		def   agent.Definition
		model bool // one that has a provider
		away  bool
		looks bool
	}{
		"an agent with a workspace": {agent.Shell(), true, false, true},
		"without a sandbox":         {none, true, false, false},
		"without tools there":       {quiet, true, false, false},
		"without an executor":       {agent.Shell(), true, true, false},
		"offline":                   {agent.Shell(), false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				files := workspacetest.New(map[string]string{"AGENTS.md": "x"})
				w := modeltest.Chat
				b, _, _ := speaking(t, w, w.Stream(modeltest.Turn{Text: []string{"hi"}}))
				b.die()
				b.workspaces = files
				if !c.model {
					b.model = nil
				}
				b.executor.away = c.away
				b.start(c.def)
				began := time.Now()
				b.expect(b.wait(b.submit("s", "say: hi").ID), lane.Completed, "hi")
				if d := time.Since(began); d > time.Second {
					t.Errorf("it took %s", d)
				}
				want := []session.Kind{session.Input, session.Assistant}
				if c.looks {
					want = []session.Kind{session.Input, session.Workspace, session.Assistant}
				}
				if got := b.kinds("s"); !slices.Equal(got, want) {
					t.Errorf("entries %v, want %v", got, want)
				}
				if n, _ := files.Asked(); (n > 0) != c.looks {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

// A sub-agent with a directory of its own is told of that, and what it is told is in its own conversation.
func TestASubagentIsToldOfItsDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modeltest.Anthropic
		files := workspacetest.New(map[string]string{"AGENTS.md": "x"})
		ask := modeltest.Turn{Calls: []modeltest.WireCall{{
			ID: "1", Tool: "task", Args: []string{`{"prompt":"go","cwd":"sub"}`},
		}}}
		b, s, def := speaking(t, w, w.Stream(ask), w.Stream(modeltest.Turn{Text: []string{"child"}}),
			w.Stream(modeltest.Turn{Text: []string{"done"}}))
		b.die()
		b.workspaces = files
		b.start(def)
		b.expect(b.wait(b.submit("s", "go").ID), lane.Completed, "done")
		if _, places := files.Asked(); !slices.Contains(places, workspace.Place{Executor: "x1", Cwd: "sub"}) {
			t.Errorf("looked at %v", places)
		}
		if child := string(s.Requests()[1].Body); !strings.Contains(child, "Working directory: /work/sub") {
			t.Errorf("the sub-agent was told: %s", child)
		}
	})
}
