package local

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pawl-dev/pawl/internal/hostenv"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// run gives the stdout of a command.
func run(t *testing.T, s *Sandbox, cmd sandbox.Command) string {
	t.Helper()
	x, err := s.Start(t.Context(), "call", cmd)
	if err != nil {
		t.Fatal(err)
	}
	<-x.Done()
	buf := make([]byte, 1<<20)
	n, err := x.ReadOutput(sandbox.Stdout, buf, 0)
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if err := s.Forget(t.Context(), "call"); err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestOnlyAllowedEnvironmentReachesCommands(t *testing.T) {
	t.Setenv("ANTHROPIC_API_KEY", "secret")
	t.Setenv("PAWL_TOKEN", "secret")
	t.Setenv("TZ", "UTC")
	t.Setenv("LC_CTYPE", "C.UTF-8")
	set := "value"
	s := open(t, Options{Env: map[string]*string{"MINE": &set, "TZ": nil}})
	t.Setenv("LC_ALL", "C.UTF-8") // after the snapshot
	allowed := slices.AppendSeq(slices.Clone(hostenv.Names), maps.Keys(hostenv.Defaults))
	allowed = append(allowed, "MINE", "PAWL_CALL_ID", "PAWL_KEEPER", "PWD", "SHLVL", "_", "OLDPWD")
	got := run(t, s, sandbox.Command{Line: "env"})
	for line := range strings.Lines(got) {
		if name, _, _ := strings.Cut(line, "="); !slices.Contains(allowed, name) {
			t.Errorf("%s reached a command", name)
		}
	}
	for text, want := range map[string]bool{
		"secret": false, "MINE=value": true, "TZ=": false,
		"LC_CTYPE=C.UTF-8": true, "LC_ALL=C.UTF-8": false,
	} {
		if strings.Contains(got, text) != want {
			t.Errorf("%s: want %v in\n%s", text, want, got)
		}
	}
	if len(hostenv.Names) != 14 {
		t.Errorf("%d names are allowed", len(hostenv.Names))
	}
	// The keeper runs beside the command, as the same user: its environment is open to it.
	if got := run(t, s, sandbox.Command{Line: `cat /proc/$PPID/environ`}); got != "" {
		t.Errorf("the keeper's environment holds %q", got)
	}
}

func TestReadOnlyFileIsNotReplaced(t *testing.T) {
	var want error = sandbox.ErrPermission
	if os.Geteuid() == 0 {
		want = nil // root may write everything
	}
	s := open(t, Options{})
	if err := os.WriteFile(filepath.Join(s.Root(), "f"), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	f, err := s.Create(t.Context(), "f")
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
	if err == nil {
		f.Abort()
	}
}

func TestRootGone(t *testing.T) {
	s := open(t, Options{})
	if err := os.Remove(s.Root()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start(t.Context(), "call", sandbox.Command{Line: "true"}); !errors.Is(err, sandbox.ErrGone) {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for root, want := range map[string]error{file: sandbox.ErrNotDir, file + "/x": sandbox.ErrNotDir, file +
		"x": sandbox.ErrNotFound} {
		if _, err := New(Options{Root: root}); !errors.Is(err, want) {
			t.Errorf("%s: %v", root, err)
		}
	}
}

func TestSandboxesShareAKeeper(t *testing.T) {
	k := keep(t)
	for range 2 {
		s, err := New(Options{Root: t.TempDir(), Keeper: k})
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, s, sandbox.Command{Line: "pwd"}); got != s.Root()+"\n" {
			t.Errorf("pwd %q", got)
		}
	}
}

func TestLinkRelativeToWhereItIs(t *testing.T) {
	s := open(t, Options{})
	for _, d := range []string{"real/deep", "real/target"} {
		if err := os.MkdirAll(filepath.Join(s.Root(), d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"short": "real/deep", "real/deep/link": "../target/file"} {
		if err := os.Symlink(to, filepath.Join(s.Root(), link)); err != nil {
			t.Fatal(err)
		}
	}
	w, err := s.Create(t.Context(), "short/link")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.Root(), "real/target/file")); err != nil {
		t.Error(err)
	}
}

// Every error of the system has a reason, whether it is one that callers tell apart or not.
func TestTyped(t *testing.T) {
	for no, want := range map[syscall.Errno]error{
		syscall.EACCES: sandbox.ErrPermission, syscall.EIO: sandbox.ErrIO,
		syscall.EBADMSG: sandbox.ErrIO,
	} {
		if err := typed("f", no); !errors.Is(err, want) || !strings.HasPrefix(err.Error(), "f: ") {
			t.Errorf("%v: %v", no, err)
		}
	}
}
