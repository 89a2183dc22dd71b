package memlimit

import (
	"log/slog"
	"runtime"
	"testing"
)

// sink keeps what a test allocates on the heap.
var sink []byte

// What a burst leaves behind is given back once, when the process has come to rest.
func TestABurstIsGivenBackAtRest(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	stats := func() (m runtime.MemStats) {
		runtime.ReadMemStats(&m)
		return m
	}
	r := &resting{}
	r.leave(log)
	r.look(log)
	sink = make([]byte, 64<<20)
	for i := range sink {
		sink[i] = 1
	}
	runtime.GC() // it is in use
	sink = nil
	before := stats()
	r.look(log)
	if n := stats().NumForcedGC - before.NumForcedGC; n > 0 {
		t.Fatal("the process was not at rest, and was made to collect")
	}
	r.look(log)
	after := stats()
	if after.HeapAlloc > 16<<20 || after.HeapReleased < before.HeapReleased+48<<20 {
		t.Errorf("%d bytes are in use, %d were given back", after.HeapAlloc, after.HeapReleased-before.HeapReleased)
	}
	for range 3 {
		r.look(log)
	}
	if n := stats().NumForcedGC - after.NumForcedGC; n > 0 {
		t.Errorf("%d collections of what was collected already", n)
	}
}

// The more is in use, the more a collection costs.
func TestACollectionMustBeWorthIt(t *testing.T) {
	for live, want := range map[uint64]uint64{0: 4 << 20, 32 << 20: 4 << 20, 800 << 20: 100 << 20} {
		if got := worth(usage{live: live}); got != want {
			t.Errorf("%d bytes in use: %d, want %d", live, got, want)
		}
	}
}

// A process with many watchers that wait allocates for their timers and pings, and is at rest.
func TestWhoHasMuchInUseIsAtRestWithMoreAllocations(t *testing.T) {
	for live, want := range map[uint64]uint64{0: 1 << 20, 32 << 20: 1 << 20, 320 << 20: 10 << 20} {
		if got := calm(usage{live: live}); got != want {
			t.Errorf("%d bytes in use: %d, want %d", live, got, want)
		}
		if u := (usage{live: live}); live > 128<<20 && calm(u) >= worth(u) {
			t.Errorf("%d bytes in use: at rest, each look would collect", live)
		}
	}
}

func TestTheRuntimeKnowsTheMetrics(t *testing.T) {
	used := make([]byte, 32<<20)
	runtime.GC()
	u := heap()
	runtime.KeepAlive(used)
	if u.allocated < 32<<20 || u.live < 32<<20 {
		t.Errorf("%+v after 32 MiB were allocated", u)
	}
}
