package loop

import (
	"sync"

	"github.com/pawl-dev/pawl/internal/fair"
)

// streams is how many answers of models may stream at once. Tenants whose loops wait take turns, and within a tenant
// the loop that came first is next; one tenant alone may have all. Safe for concurrent use.
type streams struct {
	mu    sync.Mutex
	free  int
	waits fair.Queue[*stream]
}

// stream is a place among those that stream, or in the queue for one.
type stream struct {
	granted chan struct{} // closed once its answer may stream
	waits   *fair.Item[*stream]
}

func newStreams(n int) *streams { return &streams{free: n} }

// ask takes a place, or queues for one. leave must follow.
func (s *streams) ask(tenant string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := &stream{granted: make(chan struct{})}
	one.waits = s.waits.Push(tenant, one)
	s.grant()
	return one
}

// leave gives a place back, be it one in the queue.
func (s *streams) leave(one *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-one.granted:
		s.free++
		s.grant()
	default:
		s.waits.Remove(one.waits)
	}
}

// grant gives free places to those whose turn it is. The caller holds mu.
func (s *streams) grant() {
	for s.free > 0 {
		one, ok := s.waits.Pop()
		if !ok {
			return
		}
		s.free--
		close(one.granted)
	}
}
