package event

import (
	"context"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/wake"
)

// place is where one reader stands: what Run compares with the database for it. wakes listens to the lane that it
// follows, so that it looks when another replica has announced a change.
type place struct {
	hub   *hub
	wakes *wake.Subscription

	at struct {
		sync.Mutex // guards what follows
		position
	}
}

// position is what a reader has seen.
type position struct {
	lane string // "" as long as it follows none
	// reads is whether it reads the stream; seen is then how far it has.
	reads bool
	seen  int64
	// awaits is a submission whose end it waits for, "" for none. One that has begun ends with an event.
	awaits string
	begun  bool
}

func (p *place) move(f func(*position)) {
	p.at.Lock()
	defer p.at.Unlock()
	f(&p.at.position)
}

func (p *place) position() position {
	p.at.Lock()
	defer p.at.Unlock()
	return p.at.position
}

func (p *place) close() {
	p.wakes.Close()
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	delete(p.hub.places, p)
}

// Waiter waits for a submission to settle, without reading its events. Close it.
type Waiter struct{ place }

// Waiter makes a Waiter for a submission of the lane.
func (s *Service) Waiter(laneID, submissionID string) *Waiter {
	w := &Waiter{place{hub: s.hub, wakes: s.hub.bus.Subscribe(wake.Lane(laneID), wake.Submission(submissionID))}}
	w.at.position = position{lane: laneID, awaits: submissionID}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.places[&w.place] = struct{}{}
	return w
}

// Close ends the waiting.
func (w *Waiter) Close() { w.close() }

// Wait returns when the submission may have changed since the Waiter was made or Wait last returned, and after limit at
// the latest. begun is whether it was running when the caller last looked. Fails with ctx's error.
func (w *Waiter) Wait(ctx context.Context, begun bool, limit time.Duration) error {
	w.move(func(at *position) { at.begun = begun })
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-w.wakes.C:
	}
	return nil
}
