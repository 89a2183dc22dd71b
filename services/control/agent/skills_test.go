package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func teaching(what string) string {
	return "---\nname: " + what + "\ndescription: Does\n  " + what + ".\n---\nDo it."
}

// able is a file of an agent that names skills.
func able(skills string) string { return "---\nmodel: a/b\nskills: " + skills + "\n---\n" }

func TestAnAgentHasTheSkillsThatItNames(t *testing.T) {
	dir := project(t, map[string]string{
		"agents/a.md":             able("[triage, deploy, quiet]"),
		"agents/b.md":             minimal,
		"agents/c.md":             asking("Asks.", "a"),
		"skills/triage/SKILL.md":  teaching("triage"),
		"skills/triage/run.sh":    "echo",
		"skills/deploy/SKILL.md":  teaching("deploy"),
		"skills/quiet/SKILL.md":   "---\nname: quiet\ndescription: d\ndisable-model-invocation: true\n---\nx",
		"skills/unused/SKILL.md":  teaching("unused"),
		"skills/no-skill/note.md": "x",
	})
	c, err := Load(dir, lookupIn(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := got(t, c, "a")
	if want := []string{"deploy", "quiet", "triage"}; !slices.Equal(a.Skills, want) || len(a.SkillFolders) != 3 {
		t.Errorf("skills %q, folders %d", a.Skills, len(a.SkillFolders))
	}
	if s := a.SkillFolders["triage"]; len(s.Files) != 1 || s.Body != "Do it." {
		t.Errorf("got %+v", s)
	}
	prompt := SystemPrompt(a, Surroundings{Date: "today"})
	if want := "\n- deploy: Does deploy.\n- triage: Does triage.\n\nDate: today"; !strings.HasSuffix(prompt, want) ||
		strings.Contains(prompt, "quiet") || strings.Contains(prompt, "Do it.") {
		t.Errorf("the prompt is %s", prompt)
	}
	if strings.Contains(SystemPrompt(got(t, c, "b"), Surroundings{}), "skill") {
		t.Error("an empty catalogue is told")
	}
	asks := got(t, c, "c")
	if sub, ok := asks.Subagent("a"); !ok || sub.Digest() != a.Digest() || len(sub.SkillFolders) != 3 {
		t.Errorf("as a sub-agent: %+v", sub)
	}
	body, err := json.Marshal(asks)
	var stored Definition
	if err == nil {
		err = json.Unmarshal(body, &stored)
	}
	if err != nil || !reflect.DeepEqual(stored, asks) || stored.Digest() != asks.Digest() {
		t.Errorf("the stored definition is another one: %v", err)
	}
	put(t, filepath.Join(dir, "../skills/triage/run.sh"), "echo more")
	if got := c.Reload(); !slices.Equal(got.Changed, []string{"a", "c"}) || len(got.Problems) > 0 {
		t.Errorf("an edit of a skill's file is a change of %+v", got)
	}
	put(t, filepath.Join(dir, "../skills/triage/.env"), "A=b")
	if got := c.Reload(); len(got.Changed) > 0 || len(got.Problems) != 1 || !got.Problems[0].Kept {
		t.Errorf("a skill that has got a secret: %+v", got)
	}
}

func TestSkillsThatCannotBeHad(t *testing.T) {
	dir := project(t, map[string]string{
		"agents/a.md":            able("[triage, none]"),
		"agents/b.md":            able("[A]"),
		"agents/c.md":            able("[ok, ok]"),
		"agents/d.md":            "---\nmodel: a/b\nsandbox: none\nskills: [files]\n---\n",
		"agents/e.md":            able("[linked]"),
		"skills/triage/SKILL.md": "---\nname: triage\n---\nx",
		"skills/ok/SKILL.md":     teaching("ok"),
		"skills/files/SKILL.md":  teaching("files"),
		"skills/files/more.md":   "x",
		"skills/linked/SKILL.md": teaching("linked"),
	})
	if err := os.Symlink("SKILL.md", filepath.Join(dir, "../skills/linked/link")); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(problemsOf(t, dir, nil), "\n")
	for _, want := range []string{
		"skills/triage/SKILL.md:1:1: description: is required",
		"agents/a.md:3:10: skills: skill triage cannot be used: its own file has a problem",
		"agents/a.md:3:18: skills: there is no skill none; there are files, linked, ok, triage; those of a " +
			"workspace need",
		`agents/b.md:3:10: skills: "A" cannot be a skill's name`,
		"agents/c.md:3:14: skills: ok is given twice",
		"agents/d.md:4:10: skills: skill files needs a sandbox, and sandbox is none",
		"skills/linked/link: is a link",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("it lacks %q:\n%s", want, all)
		}
	}
}
