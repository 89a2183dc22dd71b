package keeper

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A command that writes nothing takes no buffer while it runs, and what it does write arrives.
func TestSilentCommandsHoldNoBuffer(t *testing.T) {
	made := atomic.Int64{}
	old := buffers.New
	buffers.New = func() any { made.Add(1); return old() }
	defer func() { buffers.New = old }()
	const many = 200
	var captures []*capture
	var writers []int
	for i := range many {
		r, w, err := outputPipe()
		if err != nil {
			t.Fatal(err)
		}
		c := newCapture(r, filepath.Join(t.TempDir(), strconv.Itoa(i)), 1<<20, func() {})
		captures, writers = append(captures, c), append(writers, w)
		go c.pump()
	}
	for i, w := range writers {
		if _, err := unix.Write(w, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 { // the others are stopped while somebody holds their pipe
			unix.Close(w)
		} else {
			captures[i].stop()
			defer unix.Close(w)
		}
		<-captures[i].done
		if size, cut, err := captures[i].finish(""); size != 5 || cut != 0 || err != nil {
			t.Fatalf("%d: %d bytes, %d cut, %v", i, size, cut, err)
		}
		if got, err := os.ReadFile(captures[i].path); err != nil || !bytes.Equal(got, []byte("hello")) {
			t.Fatalf("%d: %q, %v", i, got, err)
		}
	}
	if n := made.Load(); n > many/2 {
		t.Errorf("%d buffers were made for %d commands", n, many)
	}
}
