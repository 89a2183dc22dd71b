package event

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	pageSize = 256
	// pageBytes is how much content a page has at most, unless one event has more: a reader that takes nothing holds
	// one.
	pageBytes = 256 << 10
	// entryPage is how many of the entries that events refer to are read at a time: they may be large.
	entryPage = 16
	// tailEvery is how often the heads of watched streams are compared with the log, for what no hint told of.
	tailEvery = 500 * time.Millisecond
	// awaitTicks is how many of these there are to one look at the submissions whose end may leave no event.
	awaitTicks = 2
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

// NewService makes a Service on a log. Run must run for streams that grow elsewhere to be seen.
func NewService(log Log) *Service { return &Service{log: log, hub: newHub()} }

// Publish hands events to the watchers in this process, after their commit. Calls for one session are in order of seq.
func (s *Service) Publish(key session.Key, events []Event) {
	s.hub.each(key, func(sub *Subscription) { sub.offer(events) })
}

// Watched reports whether anybody here watches the session as it goes on.
func (s *Service) Watched(key session.Key) bool { return s.hub.watched(key) }

// Run looks for growth of the watched streams that was committed by other replicas, and for the end of awaited
// submissions, with one query each for all of them. It returns when ctx ends; a failed query is tried again at the next
// tick.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		subs := s.hub.following()
		s.tail(ctx, subs)
		if n%awaitTicks == 0 {
			s.await(ctx, subs)
		}
	}
}

// tail wakes the subscriptions whose streams have grown.
func (s *Service) tail(ctx context.Context, subs []position) {
	ids := distinct(subs, func(p position) string {
		if p.seen == math.MaxInt64 {
			return ""
		}
		return p.session
	})
	if len(ids) == 0 {
		return
	}
	heads, err := s.log.EventHeads(ctx, ids)
	if err != nil {
		slog.WarnContext(ctx, "comparing stream heads failed", "error", err)
	}
	for _, sub := range subs {
		if heads[sub.session] > sub.seen {
			sub.poke()
		}
	}
}

// await wakes the subscriptions whose submissions have settled.
func (s *Service) await(ctx context.Context, subs []position) {
	ids := distinct(subs, func(p position) string { return p.awaits })
	if len(ids) == 0 {
		return
	}
	settled, err := s.log.Settled(ctx, ids)
	if err != nil {
		slog.WarnContext(ctx, "looking for settled submissions failed", "error", err)
	}
	for _, sub := range subs {
		if sub.awaits != "" && slices.Contains(settled, sub.awaits) {
			sub.poke()
		}
	}
}

// distinct is what of gives, without "", each once.
func distinct(subs []position, of func(position) string) (ids []string) {
	for _, sub := range subs {
		if id := of(sub); id != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Poke says that streams may have grown, or that something about the sessions changed that left no event; nil is all
// sessions.
func (s *Service) Poke(sessionIDs []string) {
	for _, p := range s.hub.following() {
		if sessionIDs == nil || slices.Contains(sessionIDs, p.session) {
			p.poke()
		}
	}
}

// Subscribe takes a place in a session's live events, before or after it exists. Events published from now on reach it.
func (s *Service) Subscribe(key session.Key) *Subscription { return s.hub.subscribe(key, true) }

// SubscribeToEnd is Subscribe for a reader that waits for the end of a submission. All events reach it, but it does not
// count as one that watches: deltas of the model's answer need not be committed for it.
func (s *Service) SubscribeToEnd(key session.Key) *Subscription { return s.hub.subscribe(key, false) }

// Read returns one page of events with seq > after, entries and texts filled in; empty at the head.
func (s *Service) Read(ctx context.Context, sessionID string, after int64) ([]Event, error) {
	events, err := s.log.Events(ctx, sessionID, after, pageSize)
	if err != nil {
		return nil, fmt.Errorf("reading events after %d: %w", after, err)
	}
	return s.fill(ctx, sessionID, events)
}

// fill reads the entries that events refer to. It returns the first of the events, as many as a page may weigh.
func (s *Service) fill(ctx context.Context, sessionID string, events []Event) ([]Event, error) {
	need := map[int64]*session.Entry{}
	lo, hi := int64(0), int64(0)
	for _, e := range events {
		if seq := entryOf(e); seq > 0 {
			need[seq] = nil
			if lo == 0 || seq < lo {
				lo = seq
			}
			hi = max(hi, seq)
		}
	}
	read, bytes := max(0, lo-1), 0
	for len(need) > 0 && read < hi && (bytes < pageBytes || read < entryOf(events[0])) {
		entries, err := s.log.Entries(ctx, sessionID, read, int(min(hi-read, entryPage)))
		if err != nil {
			return nil, fmt.Errorf("reading the entries of events: %w", err)
		}
		if len(entries) == 0 {
			read = hi
			break
		}
		for i := range entries {
			if _, ok := need[entries[i].Seq]; ok {
				need[entries[i].Seq] = &entries[i]
				bytes += entries[i].Message.Weight()
			}
		}
		read = entries[len(entries)-1].Seq
	}
	weight := 0
	for i := range events {
		if entry := need[entryOf(events[i])]; entry != nil {
			if events[i].Settlement != nil {
				events[i].Settlement.Text = entry.Message.Text()
			} else {
				events[i].Entry = entry
			}
		}
		weight += events[i].Weight()
		if i > 0 && (weight > pageBytes || entryOf(events[i]) > read) {
			return slices.Clone(events[:i]), nil // what is left out is not held either
		}
	}
	return events, nil
}

func entryOf(e Event) int64 {
	if e.Settlement != nil {
		return e.Settlement.EntrySeq
	}
	return e.EntrySeq
}

// Follow yields the session's events with seq > after in batches: past ones from the log, then live, in order and
// without a gap but where the log has one. It fails with ErrCursorTooOld. An empty batch says that the log was read and
// had nothing new. It ends when ctx ends (without an error) or with the error of a read. With fresh, sub was taken
// before after was the head; else the log is read first.
func (s *Service) Follow(
	ctx context.Context, sub *Subscription, sessionID string, after int64, fresh bool,
) iter.Seq2[[]Event, error] {
	return func(yield func([]Event, error) bool) {
		stale := !fresh
		for {
			sub.at(sessionID, after)
			for stale {
				page, err := s.Read(ctx, sessionID, after)
				if err != nil {
					if ctx.Err() == nil {
						yield(nil, err)
					}
					return
				}
				if len(page) == 0 {
					stale = false
					if !yield(nil, nil) {
						return
					}
					break
				}
				after = page[len(page)-1].Seq
				if !yield(page, nil) {
					return
				}
			}
			sub.at(sessionID, after)
			select {
			case <-ctx.Done():
				return
			case <-sub.ready:
			}
			live, again := sub.take()
			stale = again
			for len(live) > 0 && live[0].Seq <= after {
				live = live[1:]
			}
			if len(live) == 0 {
				continue
			}
			if live[0].Seq != after+1 || live[len(live)-1].Seq != after+int64(len(live)) {
				stale = true
				continue
			}
			after += int64(len(live))
			if !yield(live, nil) {
				return
			}
		}
	}
}
