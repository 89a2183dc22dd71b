package control_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pawl-dev/pawl/services/control"
)

func lockOf(t *testing.T, dir string) (name, lock string) {
	t.Helper()
	d, err := control.LockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.LockDataDir(dir); !errors.Is(err, control.ErrDataDir) {
		t.Errorf("a directory that is in use: %v", err)
	}
	if lock, err = d.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return d.Name(), lock
}

// A lock proves its predecessors dead: the next start has the same one, and nobody else ever has it, with whatever the
// path is.
func TestLockOfTheDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	name, lock := lockOf(t, dir)
	if again, same := lockOf(t, dir); again != name || same != lock {
		t.Errorf("after a restart %s, %s is %s, %s", name, lock, again, same)
	}

	// Another file system in its place, as another container has it.
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	if other, otherLock := lockOf(t, dir); other == name || otherLock == lock {
		t.Error("another directory at the same path has the same name")
	}

	// A copy in its place, as another machine has it.
	id, err := os.ReadFile(filepath.Join(away, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), id, 0o600); err != nil {
		t.Fatal(err)
	}
	if copied, copiedLock := lockOf(t, dir); copied != name || copiedLock == lock {
		t.Errorf("a copy is %s, %s; the original %s, %s", copied, copiedLock, name, lock)
	}
}
