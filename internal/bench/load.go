package main

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// figure is how long something took, each time, and all of it.
type figure struct {
	times []time.Duration // in order of their end
	whole time.Duration
	cpu   time.Duration // of control, where that is measured
}

func (f figure) p50() Quantity  { return timed(Row{}, append([]time.Duration(nil), f.times...)).P50 }
func (f figure) rate() Quantity { return rate(len(f.times), f.whole) }

// row is a row with this figure.
func (f figure) row(r Row) Row {
	r.Rate = f.rate()
	return timed(r, append([]time.Duration(nil), f.times...))
}

// load has clients do something again and again, until it was done total times or a time is over; 0 bounds nothing. n
// counts from 0.
func load(
	ctx context.Context, clients, total int, lasts time.Duration, do func(ctx context.Context, n int) error,
) (figure, error) {
	var next atomic.Int64
	times := make(chan time.Duration, clients)
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range clients {
		g.Go(func() error {
			for lasts == 0 || time.Since(began) < lasts {
				n := int(next.Add(1)) - 1
				if total > 0 && n >= total {
					return nil
				}
				at := time.Now()
				if err := do(ctx, n); err != nil {
					return err
				}
				times <- time.Since(at)
			}
			return nil
		})
	}
	var f figure
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for t := range times {
			f.times = append(f.times, t)
		}
	}()
	err := g.Wait()
	f.whole = time.Since(began)
	close(times)
	<-collected
	return f, err
}

// turns does two things in turns, so that noise hits both.
func turns(ctx context.Context, times int, one, other func(context.Context) error) (first, second figure, err error) {
	for range times {
		for _, turn := range []struct {
			sum *figure
			do  func(context.Context) error
		}{{&first, one}, {&second, other}} {
			began := time.Now()
			if err := turn.do(ctx); err != nil {
				return first, second, err
			}
			took := time.Since(began)
			turn.sum.times, turn.sum.whole = append(turn.sum.times, took), turn.sum.whole+took
		}
	}
	return first, second, nil
}

// lasts is how long a closed loop runs.
func (b *bench) lasts() time.Duration {
	if b.quick {
		return time.Second
	}
	return 5 * time.Second
}
