package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestTryLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("a lock that is held: %v, want ErrLocked", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err = TryLock(path); err != nil {
		t.Fatal("a lock that was let go of:", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(filepath.Join(path, "below a file")); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("a lock that cannot be: %v", err)
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"old, and longer", "new"} {
		if err := Replace(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("read %q, %v, want %q", got, err, content)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others may read it", info.Mode(), err)
	}
	if err := Replace(dir, nil); err == nil {
		t.Error("a directory was replaced")
	}
	for _, dir := range []string{dir, filepath.Dir(dir)} {
		if left, err := filepath.Glob(filepath.Join(dir, ".*-*")); err != nil || len(left) > 0 {
			t.Errorf("%v, %v left behind", left, err)
		}
	}
}

// A file keeps its place under another name, and a copy has one of its own.
func TestPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	place := func(path string) string {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p, err := Place(f)
		if err != nil || p == "" {
			t.Fatalf("place %q, %v", p, err)
		}
		return p
	}
	first := place(path)
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	if got := place(path + "2"); got != first {
		t.Errorf("the file was at %q and is at %q", first, got)
	}
	if got := place(path); got == first {
		t.Errorf("two files are at %q", got)
	}
}
