package lane

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// Nobody whose step was in a write that panicked takes it for written.
func TestPanicOfTheWriterIsAnErrorForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, r, tape := owner(t.Context(), lease("l"))
		got := merged(t, o, r, func(c Commit) (Committed, error) {
			tape.mu.Lock()
			defer tape.mu.Unlock()
			tape.jams = len(c.Steps) > 1
			return Committed{Ends: Ends{In: Never}}, nil
		})
		for _, loop := range []string{"a", "b", "c"} {
			if !contain.Is(got[loop]) {
				t.Errorf("%s: %v", loop, got[loop])
			}
		}
	})
}

// Nothing happens in a head after its end: what other loops want to write then is no part of the commit that ends it.
func TestEndOfTheHeadIsTheLastStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, r, _ := owner(t.Context(), lease("l"))
		open, first := gate(r)
		end := stepOf("root of l", 1)
		end.End = &Settlement{Outcome: Aborted}
		childEnd := stepOf("b", 1)
		childEnd.End = &Settlement{Outcome: Aborted}
		var wg sync.WaitGroup
		for i, s := range []Step{stepOf("first", 1), childEnd, stepOf("c", 1), end, stepOf("d", 1)} {
			wg.Go(func() { _ = o.Commit(s) })
			synctest.Wait()
			if i == 0 {
				<-first
			}
		}
		close(open)
		wg.Wait()
		var sizes []int
		for _, c := range r.now().commits {
			sizes = append(sizes, len(c.Steps))
		}
		if !slices.Equal(sizes, []int{1, 3, 1}) {
			t.Errorf("steps by commit: %v", sizes)
		}
	})
}

// A commit has one step of a loop: what several strands of one loop want at once is written one after the other, in the
// order in which it was wanted.
func TestALoopHasOneStepOfACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, r, _ := owner(t.Context(), lease("l"))
		open, first := gate(r)
		var wg sync.WaitGroup
		for i, loop := range []string{"root of l", "a", "root of l", "b", "root of l", "root of l", "a"} {
			wg.Go(func() { _ = o.Commit(stepOf(loop, 1)) })
			synctest.Wait()
			if i == 0 {
				<-first
			}
		}
		close(open)
		wg.Wait()
		var loops []string
		for _, c := range r.now().commits {
			var names string
			for _, s := range c.Steps {
				names += s.LoopID[:1]
			}
			loops = append(loops, names)
		}
		if !slices.Equal(loops, []string{"r", "arb", "r", "ra"}) || o.Lease().EventHead != 7 {
			t.Errorf("loops by commit: %q, %d events", loops, o.Lease().EventHead)
		}
	})
}

// slots is how many are used.
func (w *Worker) slots() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.used
}

// panics is a Runner that cannot make runs.
type panics struct{}

func (panics) Begin(*Owner, bool) Run { panic("no such kind") }

// A run that cannot be made is charged like one that fails, and costs nobody else anything.
func TestPanicInBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, _, _ := world(Deps{Runners: map[Kind]Runner{KindSession: panics{}}})
		r.due[KindSession] = leases(3, KindSession)
		run(t, w)
		w.deps.Bus.Publish(wake.Executor("e")) // reaches all runs
		released := r.now().released
		if len(released) != 3 || released[0].Stalled == "" || released[0].Cause == "" || w.slots() != 0 {
			t.Errorf("%d slots are used; released: %+v", w.slots(), released)
		}
	})
}

// A claim in the middle of which something panics is not the last one, and loses no slot.
func TestPanicInAClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, k, tape := world(Deps{})
		tape.jams = true
		r.unreadable = []Unreadable{{Ended: Ended{LaneID: "x"}, Err: errors.New("no JSON")}}
		r.due[KindSession] = leases(2, KindSession)
		run(t, w)
		if owners, _ := k.now(); len(owners) != 2 || w.slots() != 2 {
			t.Errorf("%d of 2 run in %d slots", len(owners), w.slots())
		}
		r.askedFor()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := r.askedFor()["Claim"]; n < 8 {
			t.Errorf("%d claims in ten seconds", n)
		}
	})
}

// A lane is handed back at a drain although the database is away for a moment: a take-over would be charged. The
// process does not wait for ever.
func TestHandBackOutlastsAnOutage(t *testing.T) {
	for _, fails := range []int{3, 1 << 30} {
		synctest.Test(t, func(t *testing.T) {
			w, r, _, _ := world(Deps{})
			tries := 0
			r.release = func() error {
				if tries++; tries <= fails {
					return errDown
				}
				return nil
			}
			r.due[KindSession] = leases(1, KindSession)
			n := run(t, w)
			began := time.Now()
			close(n.drain)
			<-n.done
			if took := time.Since(began); took > 15*time.Second || (len(r.now().released) == 1) != (fails == 3) {
				t.Errorf("%d failures: after %v and %d tries: %+v", fails, took, tries, r.now().released)
			}
		})
	}
}

