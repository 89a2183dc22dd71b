package hostfile

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

func TestReadsFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	want := bytes.Repeat([]byte("content\x00\xff\n"), 1000)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	f, st, err := Open(path, 0)
	if err != nil || st.Size() != int64(len(want)) {
		t.Fatal(err, st)
	}
	defer f.Close()
	if err := iotest.TestReader(f, want); err != nil {
		t.Error(err)
	}
	f.Close()
	if _, err := f.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
}

// What the system refuses is told with its reason.
func TestFailedRead(t *testing.T) {
	f, _, err := Open(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, sandbox.ErrIO) ||
		!strings.Contains(err.Error(), "is a directory") {
		t.Errorf("%v", err)
	}
}

// What would wait says so instead. A pipe stands for the files of the kernel that wait, which only root may read.
func TestNeverWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, err := Open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, err := f.Read(b); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := f.Read(b); n != 0 || !errors.Is(err, sandbox.ErrInvalidArg) {
		t.Errorf("%d, %v", n, err)
	}
}
