package platformtest

import (
	"context"
	"sync"
)

// Shared implements store.Notifier.
func (d *Database) Shared() bool { return !d.alone }

// Notify implements store.Notifier.
func (d *Database) Notify(sessionIDs ...string) {
	d.mu.Lock()
	mute := d.dead || d.frozen != nil || d.lost != nil
	d.mu.Unlock()
	if !mute {
		d.hints.tell(d, sessionIDs)
	}
}

// Listen implements store.Notifier.
func (d *Database) Listen(ctx context.Context, f func(sessionIDs []string)) error {
	return d.hints.listen(ctx, d, f)
}

// hints carries them between the replicas of a database.
type hints struct {
	mu        sync.Mutex
	listeners map[*Database]chan []string
}

func (h *hints) tell(from *Database, sessionIDs []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for d, c := range h.listeners {
		if d == from {
			continue
		}
		select {
		case c <- sessionIDs:
		default: // they are hints
		}
	}
}

func (h *hints) listen(ctx context.Context, d *Database, f func([]string)) error {
	c := make(chan []string, 64)
	h.mu.Lock()
	h.listeners[d] = c
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners, d)
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ids := <-c:
			f(ids)
		}
	}
}
