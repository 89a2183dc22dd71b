package local

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pawl-dev/pawl/services/executor/keeper"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	if keeper.Invoked() {
		os.Exit(keeper.Main())
	}
	os.Exit(m.Run())
}

func open(t *testing.T, o Options) *Sandbox {
	t.Helper()
	if o.Root == "" {
		o.Root = t.TempDir()
	}
	o.Keeper = keep(t)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keep is the client of a keeper, which ends with the test.
func keep(t *testing.T) *keeper.Client {
	t.Helper()
	dir := t.TempDir()
	k, err := keeper.Open(dir, keeper.Options{Idle: 20 * time.Millisecond, OrphanGrace: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.Close()
		keeperEnded(t, dir)
	})
	// It serves from here on: one that is still starting would make its files after the test.
	if err := k.Forget(t.Context(), "none"); err != nil {
		t.Fatal(err)
	}
	return k
}

// keeperEnded waits until the keeper has let go of its directory, so that this can be removed.
func keeperEnded(t *testing.T, dir string) {
	sock := filepath.Join(dir, "keeper.sock")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		if _, err := os.Lstat(sock); err != nil {
			return
		}
	}
	t.Error("the keeper does not end")
}

func TestSandbox(t *testing.T) {
	sandboxtest.Run(t, func(t *testing.T) sandbox.Sandbox { return open(t, Options{}) })
}

// Pieces make the same command in every shell, wherever they are cut.
func TestLongCommandsInEveryShell(t *testing.T) {
	body := strings.Repeat("żółw 🦀 '\"$`\\ ", 3*maxArgument/20)
	line := "echo $#; cat <<'END'\n" + body + "\nEND\nexit 9"
	for _, shell := range []string{"bash", "sh"} {
		args := shellArgs(shell, line)
		if len(args) < 6 {
			t.Fatalf("%d arguments", len(args))
		}
		argv := make([]string, len(args))
		for i, a := range args {
			if argv[i] = string(a); !utf8.ValidString(argv[i]) {
				t.Errorf("argument %d is cut within a character", i)
			}
		}
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 9 || string(out) != "0\n"+body+"\n" {
			t.Errorf("%s: %v, %d bytes", shell, err, len(out))
		}
	}
}