// A replica with nothing to do asks the database as seldom as it may.
func TestIdleReplicaAsksLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, _, _ := world(Deps{})
		run(t, w)
		r.askedFor()
		time.Sleep(time.Minute)
		synctest.Wait()
		for op, n := range r.askedFor() {
			most := map[string]int{"Claim": 60, "TakeOver": 60, "MoveMail": 60, "Own": 60, "Force": 12}[op]
			if n > most {
				t.Errorf("%s: %d times in a minute, and %d are enough", op, n, most)
			}
		}
	})
}

// Hints in quick succession make one look, and are no proof: a claim whose answer is under way is no lane without a
// run.
func TestHintsAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, _, _ := world(Deps{})
		r.due[KindSession] = leases(1, KindSession)
		n := run(t, w)
		time.Sleep(time.Second)
		r.say(func() {
			r.owned = []Held{{Fence: Fence{"1-0", 1}, Ends: Ends{In: Never}}, {Fence: Fence{"under way", 1}}}
		})
		r.askedFor()
		for range 1000 {
			w.deps.Bus.Publish(wake.Lane("1-0"))
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		if asked := r.askedFor(); asked["Own"] > 12 || len(r.now().released) != 0 {
			t.Errorf("%d looks in a second; released: %+v", asked["Own"], r.now().released)
		}
		n.stop()
		<-n.done
	})
}

// A run counts as the owner of its lane for little more than a second after the lane was taken away.
func TestLostLaneIsNotOwned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, k, _ := world(Deps{})
		k.drive = func(ctx context.Context, _ *Owner) error {
			<-ctx.Done()
			time.Sleep(time.Minute) // it takes long to end
			return ctx.Err()
		}
		r.due[KindSession] = leases(1, KindSession)
		r.owned = []Held{{Fence: Fence{"1-0", 1}, Ends: Ends{In: Never}}}
		n := run(t, w)
		time.Sleep(10 * time.Second)
		if !w.Owns("1-0") {
			t.Error("it does not own the lane that it runs")
		}
		r.say(func() { r.owned = nil })
		time.Sleep(lookEvery * 12 / 10)
		synctest.Wait()
		if w.Owns("1-0") {
			t.Error("it owns a lane that it has lost")
		}
		n.stop()
		<-n.done
	})
}

// A head that was settled from rows ends the run that had it, and not the one that has taken the lane since.
func TestForceSparesTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, _, _ := world(Deps{})
		r.due[KindSession] = leases(2, KindSession)
		r.owned = []Held{{Fence: Fence{"1-0", 1}}, {Fence: Fence{"1-1", 1}}}
		n := run(t, w)
		r.say(func() {
			r.forced = []Ended{
				{LaneID: "1-0", HeadID: "root of 1-0", Events: []event.Event{{}}}, {LaneID: "1-1", HeadID: "before"},
			}
		})
		time.Sleep(ForceGrace + 2*forceLooks*lookEvery)
		synctest.Wait()
		if w.find("1-0") != nil || w.find("1-1") == nil {
			t.Errorf("the forced one runs: %v, the next one runs: %v", w.find("1-0") != nil, w.find("1-1") != nil)
		}
		n.stop()
		<-n.done
	})
}

// A lane that is parked for less than the time between two looks at due lanes is looked for in time.
func TestShortParkIsPunctual(t *testing.T) {
	for _, long := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w, r, k, _ := world(Deps{})
			r.commit = func(Commit) (Committed, error) { return Committed{Parked: true, Ends: Ends{In: Never}}, nil }
			rests := map[bool]time.Duration{true: time.Hour, false: 100 * time.Millisecond}[long]
			k.drive = func(_ context.Context, o *Owner) error {
				_, err := o.CommitWith(stepOf("root of 1-0", 1), With{Park: &Park{For: rests}})
				return err
			}
			r.due[KindSession] = leases(1, KindSession)
			run(t, w)
			want := map[bool]int{true: 1, false: 2}[long]
			if n := r.askedFor()["Claim"]; n != want {
				t.Errorf("parked for %v: %d claims, want %d", rests, n, want)
			}
		})
	}
}
