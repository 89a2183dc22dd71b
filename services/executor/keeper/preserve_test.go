package keeper

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Whatever a command puts in the place of its own output, reading it ends with an error, and the files stay.
func TestSomethingInPlaceOfTheOutput(t *testing.T) {
	for name, put := range map[string]string{
		"directory": "mkdir", "pipe": "mkfifo", "link": "ln -s /etc/passwd", "shorter file": "touch", "nothing": ":",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := ensure(t, dir, Options{})
			out := filepath.Join(dir, "calls", "call", "stdout")
			cmd := start(t, c, "call", "echo hello; until test -s "+out+"; do :; done; rm "+out+"; "+put+" "+out)
			if e := wait(t, cmd); e.Code != 0 || e.StdoutBytes != 6 {
				t.Fatalf("exit %+v", e)
			}
			if n, err := cmd.ReadOutput(sandbox.Stdout, make([]byte, 10), 0); !errors.Is(err, sandbox.ErrUnavailable) {
				t.Fatalf("read %d bytes, %v", n, err)
			}
			where, err := cmd.Preserve()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Forget(t.Context(), "call"); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(where); err != nil {
				t.Errorf("the files are not preserved: %v", err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "calls", "call")); err == nil {
				t.Error("the files are still among the calls")
			}
		})
	}
}

// A keeper that has no descriptor for a command's output waits for one.
func TestOutputWaitsForADescriptor(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	c := ensure(t, dir, Options{})
	wait(t, start(t, c, "first", "echo warm")) // what the keeper opens once is open
	line := "cd " + work + "; until test -e go; do :; done; echo hello; touch said; until test -e end; do :; done"
	cmd := start(t, c, "call", line)
	limit := allow(t, c, 0)
	touch(t, work+"/go")
	waitFor(t, "the command to write", func() bool { _, err := os.Stat(work + "/said"); return err == nil })
	allow(t, c, limit)
	touch(t, work+"/end")
	if e := wait(t, cmd); e.StdoutBytes != 6 || e.StdoutError != "" || output(t, cmd, sandbox.Stdout) != "hello\n" {
		t.Errorf("exit %+v", e)
	}
}

// Output that the keeper could not keep is told.
func TestOutputThatWasNotKept(t *testing.T) {
	dir := t.TempDir()
	c := ensure(t, dir, Options{})
	if err := os.MkdirAll(filepath.Join(dir, "calls", "call", "stdout"), 0o700); err != nil {
		t.Fatal(err)
	}
	e := wait(t, start(t, c, "call", "echo hello; echo oh >&2"))
	if e.StdoutBytes != 0 || e.StdoutCut != 6 || !strings.Contains(e.StdoutError, "file exists") {
		t.Errorf("exit %+v", e)
	}
	if e.StderrBytes != 3 || e.StderrError != "" {
		t.Errorf("the other stream: %+v", e)
	}
}

// allow sets how many descriptors the keeper may have, and returns how many it might have had.
func allow(t *testing.T, c *Client, n uint64) uint64 {
	t.Helper()
	var old unix.Rlimit
	pid := pidOf(c)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}, nil); err != nil {
		t.Fatal(err)
	}
	return old.Cur
}

// A new keeper removes output of commands that nobody knows any more, and what was preserved for long enough.
func TestTidy(t *testing.T) {
	dir := t.TempDir()
	c := ensure(t, dir, Options{})
	wait(t, start(t, c, "held", "echo kept"))
	make := func(path string, at time.Time) string {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		return path
	}
	gone := []string{make("calls/unknown", time.Now()), make("preserved/old", time.Now().Add(-preserveFor-time.Hour))}
	stays := []string{make("preserved/new", time.Now()), filepath.Join(dir, "calls", "held", "stdout")}
	// Its keeper died between the record that it is forgotten and the removal.
	make("calls/marked/"+unreadMark, time.Now())
	stays = append(stays, filepath.Join(dir, preservedDir, "marked", unreadMark))
	killKeeper(t, c)
	for _, path := range gone {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still here", path)
		}
	}
	for _, path := range stays {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s is gone: %v", path, err)
		}
	}
}

// Of what is preserved the newest stays.
func TestPreservedIsBounded(t *testing.T) {
	k := &keeper{home: home{dir: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
	for i := range preserveCount + 10 {
		path := filepath.Join(k.dir, preservedDir, fmt.Sprintf("%05d", i))
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i-preserveCount-20) * time.Second)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.expirePreserved(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(k.dir, preservedDir))
	if err != nil || len(left) != preserveCount || left[0].Name() != "00010" {
		t.Errorf("%d are left, the oldest is %v, %v", len(left), left[0], err)
	}
}
