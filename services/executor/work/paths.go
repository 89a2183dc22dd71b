package work

import (
	"context"
	"sync"
)

// keyed is a set of locks by name. The zero value is ready.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*keyLock
}

type keyLock struct {
	taken chan struct{} // capacity 1
	users int
}

// lock waits for a name or the end of ctx.
func (k *keyed) lock(ctx context.Context, name string) (unlock func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyLock{}
	}
	l := k.locks[name]
	if l == nil {
		l = &keyLock{taken: make(chan struct{}, 1)}
		k.locks[name] = l
	}
	l.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, name)
		}
	}
	select {
	case l.taken <- struct{}{}:
		return func() { <-l.taken; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// lockPath locks the place that a path leads to, by whatever path.
func (s *Service) lockPath(ctx context.Context, p string) (func(), error) {
	name, err := s.cfg.Sandbox.Locate(ctx, p)
	if err != nil {
		return nil, err
	}
	return s.paths.lock(ctx, name)
}
