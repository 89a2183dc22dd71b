package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/mono"
)

const (
	// TTL is how long a lease lasts without renewal.
	TTL        = 15 * time.Second
	renewEvery = 4 * time.Second
	margin     = 3 * time.Second
)

// errLapsed ends an incarnation whose lease can no longer be proven.
var errLapsed = errors.New("the replica's lease has lapsed")

// Service keeps this process a live replica, one incarnation after another.
type Service struct {
	store Store
	self  Replica // ID is left to Run
	clock mono.Clock
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	id     string
	outage outage
}

// NewService makes a Service for a process that describes itself as self.
func NewService(store Store, self Replica, clock mono.Clock, log *slog.Logger) *Service {
	return &Service{store: store, self: self, clock: clock, log: log}
}

// ID is the present incarnation, "" while there is none.
func (s *Service) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// MayReap reports whether replicas whose lease has expired may count as dead.
func (s *Service) MayReap() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outage.over(s.clock())
}

// Silent reports whether the database does not answer: it was asked for the lease at least two seconds ago, and nothing
// has come since. An outage is noticed within seven seconds, as a lease is renewed every four.
func (s *Service) Silent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outage.silent(s.clock())
}

// asks notes that the database is asked.
func (s *Service) asks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage.asks(s.clock())
}

// answered notes that the database answered.
func (s *Service) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage.answered(s.clock())
}

func (s *Service) setID(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = id
}

// Incarnation is one life as a replica. ctx ends when its lease can no longer be proven. predecessors are dead for
// sure.
type Incarnation func(ctx context.Context, id string, predecessors []string) error

// Run registers and calls live, again with a new identity whenever a lease is lost, until live returns while the lease
// holds, or ctx ends. The first registration must succeed; later ones are tried until they do. When stop ends no
// further incarnation begins; the present one has to see that for itself.
func (s *Service) Run(ctx, stop context.Context, live Incarnation) error {
	for first := true; ; first = false {
		err := s.incarnation(ctx, stop, live)
		switch {
		case err == nil, ctx.Err() != nil, stop.Err() != nil:
			return nil
		case first && !errors.Is(err, errLapsed):
			return err
		}
		s.log.Error("this replica's lease was lost, starting over", "error", err)
		select {
		case <-ctx.Done():
		case <-stop.Done():
		case <-time.After(time.Second):
		}
	}
}

func (s *Service) incarnation(ctx, stop context.Context, live Incarnation) error {
	self := s.self
	self.ID = ident.New()
	trusted := s.clock() + TTL - margin
	registering, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	var predecessors []string
	s.asks()
	err := contain.Do(func() (err error) {
		predecessors, err = s.store.RegisterReplica(registering, self,
			TTL)
		return err
	})
	if err != nil {
		return fmt.Errorf("registering as a replica: %w", err)
	}
	s.answered()
	s.setID(self.ID)
	defer s.setID("")
	ctx, lapse := context.WithCancelCause(ctx)
	done := make(chan error, 1)
	go func() { done <- s.renew(ctx, lapse, self.ID, trusted) }()
	err = live(ctx, self.ID, predecessors)
	lapsed := context.Cause(ctx)
	lapse(nil)
	<-done
	if errors.Is(lapsed, errLapsed) {
		return lapsed
	}
	s.remove(ctx, self.ID)
	return err
}

// remove ends the lease, so that others need not wait for it to expire.
func (s *Service) remove(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := contain.Do(func() error { return s.store.RemoveReplica(ctx, id) }); err != nil {
		s.log.Warn("ending the replica's lease failed, it will expire", "error", err)
	}
}

// renew renews the lease and ends the incarnation when it cannot be proven any more.
func (s *Service) renew(ctx context.Context, lapse context.CancelCauseFunc, id string, trusted time.Duration) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	trust := time.NewTimer(trusted - s.clock())
	defer trust.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-trust.C:
			lapse(errLapsed)
			return nil
		case <-tick.C:
		}
		asked := s.clock()
		attempt, cancel := context.WithTimeout(ctx, trusted-s.clock())
		var ok bool
		s.asks()
		err := contain.Do(func() (err error) { ok, err = s.store.RenewReplica(attempt, id, TTL); return err })
		late := attempt.Err() != nil
		cancel()
		if err == nil {
			s.answered()
		}
		switch {
		case err != nil && late: // the lease lapses now, which is told
		case err != nil:
			s.log.Warn("renewing the replica's lease failed, trying again", "error", err)
		case !ok:
			lapse(errLapsed)
			return nil
		default:
			trusted = asked + TTL - margin
			trust.Reset(trusted - s.clock())
		}
	}
}
