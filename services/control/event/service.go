package event

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// Log is what a Service reads.
type Log interface {
	Events(ctx context.Context, sessionID string, after int64, limit int) ([]Event, error)
	EventHeads(ctx context.Context, sessionIDs []string) (map[string]int64, error)
	Settled(ctx context.Context, submissionIDs []string) ([]string, error)
	Entries(ctx context.Context, sessionID string, after int64, limit int) ([]session.Entry, error)
}

// Service lets clients watch streams from any position, at any replica.
type Service struct {
	log Log
	hub *hub
}

// NewService makes a Service on a log. Run must run for streams that other replicas append to to be seen.
func NewService(log Log, bus *wake.Bus) *Service { return &Service{log: log, hub: newHub(bus)} }

// Publish hands events of a lane to the watchers in this process, after their commit. Calls for one lane are in order
// of seq. key is that of the lane's session.
func (s *Service) Publish(laneID string, key session.Key, events []Event) {
	s.hub.offer(laneID, key, events)
	for i := range events {
		if e := &events[i]; e.Type == Started || e.Type == RunStarted || e.Type == Settled {
			s.hub.bus.Publish(wake.Submission(e.SubmissionID))
		}
	}
}

// Watched reports whether anybody here watches the session as it goes on.
func (s *Service) Watched(key session.Key) bool {
	return s.hub.any(key, func(sub *Subscription) bool { return sub.deltas })
}

// WatchedTask reports whether anybody here wants the deltas of a sub-agent of the session: task is its Loop.Task. The
// deltas of others are not worth a seq: nobody is told, and the entries hold what they came to.
func (s *Service) WatchedTask(key session.Key, task string) bool {
	return s.hub.any(key, func(sub *Subscription) bool { return sub.deltas && sub.want.deltasOf(task) })
}

// Subscribe takes a place in a session's live events, before or after it exists. Events published from now on reach it.
func (s *Service) Subscribe(key session.Key, want Want) *Subscription {
	return s.hub.subscribe(key, want, true)
}

// SubscribeToEnd is Subscribe for a reader that waits for the end of a submission. All events of the root reach it, but
// it does not count as one that watches: deltas of the model's answer need not be committed for it.
func (s *Service) SubscribeToEnd(key session.Key) *Subscription {
	return s.hub.subscribe(key, Want{Children: NoChildren}, false)
}
