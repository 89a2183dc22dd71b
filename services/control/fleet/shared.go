package fleet

import (
	"context"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/mono"
)

// queryLimit bounds a query that many may wait for. The store tries again while the database is away.
const queryLimit = 10 * time.Second

// shared makes one query for all who ask at once. An answer is never older than the question: who asks while a query is
// under way waits for the next one. Safe for concurrent use.
type shared[T any] struct {
	query func(context.Context) (T, error)
	clock mono.Clock

	mu      sync.Mutex // guards what follows
	running bool
	next    *answer[T] // nil while nobody waits for the next query
	last    *answer[T] // of the last query to begin, nil when that is out of date
}

// answer is what all who share a query get. Its value is read only.
type answer[T any] struct {
	begun time.Duration // when the query began
	done  chan struct{} // closed when the rest is set
	value T
	err   error
}

func newShared[T any](query func(context.Context) (T, error)) *shared[T] {
	return &shared[T]{query: query, clock: mono.New()}
}

// get returns the answer of a query that begins after the call, or ctx's error.
func (s *shared[T]) get(ctx context.Context) (T, error) {
	s.mu.Lock()
	if s.next == nil {
		s.next = &answer[T]{done: make(chan struct{})}
	}
	a := s.next
	if !s.running {
		s.running = true
		go s.run(context.WithoutCancel(ctx))
	}
	s.mu.Unlock()
	return a.wait(ctx)
}

// recent is get where the answer of a query will do that began at most age ago.
func (s *shared[T]) recent(ctx context.Context, age time.Duration) (T, error) {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if last != nil && s.clock.Since(last.begun) <= age {
		if value, err := last.wait(ctx); err == nil {
			return value, nil
		}
	}
	return s.get(ctx)
}

func (a *answer[T]) wait(ctx context.Context) (value T, err error) {
	select {
	case <-a.done:
		return a.value, a.err
	case <-ctx.Done():
		return value, ctx.Err()
	}
}

// forget says that queries which have begun are out of date.
func (s *shared[T]) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = nil
}

// run makes queries until nobody waits for one.
func (s *shared[T]) run(ctx context.Context) {
	for a := s.begin(); a != nil; a = s.begin() {
		a.err = contain.Do(func() (err error) {
			ctx, cancel := context.WithTimeout(ctx, queryLimit)
			defer cancel()
			a.value, err = s.query(ctx)
			return err
		})
		close(a.done)
	}
}

// begin takes those who wait; nil ends run.
func (s *shared[T]) begin() *answer[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.next
	if s.next, s.running = nil, a != nil; s.running {
		a.begun, s.last = s.clock(), a
	}
	return a
}
