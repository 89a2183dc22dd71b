package event

import (
	"sync"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// What a watcher may lag behind before it is sent back to the log.
const (
	maxBuffered = 2048 // events
	maxBytes    = 512 << 10
)

// hub hands committed events to the watchers in this process, and knows where each reader stands.
type hub struct {
	bus *wake.Bus

	mu     sync.Mutex // guards what follows
	topics map[session.Key]map[*Subscription]struct{}
	places map[*place]struct{}
}

// Subscription is one watcher's place in a session's live events. Close it.
type Subscription struct {
	place
	key    session.Key
	deltas bool // of the root are wanted as they come
	want   Want
	// ready holds a token when buf or lost may have changed.
	ready await.Signal

	mu    sync.Mutex // guards what follows
	buf   []offered
	bytes int  // of buf
	size  int  // events in buf
	lost  bool // events were dropped: read the log
}

// offered are events of a lane. A session that is deleted and begun again has the same key and another lane.
type offered struct {
	laneID string
	events []Event
}

func newHub(bus *wake.Bus) *hub {
	return &hub{bus: bus, topics: map[session.Key]map[*Subscription]struct{}{}, places: map[*place]struct{}{}}
}

func (h *hub) subscribe(key session.Key, want Want, deltas bool) *Subscription {
	s := &Subscription{
		place: place{hub: h, wakes: h.bus.Subscribe()}, key: key, want: want, deltas: deltas,
		ready: await.NewSignal(),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.places[&s.place] = struct{}{}
	if h.topics[key] == nil {
		h.topics[key] = map[*Subscription]struct{}{}
	}
	h.topics[key][s] = struct{}{}
	return s
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.close()
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.hub.topics[s.key], s)
	if len(s.hub.topics[s.key]) == 0 {
		delete(s.hub.topics, s.key)
	}
}

// any reports whether f holds of any subscription of the session.
func (h *hub) any(key session.Key, f func(*Subscription) bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.topics[key] {
		if f(s) {
			return true
		}
	}
	return false
}

func (h *hub) offer(laneID string, key session.Key, events []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.topics[key] {
		s.offer(laneID, events)
	}
}

func (s *Subscription) offer(laneID string, events []Event) {
	bytes := 0
	for i := range events {
		bytes += events[i].Weight()
	}
	s.mu.Lock()
	if s.lost || s.size+len(events) > maxBuffered || s.bytes+bytes > maxBytes {
		s.buf, s.bytes, s.size, s.lost = nil, 0, 0, true
	} else {
		s.buf, s.bytes, s.size = append(s.buf, offered{laneID, events}), s.bytes+bytes, s.size+len(events)
	}
	s.mu.Unlock()
	s.ready.Set()
}

// take returns what came of a lane since the last take; lost says that some was dropped and the log has to be read.
func (s *Subscription) take(laneID string) (events []Event, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.buf {
		if o.laneID == laneID {
			events = append(events, o.events...)
		}
	}
	lost = s.lost
	s.buf, s.bytes, s.size, s.lost = nil, 0, 0, false
	return events, lost
}

// Awaits says that a submission may end without an event, as one does that is aborted before it begins: the log is read
// again once it has settled. "" is that there is no such submission.
func (s *Subscription) Awaits(submissionID string) {
	s.move(func(at *position) { at.awaits = submissionID })
}
