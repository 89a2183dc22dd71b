package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/pgtest"
)

func TestRunKeepsTheExitCode(t *testing.T) {
	t.Setenv(pgtest.Env, "postgres://given")
	err := run(t.Context(), pgtest.Options{}, []string{"sh", "-c", `test "$` + pgtest.Env +
		`" = postgres://given && exit 3`})
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("got %v, want the command's exit code and the server that was given", err)
	}
}

func TestClusterOutlivesTheCommandUntilItEnds(t *testing.T) {
	t.Setenv(pgtest.Env, "")
	seen := filepath.Join(t.TempDir(), "seen")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The command ends the run from within, as ^C would, and then still has its server.
	script := `trap 'echo "$` + pgtest.Env + `" >` + seen + `; exit 0' TERM; kill -INT ` + "$PPID" +
		`; while :; do sleep 0.05; done`
	ctx, stop := signalContext(ctx)
	defer stop()
	if err := run(ctx, pgtest.Options{NoFsync: true}, []string{"sh", "-c", script}); err != nil &&
		!errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if url, err := os.ReadFile(seen); err != nil || len(url) < len("postgres://\n") {
		t.Errorf("got %q, %v, want the address of a server", url, err)
	}
}
