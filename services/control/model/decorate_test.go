package model_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
)

func overloaded() *model.Error {
	return &model.Error{Kind: model.KindOverloaded, Status: 529, Retryable: true, Text: "overloaded"}
}

func rateLimited(after time.Duration) *model.Error {
	return &model.Error{Kind: model.KindRateLimited, Status: 429, Retryable: true, RetryAfter: after, Text: "slow down"}
}

func mustRead(t *testing.T, m model.Model) (modeltest.Transcript, error) {
	t.Helper()
	tr, err, broken := modeltest.Read(m.Stream(t.Context(), model.Request{}))
	if broken != nil {
		t.Fatal(broken)
	}
	return tr, err
}

func TestRetryVoidsWhatWasStreamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := modeltest.New(
			modeltest.Reply{modeltest.Delta("lost"), {Err: overloaded()}},
			modeltest.Say("he", "llo"))
		start := time.Now()
		tr, err := mustRead(t, model.Retrying(m, model.RetryPolicy{}))
		if err != nil || tr.Text != "hello" || len(tr.Message.Content) != 1 {
			t.Fatalf("%+v, %v", tr, err)
		}
		if len(tr.Restarts) != 1 || tr.Restarts[0].Attempt != 2 || tr.Restarts[0].Err.Kind != model.KindOverloaded {
			t.Errorf("restarts %+v", tr.Restarts)
		}
		if waited := time.Since(start); waited != tr.Restarts[0].Delay {
			t.Errorf("waited %s, said %s", waited, tr.Restarts[0].Delay)
		}
	})
}

func TestRetryGivesUp(t *testing.T) {
	failures := func(err error) []modeltest.Reply { return slices.Repeat([]modeltest.Reply{modeltest.Fail(err)}, 9) }
	final := &model.Error{Kind: model.KindAuth, Status: 401, Text: "no"}
	garbled := &model.Error{Kind: model.KindProtocol, Retryable: true, Text: "what?"}
	tests := []struct {
		name    string
		policy  model.RetryPolicy
		replies []modeltest.Reply
		calls   int
	}{
		{"after five attempts", model.RetryPolicy{}, failures(overloaded()), 5},
		{"after as many as it is told", model.RetryPolicy{Attempts: 2}, failures(overloaded()), 2},
		{"at once if it cannot help", model.RetryPolicy{}, failures(final), 1},
		{"at once if the error is unknown", model.RetryPolicy{}, failures(errors.New("x")), 1},
		{"at the second answer that is not understood", model.RetryPolicy{}, failures(garbled), 2},
		{"if the wait would be too long", model.RetryPolicy{}, failures(rateLimited(6 * time.Minute)), 1},
		{
			"if time is up",
			model.RetryPolicy{Attempts: 99, Total: 10 * time.Second},
			failures(rateLimited(6 * time.Second)), 2,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := modeltest.New(tt.replies...)
				_, err := mustRead(t, model.Retrying(m, tt.policy))
				if err == nil {
					t.Fatal("no error")
				}
				if n := len(m.Requests()); n != tt.calls {
					t.Errorf("%d calls, want %d", n, tt.calls)
				}
			})
		})
	}
}

func TestRetryHonoursRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := modeltest.New(modeltest.Fail(rateLimited(30*time.Second)), modeltest.Say("x"))
		start := time.Now()
		if _, err := mustRead(t, model.Retrying(m, model.RetryPolicy{First: time.Second})); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 30*time.Second || d > 31*time.Second {
			t.Errorf("waited %s", d)
		}
	})
}

func TestRetryHasFullJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var delays []time.Duration
		for range 200 {
			m := modeltest.New(modeltest.Fail(overloaded()), modeltest.Say("x"))
			tr, err := mustRead(t, model.Retrying(m, model.RetryPolicy{First: time.Second}))
			if err != nil {
				t.Fatal(err)
			}
			delays = append(delays, tr.Restarts[0].Delay)
		}
		if low, high := slices.Min(delays), slices.Max(delays); low > 200*time.Millisecond ||
			high < 800*time.Millisecond || high > time.Second {
			t.Errorf("delays from %s to %s, want them spread over 1 s", low, high)
		}
	})
}

func TestRetryStopsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		m := model.Retrying(modeltest.New(modeltest.Fail(rateLimited(time.Minute)), modeltest.Say("x")),
			model.RetryPolicy{})
		start := time.Now()
		_, err, broken := modeltest.Read(m.Stream(ctx, model.Request{}))
		if broken != nil || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("%v, %v after %s", broken, err, time.Since(start))
		}
	})
}

func TestAStreamWithoutAnEndIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, err := mustRead(t, model.Retrying(modeltest.New(modeltest.Reply{modeltest.Delta("x")}, modeltest.Say("y")),
			model.RetryPolicy{}))
		if err != nil || len(tr.Restarts) != 1 || tr.Restarts[0].Err.Kind != model.KindCut {
			t.Errorf("%+v, %v", tr, err)
		}
	})
}

func TestSilenceIsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := model.Timeouts(modeltest.New(modeltest.Reply{modeltest.Delta("x"), modeltest.Hang()}),
			model.TimeoutPolicy{})
		start := time.Now()
		_, err := mustRead(t, m)
		e, ok := model.AsError(err)
		if !ok || e.Kind != model.KindStalled || !e.Retryable || time.Since(start) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

func TestSignsOfLifeKeepACallAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r modeltest.Reply
		for range 20 {
			r = append(r, modeltest.Step{Wait: 50 * time.Second, Part: model.Part{Type: model.PartProgress}})
		}
		tr, err := mustRead(t, model.Timeouts(modeltest.New(append(r, modeltest.Say("x")...)), model.TimeoutPolicy{}))
		if err != nil || tr.Text != "x" {
			t.Fatal(tr, err)
		}
		if tr.Parts != 4 { // it waits, a delta, the block, the end
			t.Errorf("%d parts: signs of life came through", tr.Parts)
		}
	})
}

func TestTheFirstEventHasALimitOfItsOwn(t *testing.T) {
	alive := modeltest.Step{Wait: 100 * time.Second, Part: model.Part{Type: model.PartAlive}}
	for name, c := range map[string]struct {
		policy model.TimeoutPolicy
		reply  modeltest.Reply
		after  time.Duration // of the stall, 0 for none
	}{
		"silence":           {reply: modeltest.Reply{modeltest.Hang()}, after: 5 * time.Minute},
		"settable":          {model.TimeoutPolicy{First: time.Second}, modeltest.Reply{modeltest.Hang()}, time.Second},
		"any byte is life":  {reply: append(slices.Repeat(modeltest.Reply{alive}, 10), modeltest.Say("x")...)},
		"then it is silent": {reply: modeltest.Reply{alive, modeltest.Hang()}, after: 100*time.Second + 5*time.Minute},
		"later only an event": {
			reply: append(modeltest.Reply{modeltest.Delta("x")}, slices.Repeat(modeltest.Reply{
				{Wait: 10 * time.Second, Part: model.Part{Type: model.PartAlive}},
			}, 20)...),
			after: time.Minute,
		},
		"between is settable": {
			policy: model.TimeoutPolicy{Between: 3 * time.Minute},
			reply:  modeltest.Reply{modeltest.Delta("x"), modeltest.Hang()},
			after:  3 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				_, err := mustRead(t, model.Timeouts(modeltest.New(c.reply), c.policy))
				e, ok := model.AsError(err)
				stalled := ok && e.Kind == model.KindStalled && e.Retryable
				if stalled != (c.after > 0) || stalled && time.Since(start) != c.after || !stalled && err != nil {
					t.Errorf("%v after %s", err, time.Since(start))
				}
			})
		})
	}
}

func TestASlowConsumerIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, err := range model.Timeouts(modeltest.New(modeltest.Say("x", "y")),
			model.TimeoutPolicy{}).Stream(t.Context(), model.Request{}) {
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
		}
	})
}

func TestACallHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := slices.Repeat(modeltest.Reply{{Wait: 30 * time.Second, Part: model.Part{
			Type: model.PartText,
			Text: "x",
		}}}, 100)
		start := time.Now()
		_, err := mustRead(t, model.Timeouts(modeltest.New(r), model.TimeoutPolicy{Call: 10 * time.Minute}))
		e, ok := model.AsError(err)
		if !ok || e.Kind != model.KindDeadline || e.Retryable || time.Since(start) != 10*time.Minute {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		if public, ok := errs.Public(err); !ok || public.Reason() != "MODEL_DEADLINE" {
			t.Errorf("%v tells nobody its reason", err)
		}
	})
}

func TestTheCallersContextIsNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		m := model.Timeouts(modeltest.New(modeltest.Reply{modeltest.Hang()}), model.TimeoutPolicy{})
		if _, err, _ := modeltest.Read(m.Stream(ctx, model.Request{})); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}
