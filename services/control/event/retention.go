package event

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// DefaultRetain is how long events are kept.
	DefaultRetain = 7 * 24 * time.Hour
	// compactAfter is how old deltas are at least that compaction deletes: whoever reconnects within a day gets them as they were.
	compactAfter = 24 * time.Hour
	thinEvery    = time.Minute
	// thinAtOnce bounds what one transaction deletes.
	thinAtOnce = 500
)

// Thinner deletes events, see Store.
type Thinner interface {
	ExpireEvents(ctx context.Context, age time.Duration, limit int) (int, error)
	CompactEvents(ctx context.Context, age time.Duration, limit int) (int, error)
}

// Retention keeps streams from growing for ever. Every replica runs one; what one deletes the others find gone.
type Retention struct {
	Store  Thinner
	Retain time.Duration // 0 is DefaultRetain
	Log    *slog.Logger
}

// Run thins out the streams from time to time until ctx ends. What fails is tried again the next time.
func (r Retention) Run(ctx context.Context) error {
	if r.Retain == 0 {
		r.Retain = DefaultRetain
	}
	if r.Log == nil {
		r.Log = slog.Default()
	}
	for {
		timer := time.NewTimer(thinEvery + rand.N(thinEvery/4))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		r.runOnce(ctx)
	}
}

// runOnce deletes all that is due, in batches.
func (r Retention) runOnce(ctx context.Context) {
	expired, err := batches(ctx, r.Retain, r.Store.ExpireEvents)
	compacted := 0
	if err == nil {
		compacted, err = batches(ctx, min(compactAfter, r.Retain), r.Store.CompactEvents)
	}
	if err != nil && ctx.Err() == nil {
		r.Log.WarnContext(ctx, "deleting old events failed", "error", err)
	}
	if expired+compacted > 0 {
		r.Log.DebugContext(ctx, "old events deleted", "expired", expired, "compacted", compacted)
	}
}

func batches(ctx context.Context, age time.Duration, deletes func(context.Context, time.Duration, int) (int, error)) (total int, err error) {
	for ctx.Err() == nil {
		n, err := deletes(ctx, age, thinAtOnce)
		total += n
		if err != nil || n < thinAtOnce {
			return total, err
		}
	}
	return total, ctx.Err()
}
