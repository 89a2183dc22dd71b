package link

import (
	"context"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/mono"
	"github.com/pawl-dev/pawl/services/control/link/peer"
)

const (
	// placeFor is how long an executor is believed to be where it was found. A replica that has a connection whose
	// executor is gone, and does not know it yet, takes frames for it in vain.
	placeFor = time.Second
	// placesKept bounds how many are remembered.
	placesKept = 4096
)

// places remembers which replicas executors are connected to, so that a frame costs no query. What is remembered may be
// wrong: the replica says that the executor is not there, and it is looked for again.
type places struct {
	clock mono.Clock
	find  func(ctx context.Context, executor string) (addr string, err error)

	mu    sync.Mutex // guards found
	found map[string]place
}

type place struct {
	addr  string
	until time.Duration // on the clock
}

// newPlaces makes places. find is the address of the replica that an executor is connected to, or peer.ErrNotHere.
func newPlaces(clock mono.Clock, find func(context.Context, string) (string, error)) *places {
	return &places{clock: clock, find: find, found: map[string]place{}}
}

// reach calls f with the address of the replica that an executor is connected to. If what was remembered is wrong it is
// called again with the one that is found then.
func (p *places) reach(ctx context.Context, executor string, f func(addr string) error) error {
	if addr, known := p.known(executor); known {
		err := f(addr)
		if err == nil || ctx.Err() != nil {
			return err
		}
		p.forget(executor)
	}
	addr, err := p.find(ctx, executor)
	if err != nil {
		return err
	}
	if err := f(addr); err != nil {
		return err
	}
	p.remember(executor, addr)
	return nil
}

func (p *places) known(executor string) (addr string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.found[executor]
	return at.addr, ok && p.clock() < at.until
}

func (p *places) remember(executor, addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.found) >= placesKept {
		clear(p.found)
	}
	p.found[executor] = place{addr, p.clock() + placeFor}
}

func (p *places) forget(executor string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.found, executor)
}

// placeOf reads where an executor is connected, if it is at another replica.
func (s *Server) placeOf(ctx context.Context, executor string) (string, error) {
	e, err := s.deps.Fleet.GetExecutor(ctx, executor)
	if err == nil && !s.elsewhere(e) {
		err = peer.ErrNotHere
	}
	return e.ReplicaAddr, err
}
