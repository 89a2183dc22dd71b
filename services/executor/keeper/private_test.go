package keeper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// No file of a keeper is anybody else's for a moment, whatever the umask.
func TestFilesArePrivate(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "data") // the client makes it
	stop, seen := make(chan struct{}), map[string]bool{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			watchPrivate(t, dir, seen)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	c := ensure(t, dir, Options{StreamCap: 4 << 10})
	cmd := start(t, c, "a", "seq 100000; echo oh >&2; sleep 0.1") // its tail goes through a file of its own
	wait(t, cmd)
	if _, err := cmd.Preserve(); err != nil {
		t.Fatal(err)
	}
	if err := c.Forget(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	wait(t, start(t, c, "b", "echo b"))
	killKeeper(t, c)
	close(stop)
	wg.Wait()
	watchPrivate(t, dir, seen)
	for _, want := range []string{
		"keeper.log", "keeper.lock", "keeper.sock", "keeper.out", "calls/a/stdout.tail",
		"preserved/a/stdout",
	} {
		if !seen[want] {
			t.Errorf("%s was not seen", want)
		}
	}
}

// watchPrivate looks at the mode of everything in dir. What goes away meanwhile is not looked at.
func watchPrivate(t *testing.T, dir string, seen map[string]bool) {
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		st, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			t.Error(err)
			return nil
		}
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, st.Mode())
		}
		if rel, err := filepath.Rel(dir, path); err == nil {
			seen[rel] = true
		}
		return nil
	})
}
