package storetest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/modeltest"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/store"
)

// pausing is a registry of a replica, whose one model fails with errs and then says x.
func pausing(t *testing.T, s store.Store, key string, errs ...error) model.Model {
	t.Helper()
	script := []modeltest.Reply{modeltest.Say("x")}
	for i := range errs {
		script = append([]modeltest.Reply{modeltest.Fail(errs[len(errs)-1-i])}, script...)
	}
	one := modeltest.New(script...)
	r := model.NewRegistry(model.Config{
		Providers: map[string]model.Provider{
			"p": {BaseURL: "http://h", KeyEnv: "KEY", Settings: model.Settings{API: model.APIChat}},
		},
		Retry: model.RetryPolicy{Attempts: 1},
	}, model.Deps{
		APIs: map[model.API]model.Open{
			model.APIChat: func(model.Endpoint, string) (model.Model, error) { return one, nil },
		},
		Getenv: func(string) string { return key },
	})
	r.Share(s, slog.New(slog.DiscardHandler))
	m, err := r.Model(model.Ref{Provider: "p", ID: "m"})
	ok(t, err)
	return m
}

// waitsFirst is how long a call waits before it is made, 0 when it does not.
func waitsFirst(t *testing.T, m model.Model) (wait time.Duration, cause *model.Error) {
	t.Helper()
	for p, err := range m.Stream(ctx(t), model.Request{}) {
		if err != nil {
			e, _ := model.AsError(err)
			return 0, e
		}
		if p.Type == model.PartWaiting && p.Waiting.Reason == model.WaitRateLimit {
			return time.Until(p.Waiting.Until), p.Waiting.Err
		}
	}
	return 0, nil
}

var pauseCases = []testCase{
	{"hold all replicas back, and go", func(t *testing.T, db DB) {
		slow := &model.Error{
			Kind: model.KindRateLimited, Retryable: true, RetryAfter: time.Minute, Text: "slow down",
		}
		if _, e := waitsFirst(t, pausing(t, db.Store, "one", slow)); e == nil {
			t.Fatal("the call did not fail")
		}
		wait, cause := waitsFirst(t, pausing(t, db.Second, "one"))
		if wait < 50*time.Second || wait > time.Minute || cause.Text != "slow down" ||
			cause.Kind != model.KindRateLimited {
			t.Errorf("another replica waits %s because of %v", wait, cause)
		}
		if wait, _ := waitsFirst(t, pausing(t, db.Second, "two")); wait != 0 {
			t.Errorf("with another key it waits %s", wait)
		}
		db.Advance(50 * time.Second)
		if wait, _ := waitsFirst(t, pausing(t, db.Second, "one")); wait <= 0 || wait > 10*time.Second {
			t.Errorf("50 s later it waits %s", wait)
		}
		if n := deleteAll(t, db.Second, retention.Pauses, 0, 1); n != 0 {
			t.Errorf("%d pauses were deleted that are on", n)
		}
		db.Advance(11 * time.Second)
		if wait, _ := waitsFirst(t, pausing(t, db.Second, "one")); wait != 0 {
			t.Errorf("after the pause it waits %s", wait)
		}
		ok(t, db.Store.PauseModel(ctx(t), "other", model.Pause{Left: time.Second})) // deletes what is over
		if n := deleteAll(t, db.Second, retention.Pauses, 0, 1); n != 0 {
			t.Errorf("a writer left %d pauses that are over", n)
		}
		db.Advance(2 * time.Second)
		if n := deleteAll(t, db.Second, retention.Pauses, 0, 1); n != 1 {
			t.Errorf("retention deleted %d pauses, want 1", n)
		}
	}},
	{"grow, and never shrink", func(t *testing.T, db DB) {
		for _, left := range []time.Duration{time.Minute, time.Second, 2 * time.Minute, time.Second} {
			ok(t, db.Store.PauseModel(ctx(t), "k", model.Pause{Left: left, Cause: left.String()}))
		}
		p, err := db.Second.ModelPause(ctx(t), "k")
		if ok(t, err); p.Cause != "2m0s" || p.Left <= time.Minute || p.Left > 2*time.Minute {
			t.Errorf("the pause is %+v", p)
		}
	}},
	{"end when a clock was wrong", func(t *testing.T, db DB) {
		ok(t, db.Store.PauseModel(ctx(t), "k", model.Pause{Left: time.Hour}))
		p, err := db.Second.ModelPause(ctx(t), "k")
		if ok(t, err); p.Left != 0 {
			t.Errorf("a pause that nobody waits for is on: %+v", p)
		}
		ok(t, db.Store.PauseModel(ctx(t), "k", model.Pause{Left: time.Minute}))
		p, err = db.Second.ModelPause(ctx(t), "k")
		if ok(t, err); p.Left <= 0 || p.Left > time.Minute {
			t.Errorf("the pause is %+v", p)
		}
	}},
}
