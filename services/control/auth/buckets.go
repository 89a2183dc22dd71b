package auth

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxBuckets bounds how many names are remembered.
const maxBuckets = 4096

// buckets are token buckets by name. All methods may be called concurrently.
type buckets struct {
	mu  sync.Mutex // guards all
	all map[string]*rate.Limiter
}

func newBuckets() *buckets { return &buckets{all: map[string]*rate.Limiter{}} }

// find is the bucket with the name, nil if there is none: it is full then.
func (b *buckets) find(name string) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all[name]
}

// get is the bucket with the name, made if it is not there.
func (b *buckets) get(name string, limit rate.Limit, burst int) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all[name] == nil {
		b.forget(time.Now())
		b.all[name] = rate.NewLimiter(limit, burst)
	}
	return b.all[name]
}

// forget makes room for one more: full ones go first, of which nothing is forgotten.
func (b *buckets) forget(now time.Time) {
	if len(b.all) < maxBuckets {
		return
	}
	for name, l := range b.all {
		if l.TokensAt(now) >= float64(l.Burst()) {
			delete(b.all, name)
		}
	}
	if len(b.all) >= maxBuckets {
		clear(b.all)
	}
}
