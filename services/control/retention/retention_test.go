package retention

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pile is a Store that has so many rows due of each kind.
type pile struct {
	sync.Mutex
	due   [kinds]int
	ages  [kinds]time.Duration
	times [kinds]int
	most  int
	fail  Kind
}

func (p *pile) DeleteBatch(_ context.Context, kind Kind, age time.Duration, limit int) (Batch, error) {
	p.Lock()
	defer p.Unlock()
	p.times[kind]++
	if kind == p.fail {
		return Batch{}, errors.New("away")
	}
	n := min(limit, p.due[kind])
	p.due[kind] -= n
	p.ages[kind], p.most = age, max(p.most, n)
	return Batch{Deleted: n, More: n == limit}, nil
}

// All that is due is deleted in bounded batches. A kind that fails keeps none of the others, and is tried again each
// time.
func TestSweeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pile{fail: Receipts}
		for kind := range kinds {
			p.due[kind] = 5*MaxRows + int(kind)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		sweeper := Sweeper{Store: p, Events: 48 * time.Hour, Log: slog.New(slog.DiscardHandler)}
		go func() { done <- sweeper.Run(ctx) }()
		time.Sleep(2 * every)
		synctest.Wait()
		p.Lock()
		if p.due[Events]+p.due[Deltas] != 0 || p.due[Calls] == 0 {
			t.Errorf("after two minutes there are left: %v", p.due)
		}
		p.Unlock()
		time.Sleep(perHour * every * 5 / 4)
		synctest.Wait()
		p.Lock()
		for kind := range kinds {
			if (p.due[kind] == 0) == (kind == p.fail) {
				t.Errorf("%d %s are left", p.due[kind], kind)
			}
		}
		day := 24 * time.Hour
		month := 30 * day
		want := [kinds]time.Duration{
			48 * time.Hour, day, 0, 0, month, month, month, month, month, month, month, 0, 90 * day,
		}
		if p.most > MaxRows || p.ages != want {
			t.Errorf("at most %d at once, of ages %v", p.most, p.ages)
		}
		p.Unlock()
		time.Sleep(perHour * every * 5 / 4)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if p.times[Receipts] != 2 {
			t.Errorf("the kind that fails was tried %d times in two hours", p.times[Receipts])
		}
	})
}
