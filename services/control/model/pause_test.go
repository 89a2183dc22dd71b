package model_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// board is a database of pauses.
type board struct {
	mu            sync.Mutex
	ends          map[string]time.Time
	reads, writes int
	err           error
	hangs         bool
}

func (b *board) PauseModel(ctx context.Context, key string, p model.Pause) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes++
	if b.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if end := time.Now().Add(p.Left); b.err == nil && end.After(b.ends[key]) {
		b.ends[key] = end
	}
	return b.err
}

func (b *board) ModelPause(ctx context.Context, key string) (model.Pause, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads++
	if b.hangs {
		<-ctx.Done()
		return model.Pause{}, ctx.Err()
	}
	left := max(time.Until(b.ends[key]), 0)
	return model.Pause{Left: left, Kind: model.KindRateLimited, Cause: "slow down"}, b.err
}

// replica is a registry with one model, which follows the script.
func replica(t *testing.T, b *board, log *slog.Logger, script ...modeltest.Reply) model.Model {
	t.Helper()
	one := modeltest.New(script...)
	r := model.NewRegistry(model.Config{
		Providers: map[string]model.Provider{
			"p": {BaseURL: "http://h", Settings: model.Settings{API: model.APIChat}},
		},
		Retry: model.RetryPolicy{Attempts: 1},
	}, model.Deps{
		APIs: map[model.API]model.Open{
			model.APIChat: func(model.Endpoint, string) (model.Model, error) { return one, nil },
		},
		Getenv: func(string) string { return "" },
	})
	m, err := r.Model(ref(t, "p/m"))
	if err != nil {
		t.Fatal(err)
	}
	r.Share(b, log) // the database is opened after the first agents were checked
	return m
}

// limits reads a call to its end, and returns the rate limits that it waited for.
func limits(t *testing.T, m model.Model) ([]model.Waiting, error) {
	t.Helper()
	w, err := waits(t.Context(), m)
	return slices.DeleteFunc(w, func(w model.Waiting) bool { return w.Reason != model.WaitRateLimit }), err
}

func TestARateLimitSlowsOtherReplicasOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{ends: map[string]time.Time{}}
		log := slog.New(slog.DiscardHandler)
		first := replica(t, b, log, modeltest.Fail(rateLimited(20*time.Second)), modeltest.Say("x"))
		second := replica(t, b, log, modeltest.Say("a"), modeltest.Say("b"), modeltest.Say("c"))
		if _, err := limits(t, first); err == nil {
			t.Fatal("no error")
		}
		start := time.Now()
		var all sync.WaitGroup
		for _, m := range []model.Model{first, second, second} {
			all.Go(func() {
				w, err := limits(t, m)
				if err != nil || len(w) != 1 || !w[0].Until.Equal(start.Add(20*time.Second)) ||
					w[0].Err.Text != "slow down" || time.Since(start) < 20*time.Second {
					t.Errorf("%+v, %v after %s", w, err, time.Since(start))
				}
			})
		}
		all.Wait()
		if w, err := limits(t, second); err != nil || len(w) != 0 {
			t.Errorf("after the pause: %+v, %v", w, err)
		}
		if b.writes != 1 {
			t.Errorf("one pause was written %d times", b.writes)
		}
	})
}

func TestPausesAreReadAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{ends: map[string]time.Time{}}
		script := make([]modeltest.Reply, 100)
		for i := range script {
			script[i] = modeltest.Say("x")
		}
		m := replica(t, b, slog.New(slog.DiscardHandler), script...)
		for range 100 {
			if _, err := limits(t, m); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if b.reads != 10 {
			t.Errorf("%d reads in 10 s", b.reads)
		}
		time.Sleep(time.Minute) // nobody asks
		if b.reads != 10 {
			t.Errorf("%d reads after a minute of rest", b.reads)
		}
	})
}

func TestADatabaseThatDoesNotAnswerChangesNothing(t *testing.T) {
	for name, b := range map[string]*board{
		"it hangs": {hangs: true, ends: map[string]time.Time{}},
		"it fails": {err: errors.New("away"), ends: map[string]time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logged strings.Builder
				log := slog.New(slog.NewTextHandler(&logged, nil))
				m := replica(t, b, log, modeltest.Say("x"), modeltest.Fail(rateLimited(2*time.Second)),
					modeltest.Say("x"), modeltest.Say("x"))
				start := time.Now()
				if w, err := limits(t, m); err != nil || len(w) != 0 || time.Since(start) > time.Second {
					t.Errorf("%+v, %v after %s", w, err, time.Since(start))
				}
				if _, err := limits(t, m); err == nil || !strings.HasPrefix(err.Error(), "slow down") ||
					time.Since(start) > time.Second {
					t.Errorf("%v after %s", err, time.Since(start))
				}
				if w, err := limits(t, m); err != nil || len(w) != 1 {
					t.Errorf("the replica's own pause: %+v, %v", w, err)
				}
				if n := strings.Count(logged.String(), "not shared"); n != 1 {
					t.Errorf("the log was told %d times", n)
				}
			})
		})
	}
}

// A pause that could not be written is written by whoever waits for it, once the database answers.
func TestAPauseThatWasNotWrittenIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &board{ends: map[string]time.Time{}, err: errors.New("away")}
		log := slog.New(slog.DiscardHandler)
		first := replica(t, b, log, modeltest.Fail(rateLimited(time.Minute)), modeltest.Say("x"))
		second := replica(t, b, log, modeltest.Say("x"))
		if _, err := limits(t, first); err == nil {
			t.Fatal("no error")
		}
		start := time.Now()
		b.mu.Lock()
		b.err = nil
		b.mu.Unlock()
		time.Sleep(2 * time.Second)
		var all sync.WaitGroup
		defer all.Wait()
		all.Go(func() {
			if w, err := limits(t, first); err != nil || len(w) != 1 {
				t.Errorf("%+v, %v", w, err)
			}
		})
		synctest.Wait()
		if w, err := limits(t, second); err != nil || len(w) != 1 || time.Since(start) < time.Minute {
			t.Errorf("%+v, %v after %s", w, err, time.Since(start))
		}
		if b.writes != 2 {
			t.Errorf("the pause was written %d times", b.writes)
		}
	})
}
