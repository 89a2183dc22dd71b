package workspace_test

import (
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/services/control/bundle"
	"github.com/pawl-dev/pawl/services/control/skill"
	"github.com/pawl-dev/pawl/services/control/workspace"
	"github.com/pawl-dev/pawl/services/control/workspace/workspacetest"
)

// A link is followed as long as no link on the way leads out of the workspace.
func TestLinksOutOfTheWorkspace(t *testing.T) {
	for what, c := range map[string]struct {
		links map[string]string
		out   bool
	}{
		"a file within":            {map[string]string{"AGENTS.md": "docs/a.md"}, false},
		"a file above, and back":   {map[string]string{"AGENTS.md": "docs/../a.md"}, false},
		"a folder within":          {map[string]string{"AGENTS.md": "docs/a.md", "docs": "src/docs"}, false},
		"an absolute path":         {map[string]string{"AGENTS.md": "/root/.ssh/id_rsa"}, true},
		"a path above":             {map[string]string{"AGENTS.md": "docs/../../x"}, true},
		"a link to a link":         {map[string]string{"AGENTS.md": "docs/a", "docs/a": "/root/.ssh/id_rsa"}, true},
		"a folder that is a link":  {map[string]string{"AGENTS.md": "docs/id_rsa", "docs": "/root/.ssh"}, true},
		"above a folder's target":  {map[string]string{"AGENTS.md": "in/../../x", "in": "a/b"}, false},
		"above the target, beyond": {map[string]string{"AGENTS.md": "in/../../../x", "in": "a/b"}, true},
		"a circle":                 {map[string]string{"AGENTS.md": "b", "b": "AGENTS.md"}, true},
	} {
		files := workspacetest.New(map[string]string{"AGENTS.md": "-----BEGIN"})
		for name, target := range c.links {
			files.MakeLink(name, target)
		}
		seen := look(t, files)
		told, _, _ := seen.Tell(nil, nil)
		if strings.Contains(told, "-----BEGIN") == c.out ||
			strings.Contains(told, "AGENTS.md cannot be read: is a link out of the workspace") != c.out {
			t.Errorf("%s: %s", what, told)
		}
	}
}

// Nothing is read from a folder of skills that is elsewhere, and no skill's files are put there.
func TestFoldersOutOfTheWorkspace(t *testing.T) {
	files := workspacetest.New(map[string]string{
		".agents/skills/mine/SKILL.md": described("private"), ".claude/skills/here/SKILL.md": described("there"),
	})
	files.MakeLink(".agents", "../other")
	files.MakeLink(".claude/skills", "../skills")
	seen := look(t, files)
	told, facts, _ := seen.Tell(nil, nil)
	if _, ok := facts.Find("mine"); ok || strings.Contains(told, "private") ||
		!strings.Contains(told, "- .agents/skills cannot be used: is a link out of the workspace") ||
		!strings.Contains(told, "there") {
		t.Errorf("told %s", told)
	}
	s := workspace.OfSkill(&skill.Skill{
		Name: "s", Digest: "d", Files: []bundle.File{{Path: "run.sh", Data: []byte("x")}},
	})
	for _, link := range []string{".pawl", ".pawl/skills", ".pawl/skills/s@d"} {
		files := workspacetest.New(map[string]string{".pawl/skills/s@d/run.sh": "x"})
		files.MakeLink(link, "/home/user/bin")
		if folder, err := workspace.Put(t.Context(), files, here, s); err == nil {
			t.Errorf("%s is a link, and the files are said to be in %q", link, folder)
		}
	}
}
