package work

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

func TestTildeIsTheHomeDirectoryInEveryVerb(t *testing.T) {
	within(t, func(r *rig) {
		r.s.cfg.SearchRoot = t.TempDir()
		r.box.Put("/home/box/f", "x")
		id := 0
		do := func(cwd string, verb any, env map[string]string) string {
			id++
			e := execute(fmt.Sprint("c", id), func(e *pawlv1.Execute) {
				e.Cwd, e.Env = cwd, env
				switch v := verb.(type) {
				case *pawlv1.ReadText:
					e.Verb = &pawlv1.Execute_ReadText{ReadText: v}
				case *pawlv1.EditFile:
					e.Verb = &pawlv1.Execute_EditFile{EditFile: v}
				case *pawlv1.WriteFile:
					e.Verb = &pawlv1.Execute_WriteFile{WriteFile: v}
				case *pawlv1.Stat:
					e.Verb = &pawlv1.Execute_Stat{Stat: v}
				case *pawlv1.Exists:
					e.Verb = &pawlv1.Execute_Exists{Exists: v}
				case *pawlv1.ReadDir:
					e.Verb = &pawlv1.Execute_ReadDir{ReadDir: v}
				case *pawlv1.ReadFile:
					e.Verb = &pawlv1.Execute_ReadFile{ReadFile: v}
					loose(e)
				case *pawlv1.Remove:
					e.Verb = &pawlv1.Execute_Remove{Remove: v}
				case *pawlv1.Exec:
					e.Verb = &pawlv1.Execute_Exec{Exec: v}
				case *pawlv1.Grep:
					e.Verb = &pawlv1.Execute_Grep{Grep: v}
				case *pawlv1.Glob:
					e.Verb = &pawlv1.Execute_Glob{Glob: v}
				}
			})
			r.send(e)
			for _, m := range r.take() {
				if res := m.GetResult(); res != nil {
					r.ack(e.GetCallId())
					switch o := res.GetOutcome().(type) {
					case *pawlv1.Result_Exec:
						return string(o.Exec.GetStdout().GetHead())
					case *pawlv1.Result_Grep:
						return fmt.Sprint(o.Grep.GetMatches())
					case *pawlv1.Result_Glob:
						return fmt.Sprint(o.Glob.GetPaths())
					}
					return outcome(res)
				}
			}
			return "nothing"
		}
		for _, c := range []struct {
			cwd  string
			verb any
			want string
		}{
			{"", &pawlv1.ReadText{Path: "~/f"}, `text "x"`},
			{"sub", &pawlv1.ReadText{Path: "~/f"}, `text "x"`},
			{"~", &pawlv1.ReadText{Path: "f"}, `text "x"`},
			{"", &pawlv1.EditFile{Path: "~/f", OldText: "x", NewText: "y"}, "edit 1"},
			{"", &pawlv1.WriteFile{Path: "~/g", Content: []byte("abc")}, "file 3"},
			{"", &pawlv1.Exists{Path: "~/g"}, "exists true"},
			{"", &pawlv1.Stat{Path: "~/g"}, "*pawlv1.Result_Stat"},
			{"", &pawlv1.ReadDir{Path: "~"}, "*pawlv1.Result_Names"},
			{"", &pawlv1.ReadFile{Path: "~/g"}, "file 3"},
			{"", &pawlv1.Remove{Path: "~/g"}, "*pawlv1.Result_Done"},
			{"", &pawlv1.Exists{Path: "~/g"}, "exists false"},
			{"", &pawlv1.Exists{Path: "./~/f"}, "exists false"},
			{"", &pawlv1.Exists{Path: "~other/f"}, "exists false"},
		} {
			if got := do(c.cwd, c.verb, nil); got != c.want {
				t.Errorf("%v in %q: %s, want %s", c.verb, c.cwd, got, c.want)
			}
		}
		home := map[string]string{"HOME": "/own*"}
		r.box.Put("/own*/f", "own")
		if got := do("", &pawlv1.ReadText{Path: "~/f"}, home); got != `text "own"` {
			t.Errorf("with a home of its own: %s", got)
		}
		if got := do("~/d", &pawlv1.Exec{Command: "env HOME", Cwd: "~/e"}, home); got != "HOME=/own* in /own*/e\n" {
			t.Errorf("a command: %q", got)
		}
		// Searches look at this host. What a glob would take for a pattern in the name of the home directory is a name.
		dir := t.TempDir()
		own := filepath.Join(dir, "own*")
		for _, name := range []string{"own*/d/x", "own*/f", "own*/a.go", "owner/b.go"} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("in ~/f\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		home["HOME"] = own
		if got := do("~/d", &pawlv1.Grep{Pattern: "~/", Path: "~/f"}, home); !strings.Contains(got, own+"/f") {
			t.Errorf("grep: %s", got)
		}
		if got := do("~/d", &pawlv1.Grep{Pattern: "~/"}, home); !strings.Contains(got, `path:"x"`) {
			t.Errorf("grep in the working directory: %s", got)
		}
		if got := do("~", &pawlv1.Glob{Pattern: "~/*.go", Path: "~"}, home); got != "[a.go]" {
			t.Errorf("glob: %s", got)
		}
		r.s.cfg.SearchRoot = ""
		if got := do("~", &pawlv1.Glob{Pattern: "*"}, home); !strings.Contains(got, "UNAVAILABLE") {
			t.Errorf("glob where nothing can be searched: %s", got)
		}
	})
}

func TestVariablesAreTakenAway(t *testing.T) {
	within(t, func(r *rig) {
		r.send(execute("a", line("env A;env B;env C"), func(e *pawlv1.Execute) {
			e.Env, e.UnsetEnv = map[string]string{"A": "a"}, []string{"B"}
		}))
		got := ""
		for _, m := range r.take() {
			got += string(m.GetResult().GetExec().GetStdout().GetHead())
		}
		if got != "A=a in \nB=(removed) in \nC= in \n" {
			t.Errorf("got %q", got)
		}
	})
}
