package loop_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/skill"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/workspace/workspacetest"
)

// skilled is an agent with a skill that has files, and one that narrows.
func skilled() agent.Definition {
	def := agent.Shell()
	def.Skills = []string{"careful", "quiet", "triage"}
	def.SkillFolders = map[string]skill.Skill{
		"triage": {
			Name: "triage", Description: "d", Body: "Sort it.", Digest: strings.Repeat("ab", 32),
			Files: []bundle.File{{Path: "run.sh", Executable: true, Data: []byte("echo")}},
		},
		"careful": {Name: "careful", Description: "d", Body: "Look only.", Digest: "c", Allowed: skill.Grants(
			"read, bash(echo ok:*)")},
		"quiet": {Name: "quiet", Description: "d", Body: "Hush.", Digest: "q", Hidden: true},
	}
	return def
}

func withSkills(t *testing.T, files map[string]string) (*bench, *workspacetest.Memory) {
	t.Helper()
	b := newBench(t, skilled())
	b.die()
	mem := workspacetest.New(files)
	b.workspaces = mem
	b.start(skilled())
	return b, mem
}

// begin submits a message with a skill.
func (b *bench) begin(name, message, skill, args string) submission.Submission {
	b.Helper()
	got, err := b.service.Submit(b.Context(), submission.Input{Key: key(name), Message: message, Options: lane.Options{
		Skill: &lane.SkillCall{Name: skill, Args: json.RawMessage(args)},
	}})
	if err != nil {
		b.Fatal(err)
	}
	return got.Submission
}

func (b *bench) sessionID(name string) string {
	b.Helper()
	s, err := b.store.FindSession(b.Context(), key(name))
	if err != nil {
		b.Fatal(err)
	}
	return s.ID
}

// entries are those of a session.
func (b *bench) entries(name string) []session.Entry {
	b.Helper()
	all, err := b.store.Entries(b.Context(), b.sessionID(name), 0, 100)
	if err != nil {
		b.Fatal(err)
	}
	return all
}

func TestAModelActivatesASkill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, files := withSkills(t, nil)
		got := b.wait(b.submit("s", `skill triage {"issue": "a"}`+"\n& skill triage").ID)
		folder := ".pawl/skills/triage@abababababab"
		for _, want := range []string{
			`<skill_instructions name="triage" of="project" folder="` + folder + `">`,
			"\nSort it.\n</skill_instructions>",
			"<skill_files>\nrun.sh\n</skill_files>", `{"issue":"a"}`,
		} {
			if !strings.Contains(got.Text, want) {
				t.Errorf("%q is not in\n%s", want, got.Text)
			}
		}
		if names := files.Names(); !slices.Contains(names, folder+"/run.sh*") {
			t.Errorf("the files are %q", names)
		}
		if !strings.Contains(got.Text, "another call of this answer") {
			t.Errorf("two calls of one answer: %s", got.Text)
		}
		asked, _ := files.Asked()
		if e := b.entries("s")[2]; !e.Message.Keep {
			t.Error("the instructions are not exempt from compaction")
		}
		got = b.wait(b.submit("s", "skill triage").ID)
		if strings.Contains(got.Text, "Sort it.") || !strings.Contains(got.Text, "is active already") {
			t.Errorf("a second activation: %s", got.Text)
		}
		if again, _ := files.Asked(); again != asked+4 { // its folder, and links on the way
			t.Errorf("%d requests for the second one", again-asked)
		}
		got = b.wait(b.submit("s", "skill quiet").ID)
		if !strings.Contains(got.Text, "there is no skill quiet; there are careful, triage") {
			t.Errorf("a hidden skill: %s", got.Text)
		}
		if got = b.wait(b.submit("s", "skill none").ID); !strings.Contains(got.Text, "there is no skill none") {
			t.Errorf("no such skill: %s", got.Text)
		}
	})
}

// An executor that refuses costs the files, not the instructions, and the model is told.
func TestASkillWithoutItsFiles(t *testing.T) {
	for name, spoil := range map[string]func(*bench, *workspacetest.Memory){
		"the disk is full": func(_ *bench, m *workspacetest.Memory) {
			m.Break("", errs.New(errs.ResourceExhausted, "NO_SPACE", "the disk is full"))
		},
		"no executor": func(b *bench, _ *workspacetest.Memory) { b.executor.away = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, files := withSkills(t, nil)
				spoil(b, files)
				got := b.wait(b.submit("s", "skill triage").ID)
				if !strings.Contains(got.Text, "Sort it.") || !strings.Contains(got.Text, "could not be put into the "+
					"workspace: "+name) && !strings.Contains(got.Text, "no executor that would do") {
					t.Errorf("got %s", got.Text)
				}
			})
		})
	}
}

