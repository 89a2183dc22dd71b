package local

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// tree is a sandbox whose root is in dir/ws, with an executor's data in it, and things that lead to both.
func tree(t *testing.T) (s *Sandbox, dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"ws/sub/deep", "ws/data/calls", "other/below", "mount"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{"ws/up": "..", "ws/here": ".", "ws/far": "../other/below", "other/ws": "../ws"}
	for link, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"ws/file", "ws/sub/deep/file", "ws/data/journal", "other/file", "other/below/file"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err = New(Options{Root: filepath.Join(dir, "ws"), Data: filepath.Join(dir, "ws", "data")})
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func intact(t *testing.T, dir, after string, files ...string) {
	t.Helper()
	for _, f := range files {
		if got, err := os.ReadFile(filepath.Join(dir, f)); err != nil || string(got) != f {
			t.Fatalf("after %s: %s: %q, %v", after, f, got, err)
		}
	}
}

// The working directory, the data, and what they are in stay, whatever the path that leads there.
func TestRemoveLeavesTheWorkspace(t *testing.T) {
	s, dir := tree(t)
	for _, path := range []string{
		".", "", "/", "..", "../", "./.", s.Root(), s.Root() + "/", "sub/..", "sub/../../ws", "up/ws",
		"up/other/ws/here/.", "up", "here/.",
		"far/../../ws", filepath.Dir(s.Root()), "data", "data/calls/..", "here/data/", "up/ws/data",
	} {
		err := s.Remove(t.Context(), path, true, true)
		// A link itself is removed, not where it leads, unless the path goes on behind it.
		if path == "up" {
			if err != nil {
				t.Errorf("%q: %v", path, err)
			}
			if err := os.Symlink("..", filepath.Join(dir, "ws/up")); err != nil {
				t.Fatal(err)
			}
		} else if !errors.Is(err, sandbox.ErrInvalidArg) {
			t.Errorf("%q: %v", path, err)
		}
		intact(t, dir, path, "ws/file", "ws/sub/deep/file", "ws/data/journal", "other/file", "other/below/file")
	}
}

// A path means what the kernel takes it for: `..` behind a link is where the link leads.
func TestDotDotBehindALink(t *testing.T) {
	s, dir := tree(t)
	if i, err := s.Stat(t.Context(), "far/../file"); err != nil || i.Size != int64(len("other/file")) {
		t.Errorf("stat: %+v, %v", i, err)
	}
	if at, err := s.Locate(t.Context(), "far/../new/file"); err != nil || at != filepath.Join(dir, "other/new/file") {
		t.Errorf("locate: %s, %v", at, err)
	}
	w, err := s.Create(t.Context(), "far/../file")
	if err == nil {
		_, err = w.Write([]byte("new"))
	}
	if err == nil {
		err = w.Commit()
	}
	if got, rerr := os.ReadFile(filepath.Join(dir, "other/file")); err != nil || rerr != nil || string(got) != "new" {
		t.Errorf("create: %q, %v, %v", got, err, rerr)
	}
	intact(t, dir, "a write", "ws/file")
	if err := s.MakeDir(t.Context(), "far/../made/deep", true); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "other/made/deep")); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), "far/../below", true, false); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "other/below")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("remove: %v", err)
	}
	intact(t, dir, "a removal", "ws/file", "ws/sub/deep/file")
}

// Two paths to one place have one name, so that two edits of it do not run at once.
func TestOneNameForOnePlace(t *testing.T) {
	s, dir := tree(t)
	want := filepath.Join(dir, "other/file")
	for _, path := range []string{
		"far/../file", "up/other/file", "../other/./file", "/" + want, "up/other/ws/../other/file",
	} {
		if got, err := s.Locate(t.Context(), path); err != nil || got != want {
			t.Errorf("%s: %s, %v", path, got, err)
		}
	}
}

// A bind mount of the workspace, of its parent or of the data directory is what it shows. The test runs itself where it
// may mount.
func TestRemoveLeavesWhatIsMounted(t *testing.T) {
	const inside = "PAWL_TEST_MOUNTS"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestRemoveLeavesWhatIsMounted$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Fatalf("%v (the test needs root or unprivileged user namespaces):\n%s", err, out)
		}
		return
	}
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	s, dir := tree(t)
	at := filepath.Join(dir, "mount")
	for _, from := range []string{"ws", ".", "ws/data"} {
		if err := syscall.Mount(filepath.Join(dir, from), at, "", syscall.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{at, at + "/", "up/mount", "up/mount/."} {
			if err := s.Remove(t.Context(), path, true, true); !errors.Is(err, sandbox.ErrInvalidArg) {
				t.Errorf("%s at %s: %v", from, path, err)
			}
		}
		if err := syscall.Unmount(at, 0); err != nil {
			t.Fatal(err)
		}
		intact(t, dir, from, "ws/file", "ws/sub/deep/file", "ws/data/journal")
	}
	// Also below what is removed.
	below := filepath.Join(dir, "other", "below", "mount")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(s.Root(), below, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), filepath.Join(dir, "other"), true, false); !errors.Is(err, sandbox.ErrInvalidArg) {
		t.Errorf("what holds a mount of the workspace: %v", err)
	}
	intact(t, dir, "what holds a mount", "ws/file", "ws/sub/deep/file", "ws/data/journal")
	if err := syscall.Unmount(below, 0); err != nil {
		t.Fatal(err)
	}
}

// The files of this process that the kernel shows are not written either.
func TestOwnProcessIsNotWritten(t *testing.T) {
	s, _ := tree(t)
	for _, path := range []string{"/proc/self/oom_score_adj", "/proc/self/mem", "/proc/thread-self/comm"} {
		w, err := s.Create(t.Context(), path)
		if err == nil {
			_, err = w.Write([]byte("0"))
		}
		if err == nil {
			err = w.Commit()
		}
		if !errors.Is(err, sandbox.ErrPermission) && !errors.Is(err, sandbox.ErrNotFound) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
