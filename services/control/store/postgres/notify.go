package postgres

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pawl-dev/pawl/internal/await"
)

const (
	// channel carries payloads of the form "sender id id id".
	channel = "pawl"
	// maxPayload keeps a payload below Postgres' limit of 8,000 bytes.
	maxPayload = 7500
	// coalesce is how long hints are collected. Sent with every transaction they would cost four fifths of the commits.
	coalesce = 10 * time.Millisecond
	// maxNotes bounds the hints that wait while the database is away.
	maxNotes = 10_000
)

// notes are the hints that wait to be sent.
type notes struct {
	sender string
	filled await.Signal // has an item when there may be something to send

	mu      sync.Mutex // guards pending
	pending map[string]struct{}
}

func newNotes() *notes {
	return &notes{sender: uuid.NewString(), filled: await.NewSignal(), pending: map[string]struct{}{}}
}

// Shared implements store.Notifier.
func (s *Store) Shared() bool { return true }

// Notify implements store.Notifier.
func (s *Store) Notify(sessionIDs ...string) {
	n := s.notes
	n.mu.Lock()
	for _, id := range sessionIDs {
		if len(n.pending) < maxNotes {
			n.pending[id] = struct{}{}
		}
	}
	n.mu.Unlock()
	n.filled.Set()
}

// take removes all hints, packed.
func (n *notes) take() []string {
	n.mu.Lock()
	pending := n.pending
	n.pending = map[string]struct{}{}
	n.mu.Unlock()
	var payloads []string
	var b strings.Builder
	for id := range pending {
		if b.Len() > 0 && b.Len()+1+len(id) > maxPayload {
			payloads = append(payloads, b.String())
			b.Reset()
		}
		if b.Len() == 0 {
			b.WriteString(n.sender)
		}
		b.WriteString(" " + id)
	}
	if b.Len() > 0 {
		payloads = append(payloads, b.String())
	}
	return payloads
}

// notifySQL commits asynchronously: a hint that a crash takes is a hint that is lost, and not worth a sync.
const notifySQL = `
SELECT pg_notify('` + channel + `', p) FROM set_config('synchronous_commit', 'off', true), unnest($1::text[]) AS p`

// sendNotes sends hints off the path of those who give them, until ctx ends. Hints that cannot be sent are dropped:
// whoever waits for one polls too.
func (s *Store) sendNotes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.notes.filled:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(coalesce):
		}
		payloads := s.notes.take()
		if len(payloads) == 0 {
			continue
		}
		if err := bounded(ctx, func(ctx context.Context) error {
			_, err := s.pool.Exec(ctx, notifySQL, payloads)
			return err
		}); err != nil && ctx.Err() == nil {
			s.opts.Log.Debug("hints to other replicas were lost", "error", err)
		}
	}
}