func TestASkillOfTheWorkspace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, files := withSkills(t, map[string]string{
			".agents/skills/deploy/SKILL.md":  "---\ndescription: d\nmodel: x\ntools: [bash]\n---\nShip it.",
			".agents/skills/deploy/steps.md":  "x",
			".claude/skills/triage/SKILL.md":  "---\ndescription: d\n---\nEvil.",
			".agents/skills/secret/SKILL.md":  "---\ndescription: d\ndisable-model-invocation: true\n---\nHush.",
			".agents/skills/broken/SKILL.md":  "x",
			".agents/skills/careful/SKILL.md": "---\ndescription: d\n---\nWide.",
		})
		got := b.wait(b.submit("s", "skill deploy").ID)
		if !strings.Contains(got.Text, `name="deploy" of="workspace" folder=".agents/skills/deploy">`+"\nShip it.") ||
			!strings.Contains(got.Text, "steps.md") {
			t.Errorf("got %s", got.Text)
		}
		if got = b.wait(b.submit("s", "skill deploy").ID); !strings.Contains(got.Text, "is active already") {
			t.Errorf("a second time: %s", got.Text)
		}
		files.Write(".agents/skills/deploy/SKILL.md", "---\ndescription: d\n---\nShip it twice.")
		if got = b.wait(b.submit("s", "skill deploy").ID); !strings.Contains(got.Text, "Ship it twice.") {
			t.Errorf("after it has changed: %s", got.Text)
		}
		if got = b.wait(b.submit("s", "skill triage").ID); strings.Contains(got.Text, "Evil") {
			t.Errorf("the workspace has replaced a skill of the project: %s", got.Text)
		}
		for _, name := range []string{"secret", "broken"} {
			if got = b.wait(b.submit("s", "skill "+name).ID); !strings.Contains(got.Text, "there is no skill "+name) {
				t.Errorf("%s: %s", name, got.Text)
			}
		}
		if got = b.wait(b.begin("s", "say: on", "secret", "").ID); got.Outcome != lane.Completed || got.Text != "on" {
			t.Errorf("a caller starts with a hidden skill: %s %s", got.Outcome, got.Message)
		}
	})
}

// A skill narrows what may be called until its submission ends, whoever owns that, and tells why.
func TestASkillNarrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := withSkills(t, nil)
		const prompt = "skill careful\necho ok\n& echo no\n& echo ok; echo no\n" +
			`& tool read: {"path":"a"}` + "\nskill triage\necho not"
		var held string
		b.executor.on = func(o *call.Order) tool.Reply {
			if o.Call.Tool == "read" {
				return tool.TextReply{Content: []byte("x\n"), FirstLine: 1, TotalLines: 1}
			}
			held = o.Call.ID
			return nil // it runs while the replica dies
		}
		sub := b.submit("s", prompt)
		synctest.Wait()
		b.die()
		b.executor.known[held] = call.FinishedThere
		b.executor.results[held] = tool.ExecReply{Stdout: tool.Captured{Head: []byte("ok\n")}, Confirmed: true}
		b.executor.on = echo
		b.start(skilled())
		got := b.wait(sub.ID)
		if got.Outcome != lane.Completed {
			t.Fatalf("%s %s", got.Outcome, got.Message)
		}
		if ran := b.executor.ran; slices.ContainsFunc(ran, func(s string) bool { return strings.Contains(s, "no") }) {
			t.Errorf("ran %q", ran)
		}
		refused := 0
		for _, e := range b.entries("s") {
			if e.Kind == session.ToolResult && e.Message.Content[0].IsError {
				refused++
				if !strings.Contains(e.Message.Content[0].Text, "skill careful is active until you have answered, and "+
					"allows these tools only: read, bash(echo ok:*).") {
					t.Errorf("the model was told %s", e.Message.Content[0].Text)
				}
			}
		}
		if refused != 3 {
			t.Errorf("%d calls were refused", refused)
		}
		b.expect(b.wait(b.submit("s", "echo free again").ID), lane.Completed, "free again")
		for range 2 {
			got := b.wait(b.begin("s", "echo no", "careful", "").ID)
			if !strings.Contains(got.Text, "Not run: skill careful") {
				t.Errorf("one that a caller has started with: %s", got.Text)
			}
		}
	})
}

