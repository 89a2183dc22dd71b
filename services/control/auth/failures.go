package auth

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
)

// failureBurst is how many secrets a source may show that are nobody's, and failuresPerSecond how fast it may show
// more.
const (
	failureBurst      = 100
	failuresPerSecond = 5
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
type failures struct{ sources *buckets }

func newFailures() *failures { return &failures{newBuckets()} }

// check fails when the source has shown too many.
func (f *failures) check(source string) error {
	if l := f.sources.find(source); l != nil && l.TokensAt(time.Now()) < 1 {
		return ErrTooManyFailures
	}
	return nil
}

// count notes one more.
func (f *failures) count(source string) {
	if source != "" {
		f.sources.get(source, failuresPerSecond, failureBurst).AllowN(time.Now(), 1)
	}
}
