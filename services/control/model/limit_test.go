package model_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

// waits reads a call to its end, and returns what it waited for.
func waits(ctx context.Context, m model.Model) (waits []model.Waiting, err error) {
	for p, err := range m.Stream(ctx, model.Request{}) {
		if err != nil {
			return waits, err
		}
		if p.Type == model.PartWaiting {
			waits = append(waits, *p.Waiting)
		}
	}
	return waits, nil
}

func TestARateLimitSlowsEveryone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l model.Limiter
		limited := model.Limited(modeltest.New(modeltest.Fail(rateLimited(20*time.Second))), &l)
		if _, err := mustRead(t, limited); err == nil {
			t.Fatal("no error")
		}
		start := time.Now()
		var mu sync.Mutex
		var began []time.Duration
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				w, err := waits(t.Context(), model.Limited(modeltest.New(modeltest.Say("x")), &l))
				if err != nil || len(w) != 1 || w[0].Reason != model.WaitRateLimit || w[0].Err.Text != "slow down" ||
					!w[0].Until.Equal(start.Add(20*time.Second)) {
					t.Errorf("%+v, %v", w, err)
				}
				mu.Lock()
				began = append(began, time.Since(start))
				mu.Unlock()
			})
		}
		all.Wait()
		low, high := slices.Min(began), slices.Max(began)
		if low < 20*time.Second || high > 25*time.Second || high-low < time.Second {
			t.Errorf("calls began %s to %s after the limit, want them spread behind 20 s", low, high)
		}
	})
}

func TestALongerPauseIsHeededByWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l model.Limiter
		l.Heed(rateLimited(10 * time.Second))
		start := time.Now()
		go func() {
			time.Sleep(5 * time.Second)
			l.Heed(rateLimited(20 * time.Second))
			l.Heed(rateLimited(time.Second)) // a shorter one changes nothing
		}()
		w, err := waits(t.Context(), model.Limited(modeltest.New(modeltest.Say("x")), &l))
		if err != nil || time.Since(start) < 25*time.Second || len(w) != 2 ||
			!w[1].Until.Equal(start.Add(25*time.Second)) {
			t.Errorf("%+v, %v after %s", w, err, time.Since(start))
		}
	})
}

func TestAnUnnamedPauseGrowsUntilACallSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l model.Limiter
		fail := modeltest.Fail(rateLimited(0))
		m := modeltest.New(fail, fail, modeltest.Say("x"), fail, modeltest.Say("x"))
		var waits []time.Duration
		for range 5 {
			start := time.Now()
			_, _ = mustRead(t, model.Limited(m, &l))
			waits = append(waits, time.Since(start).Truncate(time.Second))
		}
		if want := []time.Duration{0, time.Second, 2 * time.Second, 0, time.Second}; !slices.Equal(waits, want) {
			t.Errorf("waits %v, want %v", waits, want)
		}
	})
}

func TestWaitingForTheLimitIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l model.Limiter
		l.Heed(rateLimited(4 * time.Minute))
		m := model.Limited(model.Timeouts(modeltest.New(modeltest.Say("x")), model.TimeoutPolicy{}), &l)
		if _, err := mustRead(t, m); err != nil {
			t.Error(err)
		}
	})
}

// dailyLimit is an error with which a provider asks for more patience than a call has.
func dailyLimit() *model.Error { return rateLimited(24 * time.Hour) }