// A caller starts with a skill: its instructions are a part of the input, and stay that over a take-over.
func TestACallerStartsWithASkill(t *testing.T) {
	for _, w := range modeltest.Wires() {
		t.Run(string(w.API), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := w.Stream(modeltest.Turn{Text: []string{"done"}})
				b, s, _ := speaking(t, w, answer.Until(1, modeltest.Stop), answer, answer)
				def := skilled()
				def.Model = b.model.Ref()
				b.die()
				b.workspaces = workspacetest.New(map[string]string{"AGENTS.md": "Use tabs."})
				b.start(def)
				sub := b.begin("s", "go-1", "triage", `{"n":1}`)
				synctest.Wait()
				b.die()
				b.start(def)
				b.expect(b.wait(sub.ID), lane.Completed, "done")
				b.expect(b.wait(b.submit("s", "go-2").ID), lane.Completed, "done")
				asked := s.Requests()
				growing(t, asked)
				first := string(asked[0].Body)
				tabs, sort, say := strings.Index(first, "Use tabs."), strings.Index(first, "Sort it."),
					strings.Index(first, "go-1")
				if tabs < 0 || sort < tabs || say < sort {
					t.Errorf("workspace, skill and message are at %d, %d, %d", tabs, sort, say)
				}
				want := []session.Kind{
					session.Input, session.Workspace, session.Skill, session.Assistant,
					session.Input, session.Assistant,
				}
				if got := b.kinds("s"); !slices.Equal(got, want) {
					t.Errorf("entries %v", got)
				}
				if e := b.entries("s"); !e[1].Message.Keep || !e[2].Message.Keep || e[0].Message.Keep {
					t.Error("what is beside the input is not exempt from compaction")
				}
			})
		})
	}
}

func TestASkillThatACallerCannotHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := withSkills(t, nil)
		got := b.wait(b.begin("s", "echo no", "nothing", "").ID)
		if got.Outcome != lane.Failed || got.Reason != "SKILL_NOT_FOUND" || len(b.executor.ran) > 0 {
			t.Errorf("settled %s %s: %s; ran %q", got.Outcome, got.Reason, got.Message, b.executor.ran)
		}
		_, err := b.service.Submit(t.Context(), submission.Input{Key: key("s"), Message: "x", Options: lane.Options{
			Skill: &lane.SkillCall{Name: "No Such"},
		}})
		if e, ok := errs.Public(err); !ok || e.Reason() != "SKILL_CALL_INVALID" {
			t.Errorf("got %v", err)
		}
		_, err = b.service.Submit(t.Context(), submission.Input{
			Key: key("s"), Message: "x", WhenBusy: submission.Steer,
			Options: lane.Options{Skill: &lane.SkillCall{Name: "triage"}},
		})
		if e, ok := errs.Public(err); !ok || e.Reason() != "SKILL_CALL_INVALID" {
			t.Errorf("of one that steers: %v", err)
		}
		if got := b.wait(b.begin("s", " ", "careful", "").ID); got.Outcome != lane.Completed {
			t.Errorf("without a message: %s %s", got.Outcome, got.Message)
		}
	})
}

// Watchers are told of each activation, where its instructions are, and who has asked for it.
func TestActivationsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := withSkills(t, nil)
		b.wait(b.begin("s", "skill triage", "careful", "").ID)
		var told []event.Event
		for _, e := range b.logged(b.sessionID("s")) {
			if e.Type == event.SkillActivated {
				told = append(told, e)
			}
		}
		if len(told) != 2 {
			t.Fatalf("%d events", len(told))
		}
		if s := told[0]; s.Skill.Name != "careful" || !s.Skill.ByCaller || s.EntrySeq != 2 ||
			s.Skill.Source != "project" {
			t.Errorf("got %+v of entry %d", s.Skill, s.EntrySeq)
		}
		if s := told[1]; s.Skill.Name != "triage" || s.Skill.ByCaller || s.EntrySeq != 4 ||
			s.Skill.Path != ".pawl/skills/triage@abababababab" {
			t.Errorf("got %+v of entry %d", s.Skill, s.EntrySeq)
		}
	})
}
