package replica

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/mono"
)

// What a reaper may do, by when the database has answered.
func TestOutage(t *testing.T) {
	for name, c := range map[string]struct {
		answers []time.Duration // when the database answered
		at      time.Duration
		reaps   bool
	}{
		"nothing has happened yet": {nil, 0, true},
		"it answers as it should": {
			[]time.Duration{0, 4 * time.Second, 8 * time.Second},
			9 * time.Second,
			true,
		},
		"half a ttl without an answer": {[]time.Duration{0}, TTL / 2, true},
		"more than that":               {[]time.Duration{0}, TTL/2 + 1, false},
		"back after half a ttl":        {[]time.Duration{0, TTL / 2}, TTL / 2, true},
		"just back after more":         {[]time.Duration{0, TTL/2 + 1}, TTL/2 + 1, false},
		"just before a ttl has passed": {[]time.Duration{
			0, 10 * time.Second, 14 * time.Second, 18 * time.Second,
			22 * time.Second,
		}, 10*time.Second + TTL - 1, false},
		"a ttl later": {[]time.Duration{
			0, 10 * time.Second, 14 * time.Second, 18 * time.Second,
			22 * time.Second,
		}, 10*time.Second + TTL, true},
		"a second outage begins it anew": {[]time.Duration{
			0, 10 * time.Second, 20 * time.Second, 24 * time.Second,
			28 * time.Second,
		}, 10*time.Second + TTL + 3*time.Second, false},
		"and ends a ttl after the second": {[]time.Duration{
			0, 10 * time.Second, 20 * time.Second, 27 * time.Second,
			34 * time.Second,
		}, 20*time.Second + TTL, true},
	} {
		var o outage
		for _, d := range c.answers {
			o.answered(d)
		}
		if got := o.over(c.at); got != c.reaps {
			t.Errorf("%s: may reap: %v, want %v", name, got, c.reaps)
		}
	}
}

// flaky is a database that is away at times.
type flaky struct {
	Store
	away  atomic.Bool
	hangs atomic.Bool // until its caller gives up
}

var errAway = errors.New("the database is away")

func (f *flaky) RegisterReplica(ctx context.Context, _ Replica, _ time.Duration) ([]string, error) {
	if f.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, f.err()
}

func (f *flaky) RenewReplica(context.Context, string, time.Duration) (bool, error) {
	return true, f.err()
}
func (f *flaky) RemoveReplica(context.Context, string) error { return f.err() }

func (f *flaky) err() error {
	if f.away.Load() {
		return errAway
	}
	return nil
}

// A replica that has seen an outage declares nobody dead for a TTL, in its next incarnation too.
func TestNoReapingAfterAnOutage(t *testing.T) {
	for name, outage := range map[string]time.Duration{
		"the lease holds":   TTL/2 - 900*time.Millisecond,
		"the lease is lost": time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := &flaky{}
				s := NewService(db, Replica{}, mono.New(), slog.New(slog.DiscardHandler))
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				var lives atomic.Int32
				go func() {
					done <- s.Run(ctx, t.Context(), func(ctx context.Context, _ string, _ []string) error {
						lives.Add(1)
						<-ctx.Done()
						return nil
					})
				}()
				time.Sleep(time.Minute + time.Second) // a second after a renewal
				if !s.MayReap() {
					t.Error("it may not reap in peace")
				}
				db.away.Store(true)
				time.Sleep(outage)
				synctest.Wait()
				if s.MayReap() {
					t.Error("it may reap in an outage")
				}
				db.away.Store(false)
				time.Sleep(renewEvery)
				synctest.Wait()
				if s.MayReap() {
					t.Error("it may reap right after an outage")
				}
				time.Sleep(TTL)
				synctest.Wait()
				if !s.MayReap() {
					t.Error("it may never reap again")
				}
				if n := lives.Load(); (n == 1) != (outage < TTL-margin) {
					t.Errorf("%d incarnations", n)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Whether the database answers is known within seconds, in a life as a replica and between two.
func TestSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &flaky{}
		s := NewService(db, Replica{}, mono.New(), slog.New(slog.DiscardHandler))
		go func() {
			_ = s.Run(t.Context(), t.Context(), func(ctx context.Context, _ string, _ []string) error {
				<-ctx.Done()
				return nil
			})
		}()
		time.Sleep(time.Minute + time.Second)
		if s.Silent() {
			t.Error("it answers")
		}
		for _, later := range []time.Duration{7 * time.Second, TTL, time.Hour} {
			db.away.Store(true)
			time.Sleep(later)
			if !s.Silent() {
				t.Errorf("it has been away for %v", later)
			}
			db.away.Store(false)
			time.Sleep(renewEvery + time.Second)
			if s.Silent() {
				t.Errorf("it is back after %v", later)
			}
		}
	})
}

// Who stops while the database is away has nothing to wait for.
func TestStopWhileTheDatabaseIsAway(t *testing.T) {
	for name, hangs := range map[string]bool{"it refuses": false, "it says nothing": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := &flaky{}
				s := NewService(db, Replica{}, mono.New(), slog.New(slog.DiscardHandler))
				stop, stopped := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					done <- s.Run(t.Context(), stop, func(ctx context.Context, _ string, _ []string) error {
						<-ctx.Done()
						return nil
					})
				}()
				synctest.Wait()
				db.hangs.Store(hangs)
				db.away.Store(true)
				time.Sleep(time.Minute)
				stopped()
				synctest.Wait()
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
				default:
					t.Error("it has not ended")
				}
			})
		})
	}
}
