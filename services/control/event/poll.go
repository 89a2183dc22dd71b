package event

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
)

const (
	// tailEvery is how often the heads of watched streams are compared with the log, for what no hint told of.
	tailEvery = 500 * time.Millisecond
	// awaitTicks is how many of these there are to one look at the submissions that are waited for.
	awaitTicks = 2
)

// Run looks for what other replicas have committed and no hint told of: growth of the streams that are read here, with
// one query for all of them, and the end of submissions that are waited for, with another. What is not read or waited
// for costs nothing, nor does the stream of a lane that this replica owns: owns reports that, and must become false at
// most a second after the lane was taken away. A submission that has not begun may be ended by any replica.
//
// It returns when ctx ends; a failed query is tried again at the next tick.
func (s *Service) Run(ctx context.Context, owns func(laneID string) bool) error {
	for n := range await.Ticks(ctx, tailEvery) {
		readers := s.hub.readers()
		s.tail(ctx, readers, owns)
		if n%awaitTicks == 0 {
			s.await(ctx, readers, owns)
		}
	}
	return nil
}

// reader is a place and what it had seen when it was asked.
type reader struct {
	*place
	position
}

func (h *hub) readers() (all []reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p := range h.places {
		if at := p.position(); at.lane != "" {
			all = append(all, reader{p, at})
		}
	}
	return all
}

// tail wakes the readers whose streams have grown elsewhere, or are gone.
func (s *Service) tail(ctx context.Context, readers []reader, owns func(string) bool) {
	ids := distinct(readers, func(r reader) string {
		if !r.reads || owns(r.lane) {
			return ""
		}
		return r.lane
	})
	if len(ids) == 0 {
		return
	}
	heads, err := s.log.EventHeads(ctx, ids)
	if err != nil {
		slog.WarnContext(ctx, "comparing stream heads failed", "error", err)
	}
	for _, r := range readers {
		head, there := heads[r.lane]
		gone := err == nil && !there && slices.Contains(ids, r.lane)
		if r.reads && (head > r.seen || gone) {
			r.wakes.Wake()
		}
	}
}

// await wakes the readers whose submissions have settled elsewhere.
func (s *Service) await(ctx context.Context, readers []reader, owns func(string) bool) {
	ids := distinct(readers, func(r reader) string {
		if r.begun && owns(r.lane) {
			return ""
		}
		return r.awaits
	})
	if len(ids) == 0 {
		return
	}
	settled, err := s.log.Settled(ctx, ids)
	if err != nil {
		slog.WarnContext(ctx, "looking for settled submissions failed", "error", err)
	}
	for _, r := range readers {
		if r.awaits != "" && slices.Contains(settled, r.awaits) {
			r.wakes.Wake()
		}
	}
}

// distinct is what of gives, without "", each once.
func distinct(readers []reader, of func(reader) string) (ids []string) {
	for _, r := range readers {
		if id := of(r); id != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
