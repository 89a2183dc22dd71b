package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// put writes a file through the sandbox. While it is being written nobody else may see it.
func put(t *testing.T, s *Sandbox, name, content string) error {
	t.Helper()
	w, err := s.Create(t.Context(), name)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write([]byte(content)); err != nil {
		return err
	}
	stage := w.(*fileWriter).stage.Name()
	if st, err := os.Stat(stage); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the staging file is open to others: %v %v", st.Mode(), err)
	}
	err = w.Commit()
	if _, gone := os.Stat(stage); !errors.Is(gone, fs.ErrNotExist) {
		t.Errorf("the staging file is still there: %v", gone)
	}
	return err
}

// look is a file's mode, owner and inode.
func look(t *testing.T, path string) *syscall.Stat_t {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t)
}

func TestNewFilesHaveTheUsualMode(t *testing.T) {
	s := open(t, Options{})
	if err := put(t, s, "f", "x"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Root(), "by the system"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	got, want := look(t, filepath.Join(s.Root(), "f")).Mode, look(t, filepath.Join(s.Root(), "by the system")).Mode
	if got != want || s.umask == 0 {
		t.Errorf("mode %o, want %o", got, want)
	}
}

func TestWriteKeepsAttributes(t *testing.T) {
	s := open(t, Options{})
	f := filepath.Join(s.Root(), "f")
	if err := os.WriteFile(f, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(f, 0o751|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(f, "user.pawl", []byte("kept"), 0); errors.Is(err, unix.ENOTSUP) {
		t.Log("this file system has no extended attributes")
	} else if err != nil {
		t.Fatal(err)
	}
	before := look(t, f)
	if err := put(t, s, "f", "new"); err != nil {
		t.Fatal(err)
	}
	after := look(t, f)
	if after.Ino == before.Ino || after.Mode != before.Mode {
		t.Errorf("written in place, or mode %o instead of %o", after.Mode, before.Mode)
	}
	value := make([]byte, 10)
	if n, err := unix.Getxattr(f, "user.pawl", value); !errors.Is(err, unix.ENOTSUP) &&
		string(value[:max(n, 0)]) != "kept" {
		t.Errorf("attribute %q, %v", value[:max(n, 0)], err)
	}
}

// Who is not root cannot give files away, and may write some whose directory it cannot write.
func TestWriteKeepsOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can lay files of several users")
		return
	}
	s := open(t, Options{})
	if err := os.Chmod(filepath.Dir(s.Root()), 0o755); err != nil {
		t.Fatal(err)
	}
	dirs := map[string]fs.FileMode{"open": 0o777, "closed": 0o755, "sticky": 0o777 | fs.ModeSticky}
	for name, mode := range dirs {
		dir := filepath.Join(s.Root(), name)
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		f := filepath.Join(dir, "f")
		if err := os.WriteFile(f, []byte("old and longer"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chown(f, 1234, 1235), os.Chmod(f, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, name string, owner uint32) {
		for dir := range dirs {
			f := filepath.Join(s.Root(), dir, name)
			if err := put(t, s, filepath.Join(dir, name), "new"); err != nil {
				t.Errorf("%s: %v", f, err)
				continue
			}
			content, _ := os.ReadFile(f)
			if st := look(t, f); st.Uid != owner || st.Mode&0o777 != 0o666 || string(content) != "new" {
				t.Errorf("%s: %q, owner %d, mode %o", f, content, st.Uid, st.Mode)
			}
		}
	}
	t.Run("another user", func(t *testing.T) {
		// The file system identity is the thread's, which ends with this goroutine.
		runtime.LockOSThread()
		if err := errors.Join(unix.Setfsgid(65534), unix.Setfsuid(65534)); err != nil {
			t.Fatal(err)
		}
		check(t, "f", 1234)
		if err := put(t, s, "closed/other", "x"); !errors.Is(err, sandbox.ErrPermission) {
			t.Errorf("a new file in a closed directory: %v", err)
		}
	})
	t.Run("root", func(t *testing.T) { check(t, "f", 1234) })
}

// A file that cannot be replaced because something is mounted on it is written in place.
func TestWriteToAMountPoint(t *testing.T) {
	s := open(t, Options{})
	f, other := filepath.Join(s.Root(), "f"), filepath.Join(s.Root(), "other")
	for _, name := range []string{f, other} {
		if err := os.WriteFile(name, []byte(strings.Repeat("old", 10)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(other, f, "", unix.MS_BIND, ""); errors.Is(err, unix.EPERM) {
		t.Log("this host lets nobody mount")
		return
	} else if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(f, unix.MNT_DETACH)
	if err := put(t, s, "f", "new"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(other); string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
}
