package lane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
)

// failing runs a lane again and again, for ten minutes, and returns how it was handed back.
func failing(t *testing.T, drive func(o *Owner) error, say func(r *rows)) []Release {
	t.Helper()
	w, r, k, _ := world(Deps{})
	one := lease("l")
	k.drive = func(_ context.Context, o *Owner) error {
		r.say(func() { r.owned = []Held{{Fence: o.Fence(), Ends: Ends{In: Never}}} })
		time.Sleep(time.Second)
		return drive(o)
	}
	again := func() { r.due[KindSession] = []Lease{one} }
	r.release = func() error { r.say(again); return nil }
	say(r)
	again()
	n := run(t, w)
	time.Sleep(10 * time.Minute)
	n.stop()
	<-n.done
	return r.now().released
}

// An error that says that the database is away is charged once it has come several times, if the database answers all
// else. It is charged to nobody if the database is away indeed.
func TestTemporaryForEverIsCharged(t *testing.T) {
	away := &LoopError{LoopID: "root of l", Err: errDown}
	full := &LoopError{LoopID: "root of l", Err: errs.New(errs.Unavailable, "DATABASE_FULL", "no space")}
	for name, c := range map[string]struct {
		err     error
		say     func(r *rows)
		moves   bool
		charged bool
	}{
		"the database answers all else": {err: away, charged: true},
		"it does not":                   {err: away, say: func(r *rows) { r.away = errDown }},
		"its disk is full":              {err: full},
		"the loop makes progress":       {err: away, moves: true},
		"handing back fails first": {err: away, say: func(r *rows) {
			tries, release := 0, r.release
			r.release = func() error {
				if tries++; tries%2 == 1 {
					return errDown
				}
				return release()
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				released := failing(t, func(o *Owner) error {
					if c.moves {
						moved := stepOf("root of l", 1)
						moved.Progress = &Progress{Phase: PhaseModel, Turn: 2}
						if err := o.Commit(moved); err != nil {
							return err
						}
					}
					return c.err
				}, func(r *rows) {
					if c.say != nil {
						c.say(r)
					}
				})
				var free, charged []Release
				for _, x := range released {
					if x.Stalled == "" {
						free = append(free, x)
					} else {
						charged = append(charged, x)
					}
				}
				if (len(charged) > 0) != c.charged || len(free) < maxTroubles-1 {
					t.Fatalf("%d uncharged, %d charged: %+v", len(free), len(charged), charged)
				}
				if !c.charged {
					return
				}
				if last := free[len(free)-1].Pause; last != 8*time.Second {
					t.Errorf("the pause before the first charge is %v", last)
				}
				want := Release{"root of l", errDown.Error(), 16 * time.Second}
				if charged[0] != want {
					t.Errorf("charged %+v, want %+v", charged[0], want)
				}
			})
		})
	}
}

// A commit is tried for as long as the database is away, and not for ever while it answers all else.
func TestCommitIsNotTriedForEver(t *testing.T) {
	for _, away := range []error{nil, errDown} {
		synctest.Test(t, func(t *testing.T) {
			w, r, k, _ := world(Deps{})
			r.away, r.commit = away, func(Commit) (Committed, error) { return Committed{}, errDown }
			took := make(chan time.Duration, 1)
			k.drive = func(_ context.Context, o *Owner) error {
				began := time.Now()
				err := o.Commit(stepOf("root of l", 1))
				took <- time.Since(began)
				return err
			}
			n := run(t, w)
			time.Sleep(time.Minute)
			r.say(func() {
				r.due[KindSession] = []Lease{lease("l")}
				r.owned = []Held{{Fence: Fence{"l", 1}, Ends: Ends{In: Never}}}
			})
			time.Sleep(10 * time.Minute)
			n.stop()
			<-n.done
			if d := <-took; (d < time.Minute) != (away == nil) || d < patience {
				t.Errorf("looks fail with %v: tried for %v", away, d)
			}
		})
	}
}

// A lane that cannot be handed back, while the database answers all else, does not stay so: its head ends. That is so
// after an error, and of a lane that is left to others.
func TestHandingBackIsNotTriedForEver(t *testing.T) {
	cause := errors.New("cannot decode")
	for name, drive := range map[string]func(context.Context, *Owner) error{
		"after an error": func(context.Context, *Owner) error { return cause },
		"uncharged":      func(ctx context.Context, o *Owner) error { return o.HandBack(ctx) },
		"to others":      func(ctx context.Context, o *Owner) error { return o.Yield(ctx, "root of l", cause) },
	} {
		for _, c := range []struct {
			release, away error
			ends          bool
		}{
			{errDown, nil, true}, {errDown, errDown, false}, {errors.New("it contradicts the rows"), nil, true},
		} {
			t.Run(fmt.Sprint(name, ": ", c.release, ", looks: ", c.away), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, r, k, _ := world(Deps{})
					r.away, r.release = c.away, func() error { return c.release }
					r.owned = []Held{{Fence: Fence{"l", 1}, Ends: Ends{In: Never}}}
					k.drive = drive
					r.due[KindSession] = []Lease{lease("l")}
					n := run(t, w)
					time.Sleep(time.Hour)
					ended := r.now().ended
					n.stop()
					<-n.done
					if (len(ended) == 1) != c.ends {
						t.Fatalf("ended %q", ended)
					}
					if c.ends && (!strings.Contains(ended[0], "cannot be handed back ("+c.release.Error()) ||
						strings.Contains(ended[0], cause.Error()) != (name == "after an error")) {
						t.Errorf("ended %q", ended)
					}
				})
			})
		}
	}
}

// Who leaves a lane to others again and again, for a loop that nobody can do anything for, fails with it at last.
// Progress begins the count anew.
func TestYieldsAreCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("cannot be reached")
		o, _, _ := owner(t.Context(), lease("l"))
		for i := range 3 * maxYields {
			if i == maxYields-1 {
				moved := stepOf("root of l", 1)
				moved.Progress = &Progress{Phase: PhaseTools, Turn: 1}
				if err := o.Commit(moved); err != nil {
					t.Fatal(err)
				}
			}
			err := o.Yield(t.Context(), "root of l", cause)
			of := (*LoopError)(nil)
			if charged := errors.As(err, &of); charged != (i >= 2*maxYields-2) || charged && of.Err != cause {
				t.Fatalf("yield %d: %v", i, err)
			}
		}
	})
}

// What is remembered of loops that have gone on elsewhere is forgotten.
func TestTroublesAreForgotten(t *testing.T) {
	var x troubles
	now := time.Now()
	x.again("old", now)
	x.again("young", now.Add(forgetAfter))
	x.expire(now.Add(forgetAfter + time.Second))
	if len(x.of) != 1 || x.again("young", now) != 2 {
		t.Errorf("%v", x.of)
	}
}