func TestAPauseOfMoreThanFiveMinutesIsAnErrorThatSaysWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l model.Limiter
		m := modeltest.New(modeltest.Fail(dailyLimit()), modeltest.Say("x"))
		stack := model.Retrying(model.Limited(m, &l), model.RetryPolicy{})
		start := time.Now()
		_, err := mustRead(t, stack)
		at := start.Add(24 * time.Hour).UTC().Format("2006-01-02 15:04:05 UTC")
		want := "slow down; it accepts requests again at " + at + " (in 24h0m0s)"
		if e, ok := model.AsError(err); !ok || e.Kind != model.KindRateLimited || e.Text != want ||
			!time.Now().Equal(start) {
			t.Errorf("%v after %s, want %s", err, time.Since(start), want)
		}
		if !errors.Is(err, model.ErrRateLimited) {
			t.Errorf("%v has lost its reason", err)
		}
		// It holds nobody back: credit may have been added since.
		if _, err := mustRead(t, stack); err != nil || !time.Now().Equal(start) {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

// Others may lengthen a pause again and again.
func TestNoCallWaitsForALimitForMoreThanFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l model.Limiter
		var others sync.WaitGroup
		others.Go(func() {
			for range 10 {
				l.Heed(rateLimited(2 * time.Minute))
				time.Sleep(time.Minute)
			}
		})
		defer others.Wait()
		synctest.Wait()
		start := time.Now()
		_, err := waits(t.Context(), model.Retrying(model.Limited(modeltest.New(), &l), model.RetryPolicy{}))
		if d := time.Since(start); !errors.Is(err, model.ErrRateLimited) || d > 5*time.Minute ||
			!strings.HasPrefix(err.Error(), "slow down; it accepts requests again at ") {
			t.Errorf("%v after %s", err, d)
		}
	})
}

func TestARetryTellsThatItWaits(t *testing.T) {
	for name, c := range map[string]struct {
		err  *model.Error
		want model.WaitReason
	}{
		"overloaded":            {overloaded(), model.WaitRetry},
		"rate limited":          {rateLimited(0), model.WaitRateLimit},
		"for as long as it was": {rateLimited(20 * time.Second), model.WaitRateLimit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := modeltest.New(modeltest.Fail(c.err), modeltest.Say("x"))
				var waiting *model.Waiting
				for p, err := range model.Retrying(m, model.RetryPolicy{}).Stream(t.Context(), model.Request{}) {
					switch {
					case err != nil:
						t.Fatal(err)
					case p.Type == model.PartWaiting:
						waiting = p.Waiting
					case p.Type == model.PartText && !time.Now().Equal(waiting.Until):
						t.Errorf("it went on at %s, and said %s", time.Now(), waiting.Until)
					}
				}
				if waiting == nil || waiting.Reason != c.want || waiting.Err != c.err {
					t.Errorf("%+v", waiting)
				}
			})
		})
	}
}

func TestASilentProviderIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alive := modeltest.Step{Wait: time.Minute, Part: model.Part{Type: model.PartAlive}}
		m := model.Timeouts(modeltest.New(append(modeltest.Reply{alive}, modeltest.Say("x")...)), model.TimeoutPolicy{})
		start := time.Now()
		w, err := waits(t.Context(), m)
		if err != nil || len(w) != 2 || w[0].Reason != model.WaitFirstToken ||
			!w[0].Until.Equal(start.Add(5*time.Minute)) ||
			!w[1].Until.Equal(start.Add(6*time.Minute)) {
			t.Errorf("%+v, %v", w, err)
		}
	})
}

// Calls that are under way together are refused together, which is one refusal.
func TestABurstOfRateLimitsIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l model.Limiter
		start := time.Now()
		slow := modeltest.Fail(rateLimited(0))
		for i := range slow {
			slow[i].Wait = 100 * time.Millisecond
		}
		m := model.Limited(modeltest.Always(slow), &l)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { _, _ = mustRead(t, m) })
		}
		all.Wait()
		w, err := waits(t.Context(), model.Limited(modeltest.New(modeltest.Say("x")), &l))
		if err != nil || len(w) != 1 || time.Until(w[0].Until) > 0 || time.Since(w[0].Until) > time.Second {
			t.Fatalf("%+v, %v", w, err)
		}
		if held := w[0].Until.Sub(start); held > 2*time.Second {
			t.Errorf("after one burst calls are held back for %s", held)
		}
	})
}
