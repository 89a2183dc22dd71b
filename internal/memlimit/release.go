package memlimit

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// lookEvery is how often Release looks, and so about how long a burst's memory outlives the burst.
	lookEvery = 10 * time.Second
	// calm is how much a process allocates at most, in lookEvery, that is at rest.
	calm = 8 << 20
	// worthwhile is how much there must be to give back: a collection touches all that is in use.
	worthwhile = 16 << 20
)

// Release gives memory back to the system when the process has come to rest, until ctx ends. Without it the garbage of
// a burst stays for minutes: nothing is allocated any more, so nothing is collected.
func Release(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last := heap()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := heap()
		if due(last, now) {
			debug.FreeOSMemory()
			now = heap()
		}
		last = now
	}
}

// usage is what the runtime says of the heap, in bytes.
type usage struct {
	allocated uint64 // ever
	live      uint64 // in use, by the last collection
	objects   uint64 // in use or garbage
	free      uint64 // neither, and not given back
}

func heap() usage {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	return usage{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64(), s[3].Value.Uint64()}
}

// due reports whether the process is at rest and holds what it could give back.
func due(last, now usage) bool {
	garbage := now.objects - min(now.objects, now.live)
	return now.allocated-last.allocated < calm && garbage+now.free >= worthwhile
}
