package memlimit

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// startOver is how long after Release began the start is over: what initialises itself when it is first used, has.
	startOver = time.Second
	// lookEvery is how often Release looks, and so about how long a burst's memory outlives the burst.
	lookEvery = 5 * time.Second
	// leastCalm is how much a process may always allocate in lookEvery and be at rest.
	leastCalm = 1 << 20
	// worthwhile is how much a process must have allocated at least for a collection.
	worthwhile = 4 << 20
	// worthLeaving is how many bytes of its program it must have touched for their pages to be left: what is used again
	// is mapped again.
	worthLeaving = 2 << 20
)

// Release gives memory back to the system when the process has come to rest, until ctx ends. Without it the garbage of
// a burst stays for minutes, as nothing is allocated any more and so nothing is collected, and the pages of the program
// that the start or the burst has touched stay for good.
func Release(ctx context.Context, log *slog.Logger) {
	start := time.NewTimer(startOver)
	defer start.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var rest resting
	for {
		select {
		case <-ctx.Done():
			return
		case <-start.C:
			rest.leave(log)
		case <-tick.C:
			rest.look(log)
		}
	}
}

// usage is what the runtime says of the heap, in bytes.
type usage struct {
	allocated uint64 // ever
	live      uint64 // in use, by the last collection
}

func heap() usage {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return usage{s[0].Value.Uint64(), s[1].Value.Uint64()}
}

// resting knows how a process was when it was looked at the last time.
type resting struct {
	last      usage
	collected uint64 // what had been allocated when the last garbage was given back
	pages     uint64 // of files that were resident after they were left, or at the last look if they were fewer
}

// look gives back what is worth it, if the process is at rest.
func (r *resting) look(log *slog.Logger) {
	now := heap()
	atRest := now.allocated-r.last.allocated < calm(now)
	if atRest && now.allocated-r.collected >= worth(now) {
		runtime.GC() // what pools keep goes with the second collection
		debug.FreeOSMemory()
		now = heap()
		r.collected = now.allocated
	}
	r.last = now
	pages, err := filePages()
	if err != nil {
		log.Debug("how much of the program is resident is not known", "error", err)
		return
	}
	r.pages = min(r.pages, pages)
	if atRest && pages-r.pages >= worthLeaving {
		r.leave(log)
	}
}

// calm is how much a process allocates at most, in lookEvery, that is at rest: the more connections and watchers it
// has that only wait, the more it allocates for their timers and pings.
func calm(u usage) uint64 { return max(leastCalm, u.live/32) }

// worth is how much a process must have allocated for a collection, which touches all that is in use.
func worth(u usage) uint64 { return max(worthwhile, u.live/8) }

// leave gives back the pages of the program.
func (r *resting) leave(log *slog.Logger) {
	err := leavePages()
	if err == nil {
		r.pages, err = filePages()
	}
	if err != nil {
		log.Debug("pages of the program that are not in use stay resident", "error", err)
	}
}
