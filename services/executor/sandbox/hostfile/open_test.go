package hostfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Nothing leads to what the kernel shows of this process to itself: no name for it, no link, no open directory.
func TestOwnProcessIsNotShown(t *testing.T) {
	dir := t.TempDir()
	link := func(to string) string {
		from := filepath.Join(dir, fmt.Sprint("link", len(to)))
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
		return from
	}
	secret, err := os.Create(filepath.Join(dir, "deleted"))
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	self, thread := fmt.Sprint("/proc/", os.Getpid()), fmt.Sprint("/proc/", unix.Gettid())
	for _, path := range []string{
		"/proc/self/environ", "/proc/thread-self/environ", self + "/environ", thread + "/environ", self + "/maps",
		self + "/task/" + fmt.Sprint(unix.Gettid()) + "/environ", link("/proc/self") + "/environ", link(self + "/maps"),
		"/dev/../proc/./self/smaps", fmt.Sprintf("/proc/self/fd/%d", secret.Fd()),
		"/proc/self/root/etc/passwd", "/proc/self/exe",
	} {
		if f, _, err := Open(path, 0); !errors.Is(err, sandbox.ErrPermission) {
			t.Errorf("%s: %v", path, err)
			if err == nil {
				f.Close()
			}
		}
	}
	for _, path := range []string{"/proc/self", "/proc/self/fd", thread, "/proc/self/task", "/proc/self/cwd"} {
		if d, err := OpenDir(path); !errors.Is(err, sandbox.ErrPermission) {
			t.Errorf("%s: %v", path, err)
			if err == nil {
				d.Close()
			}
		}
	}
}

// What is about the host, or about others, is opened as ever; a link that leads nowhere is an error of its own.
func TestOtherFilesOfTheKernel(t *testing.T) {
	parent := fmt.Sprint("/proc/", os.Getppid(), "/stat")
	for _, path := range []string{"/proc/meminfo", "/proc/sys/kernel/ostype", parent} {
		f, _, err := Open(path, 0)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		f.Close()
	}
	d, err := OpenDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(loop, 0); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
}
