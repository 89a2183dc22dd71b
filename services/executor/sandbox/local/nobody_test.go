package local

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/hostenv"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Defaults are set whatever the host has, the executor's configuration changes them, a call's environment changes that,
// and null takes away.
func TestDefaultsCanBeChangedAndRemoved(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("PAGER", "less") // of the host, and nothing of a command's
	s := open(t, Options{Env: map[string]*string{"EDITOR": new("ed"), "VISUAL": nil, "GIT_PAGER": new("less")}})
	const show = `echo "$TERM,$PAGER,$EDITOR,${VISUAL-none},$GIT_PAGER,${GIT_EDITOR-none}"`
	if got := run(t, s, sandbox.Command{Line: show}); got != "dumb,cat,ed,none,less,true\n" {
		t.Errorf("got %q", got)
	}
	over := map[string]*string{"TERM": new("vt100"), "PAGER": nil, "GIT_EDITOR": nil, "VISUAL": new("vi")}
	if got := run(t, s, sandbox.Command{Line: show, Env: over}); got != "vt100,,ed,vi,less,none\n" {
		t.Errorf("got %q", got)
	}
	for name := range hostenv.Defaults {
		over[name] = nil
	}
	env := run(t, s, sandbox.Command{Line: "env", Env: over})
	for name := range hostenv.Defaults {
		if strings.Contains("\n"+env, "\n"+name+"=") {
			t.Errorf("%s was not taken away", name)
		}
	}
}

// The environment is what it was when the sandbox was made.
func TestEnvironmentIsASnapshot(t *testing.T) {
	t.Setenv("LANG", "C")
	t.Setenv("LC_ALL", "")
	s := open(t, Options{})
	t.Setenv("LANG", "C.UTF-8")
	t.Setenv("HOME", "/elsewhere")
	if err := os.Unsetenv("LC_ALL"); err != nil {
		t.Fatal(err)
	}
	got := run(t, s, sandbox.Command{Line: `echo "$LANG,${LC_ALL-none},$HOME"`})
	if got != "C,,"+s.Home()+"\n" || s.Home() == "/elsewhere" {
		t.Errorf("got %q", got)
	}
}

// Programs that want an editor, a pager, a terminal or an answer come to an end by themselves. The time limit of each
// is only for the failure.
func TestNobodySitsBeforeACommand(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	s := open(t, Options{})
	const repo = "git init -q . && git config user.email a@example.org && git config user.name n && " +
		"git config core.editor 'sleep 60; false' && git config core.pager 'sleep 60' && git config " +
		"sequence.editor 'sleep 60; false' && "
	rows := []struct{ line, want string }{
		{repo + "git commit --allow-empty 2>&1; echo $?", "Aborting commit due to empty commit message.\n1\n"},
		{"git commit -q --allow-empty -m one && git commit -q --allow-empty -m two && git commit -q " +
			"--allow-empty --amend && " +
			"git rebase -q -i --root && git --paginate log --format=%s", "two\none\n"},
		{"echo x > file; less file; cat file | more", "x\nx\n"},
		{"read -r answer; echo \"$? [$answer]\"; cat; wc -c", "1 []\n0\n"},
		{
			"(: < /dev/tty) 2>/dev/null || echo no terminal; tty; [ -t 0 ] || [ -t 1 ] || [ -t 2 ] || echo none",
			"no terminal\nnot a tty\nnone\n",
		},
		{"$EDITOR file; $VISUAL file; echo x | $PAGER", "x\n"},
	}
	if _, err := exec.LookPath("vim"); err == nil {
		rows = append(rows, struct{ line, want string }{
			"echo aaa > text; echo 'set ignorecase' > ~/.vimrc; vim -c '%s/AA/b/' -c wq text >/dev/null 2>&1; " +
				"cat text; " +
				"vim text >/dev/null 2>&1 || echo $?", "ba\n1\n",
		})
	}
	for i, c := range rows {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			x, err := s.Start(t.Context(), "call", sandbox.Command{Line: c.line, Timeout: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			<-x.Done()
			buf := make([]byte, 1<<16)
			n, _ := x.ReadOutput(sandbox.Stdout, buf, 0)
			m, _ := x.ReadOutput(sandbox.Stderr, buf[n:], 0)
			if got := string(buf[:n+m]); x.Exit().TimedOut || !strings.Contains(got, c.want) {
				t.Errorf("%s\nexit %+v, got %q, want %q", c.line, x.Exit(), got, c.want)
			}
			if err := s.Forget(t.Context(), "call"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestHome(t *testing.T) {
	t.Setenv("HOME", "/of/the/host")
	for name, c := range map[string]struct {
		env  map[string]*string
		want string
	}{
		"the host's":        {nil, "/of/the/host"},
		"the configuration": {map[string]*string{"HOME": new("/given")}, "/given"},
	} {
		if s := open(t, Options{Env: c.env}); s.Home() != c.want {
			t.Errorf("%s: %s", name, s.Home())
		}
	}
	// Without HOME it is what a shell says.
	for _, home := range []*string{nil, new("relative")} {
		s := open(t, Options{Env: map[string]*string{"HOME": home}})
		if got := run(t, s, sandbox.Command{Line: "unset HOME; cd ~ && pwd -P"}); got != s.Home()+"\n" {
			t.Errorf("%s, a shell says %s", s.Home(), got)
		}
	}
}
