package platformtest_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/skill"
)

// skilled is an agent with two skills.
func skilled() agent.Definition {
	d := agent.Shell()
	d.Name, d.Skills = "skilled", []string{"careful", "other"}
	d.SkillFolders = map[string]skill.Skill{
		"careful": {
			Name: "careful", Description: "d", Body: "Be careful.", Digest: "c", Allowed: skill.Grants("bash"),
		},
		"other": {Name: "other", Description: "d", Body: "Do otherwise.", Digest: "o"},
	}
	return d
}

// A replica is killed before and after every commit of a submission that a caller has started with a skill, and whose
// model activates another one. Whoever goes on tells each skill once, and what it allows holds.
func TestSkillsKilledAtEveryCommit(t *testing.T) {
	atEveryCommit(t, 4, func(w *world, n int64, after bool) bool {
		submit := func(client pawlv1.SubmissionServiceClient) (*pawlv1.SubmitResponse, error) {
			ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
			defer cancel()
			return client.Submit(ctx, &pawlv1.SubmitRequest{
				Key: key("skilled"), Message: "skill other\n" + leaf("one", 1) + "\n" + `& tool read: {"path":"a"}`,
				IdempotencyKey: "the skill", Skill: &pawlv1.SkillCall{Name: "careful"},
			})
		}
		met := w.atCommit(w.a, n, after, w.a.Strike)
		_, _ = submit(pawlv1.NewSubmissionServiceClient(w.a.GRPC)) // the answer may get lost
		select {
		case <-w.a.Dead():
		case <-time.After(time.Hour):
		}
		w.a.DB.Strike(nil)
		p := w.a
		if met.Load() {
			p = w.next(w.a)
		}
		again, err := submit(pawlv1.NewSubmissionServiceClient(p.GRPC))
		if err != nil || !again.GetReplayed() || again.GetSubmission().GetSkill().GetName() != "careful" {
			w.Fatalf("the replay: %v, %v", again, err)
		}
		if _, err := w.tryWait(p, again.GetSubmission().GetSubmissionId()); err != nil {
			w.Fatal(err)
		}
		told, refused := map[string]int{}, 0
		id := w.sessionID("skilled")
		entries := w.entries(id)
		for _, e := range entries {
			if e.Kind == session.Assistant {
				continue // the model repeats what it was told
			}
			for _, b := range e.Message.Content {
				for _, body := range []string{"Be careful.", "Do otherwise."} {
					told[body] += strings.Count(b.Text, body)
				}
				if e.Kind == session.ToolResult && strings.Contains(b.Text, "Not run: skill careful") {
					refused++
				}
			}
		}
		if told["Be careful."] != 1 || told["Do otherwise."] != 1 || refused != 1 {
			w.Errorf("told %v, refused %d calls", told, refused)
		}
		if at := slices.IndexFunc(entries, func(e session.Entry) bool { return e.Kind == session.Skill }); at != 1 {
			w.Errorf("the skill that was started with is entry %d", at+1)
		}
		var activated []string
		for _, e := range w.events(id) {
			if e.Type == event.SkillActivated {
				activated = append(activated, e.Skill.Name)
			}
		}
		if !slices.Equal(activated, []string{"careful", "other"}) {
			w.Errorf("activations were told as %q", activated)
		}
		w.finish(p, "skilled", "one")
		return met.Load()
	})
}
