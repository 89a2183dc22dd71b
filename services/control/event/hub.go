package event

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/session"
)

// What a watcher may lag behind before it is sent back to the log.
const (
	maxBuffered = 2048 // events
	maxBytes    = 512 << 10
)

// hub hands committed events to the watchers in this process.
type hub struct {
	mu     sync.Mutex
	topics map[session.Key]map[*Subscription]struct{}
}

// Subscription is one watcher's place in a session's live events. Close it.
type Subscription struct {
	hub    *hub
	key    session.Key
	deltas bool // wanted, as they come
	// ready holds a token when buf, lost or poked may have changed.
	ready chan struct{}

	mu    sync.Mutex // guards what follows
	buf   []Event
	bytes int  // of buf
	lost  bool // events were dropped: read the log
	poked bool // the log may have grown elsewhere
	// session and seen are what is followed and how far, "" before Follow.
	session string
	seen    int64
	// awaits is the submission whose end may leave no event, "" for none.
	awaits string
}

// position is where a subscription stands.
type position struct {
	*Subscription
	session string
	seen    int64
	awaits  string
}

func newHub() *hub { return &hub{topics: map[session.Key]map[*Subscription]struct{}{}} }

func (h *hub) subscribe(key session.Key, deltas bool) *Subscription {
	s := &Subscription{hub: h, key: key, deltas: deltas, ready: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.topics[key] == nil {
		h.topics[key] = map[*Subscription]struct{}{}
	}
	h.topics[key][s] = struct{}{}
	return s
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	delete(s.hub.topics[s.key], s)
	if len(s.hub.topics[s.key]) == 0 {
		delete(s.hub.topics, s.key)
	}
}

func (h *hub) watched(key session.Key) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.topics[key] {
		if s.deltas {
			return true
		}
	}
	return false
}

// following returns the position of every subscription that is being followed.
func (h *hub) following() []position {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []position
	for _, subs := range h.topics {
		for s := range subs {
			s.mu.Lock()
			if s.session != "" {
				all = append(all, position{s, s.session, s.seen, s.awaits})
			}
			s.mu.Unlock()
		}
	}
	return all
}

func (s *Subscription) at(session string, seen int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session, s.seen = session, seen
}

func (h *hub) each(key session.Key, f func(*Subscription)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.topics[key] {
		f(s)
	}
}

func (s *Subscription) offer(events []Event) {
	bytes := 0
	for i := range events {
		bytes += events[i].Weight()
	}
	s.mu.Lock()
	if s.lost || len(s.buf)+len(events) > maxBuffered || s.bytes+bytes > maxBytes {
		s.buf, s.bytes, s.lost = nil, 0, true
	} else {
		s.buf, s.bytes = append(s.buf, events...), s.bytes+bytes
	}
	s.mu.Unlock()
	s.signal()
}

func (s *Subscription) poke() {
	s.mu.Lock()
	s.poked = true
	s.mu.Unlock()
	s.signal()
}

func (s *Subscription) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// take returns what came since the last take; stale says that the log has to be read.
func (s *Subscription) take() (events []Event, stale bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, stale = s.buf, s.lost || s.poked
	s.buf, s.bytes, s.lost, s.poked = nil, 0, false, false
	return events, stale
}

// Awaits says that a submission may end without an event, as one does that is aborted before it begins: the log is read
// again once it has settled. "" is that there is no such submission.
func (s *Subscription) Awaits(submissionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaits = submissionID
}

// Await returns when the submission may have settled: after its last event, after a poke, or after limit. It consumes
// events, so it is not for a subscription that is followed. Fails with ctx's error.
func (s *Subscription) Await(ctx context.Context, sessionID, submissionID string, limit time.Duration) error {
	s.at(sessionID, math.MaxInt64)
	s.Awaits(submissionID)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-s.ready:
		}
		events, stale := s.take()
		if stale {
			return nil
		}
		for _, e := range events {
			if e.Type == Settled && e.SubmissionID == submissionID {
				return nil
			}
		}
	}
}
