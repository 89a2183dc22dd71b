package auth

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pawl-dev/pawl/internal/errs"
)

const (
	// failureBurst is how many secrets a source may show that are nobody's, and failuresPerSecond how fast it may show
	// more.
	failureBurst      = 100
	failuresPerSecond = 5
	// maxSources bounds how many sources are remembered.
	maxSources = 4096
)

// ErrTooManyFailures refuses a secret that was not looked at.
var ErrTooManyFailures = errs.New(errs.ResourceExhausted, "TOO_MANY_FAILURES",
	"too many tokens from this address were not valid; check the token, and try again in a few seconds")

type sourceKey struct{}

// WithSource returns a context that carries the address of the host that a request comes from; "" is within this
// process, which is not limited.
func WithSource(ctx context.Context, source string) context.Context {
	return context.WithValue(ctx, sourceKey{}, source)
}

func sourceOf(ctx context.Context) string {
	source, _ := ctx.Value(sourceKey{}).(string)
	return source
}

// failures counts, per source, queries for secrets that were nobody's: nothing else limits who makes them.
type failures struct {
	mu      sync.Mutex // guards what follows
	sources map[string]*rate.Limiter
}

func newFailures() *failures { return &failures{sources: map[string]*rate.Limiter{}} }

// check fails when the source has shown too many.
func (f *failures) check(source string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.sources[source]; l != nil && l.TokensAt(time.Now()) < 1 {
		return ErrTooManyFailures
	}
	return nil
}

// count notes one more.
func (f *failures) count(source string) {
	if source == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.sources[source] == nil {
		f.forget(now)
		f.sources[source] = rate.NewLimiter(failuresPerSecond, failureBurst)
	}
	f.sources[source].AllowN(now, 1)
}

// forget makes room for one more source: those that have shown none for long go first.
func (f *failures) forget(now time.Time) {
	if len(f.sources) < maxSources {
		return
	}
	for source, l := range f.sources {
		if l.TokensAt(now) >= failureBurst {
			delete(f.sources, source)
		}
	}
	if len(f.sources) >= maxSources {
		clear(f.sources)
	}
}
