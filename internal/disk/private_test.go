package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPrivateDir(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "a", "b")
	if repaired, err := PrivateDir(dir); err != nil || repaired {
		t.Errorf("a new one: %v, %v", repaired, err)
	}
	if err := os.Chmod(dir, 0o775); err != nil {
		t.Fatal(err)
	}
	if repaired, err := PrivateDir(dir); err != nil || !repaired {
		t.Errorf("an open one: %v, %v", repaired, err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if repaired, err := PrivateDir(link); err != nil || repaired {
		t.Errorf("through a link: %v, %v", repaired, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := PrivateDir(file); err == nil {
		t.Error("a file is no directory")
	}
	other := "/proc/sys" // root's, and of a file system whose modes stay
	if os.Geteuid() == 0 {
		other = t.TempDir()
		if err := os.Chown(other, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := PrivateDir(other); err == nil || !strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("somebody else's: %v", err)
	}
}
