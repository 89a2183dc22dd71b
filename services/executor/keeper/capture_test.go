package keeper

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A command that writes nothing takes no buffer while it runs, and what it does write arrives.
func TestSilentCommandsHoldNoBuffer(t *testing.T) {
	pool := &countingPool{}
	pool.Pool.New = func() any { return new([64 << 10]byte) }
	old := buffers
	buffers = pool
	defer func() { buffers = old }()
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
	waitFor(t, "every capture to look at its pipe", func() bool {
		return pool.taken.Load() >= many &&
			pool.out.Load() == 0
	})
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
		if err := captures[i].persist(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(captures[i].path); err != nil || !bytes.Equal(got, []byte("hello")) {
			t.Fatalf("%d: %q, %v", i, got, err)
		}
	}
}

// countingPool knows how many of its buffers are taken.
type countingPool struct {
	sync.Pool
	taken, out atomic.Int64
}

func (p *countingPool) Get() any  { p.taken.Add(1); p.out.Add(1); return p.Pool.Get() }
func (p *countingPool) Put(b any) { p.out.Add(-1); p.Pool.Put(b) }
