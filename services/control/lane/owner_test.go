package lane

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/step"
)

var errDown = errs.New(errs.Unavailable, "AWAY", "the database is away")

func stepOf(loop string, events int) Step {
	return Step{LoopID: loop, Events: make([]event.Event, events)}
}

// gate makes the first commit wait until it is opened.
func gate(r *rows) (open chan struct{}, first chan struct{}) {
	open, first = make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.commit = func(Commit) (Committed, error) {
		once.Do(func() { close(first); <-open })
		return Committed{Ends: Ends{In: Never}}, nil
	}
	return open, first
}

// What loops want while a commit is under way is one commit, and their events are dense and published in order.
func TestCommitsAreMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, r, tape := owner(t.Context(), lease("l"))
		open, first := gate(r)
		var wg sync.WaitGroup
		commit := func(loop string) {
			wg.Go(func() {
				if err := o.Commit(stepOf(loop, 2)); err != nil {
					t.Error(err)
				}
			})
		}
		commit("root of l")
		<-first
		for _, loop := range []string{"a", "b", "c"} {
			commit(loop)
			synctest.Wait()
		}
		close(open)
		wg.Wait()
		if n := len(r.now().commits); n != 2 || len(r.now().commits[1].Steps) != 3 {
			t.Fatalf("%d commits, %+v", n, r.now().commits)
		}
		for i, e := range tape.now().events {
			if e.Seq != int64(i)+1 {
				t.Errorf("event %d has seq %d", i, e.Seq)
			}
		}
		if len(tape.now().events) != 8 || o.Lease().EventHead != 8 || r.now().commits[1].EventHead != 2 {
			t.Errorf("%d events, head %d", len(tape.now().events), o.Lease().EventHead)
		}
	})
}

// merged commits three steps at once, and returns how each was answered.
func merged(t *testing.T, o *Owner, r *rows, answer func(Commit) (Committed, error)) map[string]error {
	t.Helper()
	open, first := gate(r)
	got, mu := map[string]error{}, sync.Mutex{}
	var wg sync.WaitGroup
	for i, loop := range []string{"first", "a", "b", "c"} {
		wg.Go(func() {
			err := o.Commit(stepOf(loop, 1))
			mu.Lock()
			defer mu.Unlock()
			got[loop] = err
		})
		synctest.Wait()
		if i == 0 {
			<-first
		}
	}
	r.say(func() { r.commit = answer })
	close(open)
	wg.Wait()
	return got
}

// A step that is refused is its loop's matter: the others' are written.
func TestRefusalConcernsOneLoop(t *testing.T) {
	for name, refusal := range map[string]error{
		"refused by name": &Refused{LoopID: "b", Err: call.ErrEnded}, "spoils its batch": errors.New("contradiction"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, r, tape := owner(t.Context(), lease("l"))
				got := merged(t, o, r, func(c Commit) (Committed, error) {
					if slices.ContainsFunc(c.Steps, func(s Step) bool { return s.LoopID == "b" }) {
						return Committed{}, refusal
					}
					return Committed{Ends: Ends{In: Never}}, nil
				})
				want := error(call.ErrEnded)
				if name != "refused by name" {
					want = refusal
				}
				if got["first"] != nil || got["a"] != nil || got["c"] != nil || !errors.Is(got["b"], want) {
					t.Errorf("%v", got)
				}
				if len(tape.now().events) != 3 || o.Lease().EventHead != 3 {
					t.Errorf("%d events were published, the head is %d", len(tape.now().events), o.Lease().EventHead)
				}
			})
		})
	}
}

// Who has lost the lane writes and publishes nothing more, whichever loop wanted it.
func TestFenceEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, r, tape := owner(t.Context(), lease("l"))
		got := merged(t, o, r, func(Commit) (Committed, error) { return Committed{}, ErrFenced })
		for _, loop := range []string{"a", "b", "c"} {
			if !errors.Is(got[loop], ErrFenced) {
				t.Errorf("%s: %v", loop, got[loop])
			}
		}
		if len(tape.now().events) != 1 || len(r.now().commits) != 2 {
			t.Errorf("%d events, %d commits", len(tape.now().events), len(r.now().commits))
		}
	})
}

// A commit that the database could not answer is tried again as it was: its id tells whether it was written.
func TestCommitOutlastsAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, r, _ := owner(t.Context(), lease("l"))
		r.commit = func(Commit) (Committed, error) {
			if len(r.now().commits) < 5 {
				return Committed{}, errDown
			}
			return Committed{Mail: 7, Ends: Ends{In: Never}}, nil
		}
		if err := o.Commit(stepOf("root of l", 1)); err != nil || len(r.now().commits) != 5 || o.Mail() != 7 {
			t.Fatalf("%v after %d tries, mail %d", err, len(r.now().commits), o.Mail())
		}
		for _, c := range r.now().commits {
			if c.ID != r.now().commits[0].ID || c.ID == "" {
				t.Errorf("ids %q and %q", r.now().commits[0].ID, c.ID)
			}
		}
	})
}

// A lane is rested by a commit that has no other loop's step in it.
func TestParkIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, r, _ := owner(t.Context(), lease("l"))
		open, first := gate(r)
		var wg sync.WaitGroup
		wg.Go(func() { _ = o.Commit(stepOf("a", 1)) })
		<-first
		wg.Go(func() { _ = o.Commit(stepOf("b", 1)) })
		synctest.Wait()
		wg.Go(func() { _, _ = o.CommitWith(stepOf("root of l", 1), With{Park: &Park{Mail: 3, For: Never}}) })
		synctest.Wait()
		wg.Go(func() { _ = o.Commit(stepOf("c", 1)) })
		synctest.Wait()
		close(open)
		wg.Wait()
		var got [][]string
		for _, c := range r.now().commits {
			var loops []string
			for _, s := range c.Steps {
				loops = append(loops, s.LoopID)
			}
			got = append(got, loops)
		}
		if len(got) != 4 || got[2][0] != "root of l" || r.now().commits[2].Park == nil || len(got[2]) != 1 {
			t.Errorf("%v", got)
		}
	})
}

// The epoch is raised while nothing is committed, once for all calls that ask for it.
func TestRaise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, r, _ := owner(t.Context(), lease("l"))
		open, first := gate(r)
		var wg sync.WaitGroup
		wg.Go(func() { _ = o.Commit(stepOf("root of l", 1)) })
		<-first
		for range 2 {
			wg.Go(func() {
				if err := o.Raise(t.Context(), 40); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if o.Fence().Epoch != 1 {
			t.Errorf("epoch %d while a commit is under way", o.Fence().Epoch)
		}
		close(open)
		wg.Wait()
		if err := o.Commit(stepOf("root of l", 1)); err != nil || r.now().commits[1].Fence.Epoch != 41 {
			t.Errorf("%v, %+v", err, r.now().commits[1].Fence)
		}
	})
}

// A head ends when its time has passed on this process's monotonic clock, or at once when it is aborted.
func TestEnding(t *testing.T) {
	ended := func(o *Owner) bool {
		select {
		case <-o.Ending():
			return true
		default:
			return false
		}
	}
	synctest.Test(t, func(t *testing.T) {
		l := lease("l")
		l.Ends = Ends{In: time.Minute, Why: Deadline}
		o, r, _ := owner(t.Context(), l)
		time.Sleep(30 * time.Second)
		if left := o.Ends(); left.In != 30*time.Second || ended(o) || o.Why() != NoEnd {
			t.Errorf("after half of it: %+v, %v", left, o.Why())
		}
		// The database's clock jumps forwards, and backwards: the row tells another time for the same end.
		for _, in := range []time.Duration{-time.Hour, time.Hour} {
			r.commit = func(Commit) (Committed, error) {
				return Committed{Ends: Ends{In: in, Why: Deadline}}, nil
			}
			if err := o.Commit(stepOf("root of l", 1)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(29 * time.Second)
		if ended(o) {
			t.Error("ended too early")
		}
		time.Sleep(time.Second + time.Millisecond)
		if !ended(o) || o.Why() != Deadline {
			t.Errorf("%v", o.Why())
		}
		aborted := Held{Fence: o.Fence(), EventHead: o.Lease().EventHead, Ends: Ends{Why: Abort}}
		o.heard(aborted)
		if o.Why() != Deadline {
			t.Error("the first reason did not stay")
		}
		// The next head has a time of its own.
		r.commit = func(Commit) (Committed, error) {
			next := lease("l")
			next.Loops[0].ID, next.EventHead = "next", 3
			return Committed{Next: &next}, nil
		}
		end := stepOf("root of l", 1)
		end.End = &Settlement{Outcome: Completed}
		if _, err := o.CommitWith(end, With{Continue: true}); err != nil || ended(o) ||
			o.Lease().Loops[0].ID != "next" {
			t.Errorf("%v, %+v", err, o.Lease())
		}
		o.heard(aborted) // read before the head settled
		if ended(o) {
			t.Error("an abort of the head before has ended the next one")
		}
		aborted.EventHead = 3
		o.heard(aborted)
		if !ended(o) || o.Why() != Abort {
			t.Errorf("%v", o.Why())
		}
	})
}

// What an error of a run costs.
func TestCharge(t *testing.T) {
	fault := errors.New("no such tool")
	of := func(loop string) error { return &LoopError{LoopID: loop, Err: fault} }
	for name, c := range map[string]struct {
		stalls [2]int // of root and child
		err    error
		want   Release
		end    bool
	}{
		"an outage":           {err: errDown, want: Release{Pause: retryAfter}},
		"a time-out":          {err: context.DeadlineExceeded, want: Release{Pause: retryAfter}},
		"the first":           {err: fault, want: Release{Stalled: "r", Cause: "no such tool", Pause: time.Second}},
		"the second":          {[2]int{1, 0}, fault, Release{"r", "no such tool", 2 * time.Second}, false},
		"the third":           {[2]int{2, 0}, fault, Release{"r", "no such tool", 4 * time.Second}, true},
		"the root's":          {[2]int{2, 0}, of("r"), Release{"r", "no such tool", 4 * time.Second}, true},
		"a child's third":     {[2]int{0, 2}, of("c"), Release{"c", "no such tool", 4 * time.Second}, false},
		"a new child's first": {[2]int{2, 0}, of("d"), Release{"d", "no such tool", 4 * time.Second}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := lease("l")
				l.Loops = []Loop{{ID: "r", Stalls: c.stalls[0]}, {ID: "c", ParentCall: "p", Stalls: c.stalls[1]}}
				o, _, _ := owner(t.Context(), l)
				if got, end := o.charge(c.err); got != c.want || end != c.end {
					t.Errorf("%+v, %v", got, end)
				}
			})
		})
	}
}

// What a loop has done since it was taken clears its stalls, and no other's.
func TestProgressClearsStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lease("l")
		l.Loops = []Loop{{ID: "r", Stalls: 2}, {ID: "c", ParentCall: "p", Stalls: 2}}
		o, _, _ := owner(t.Context(), l)
		spent := stepOf("r", 1)
		if err := o.Commit(spent); err != nil || o.Lease().Loops[0].Stalls != 2 {
			t.Errorf("%v, %+v", err, o.Lease().Loops)
		}
		moved := stepOf("c", 1)
		moved.Progress = &Progress{Phase: PhaseModel, Turn: 2}
		if err := o.Commit(moved); err != nil || o.Lease().Loops[0].Stalls != 2 || o.Lease().Loops[1].Stalls != 0 {
			t.Errorf("%v, %+v", err, o.Lease().Loops)
		}
		for _, state := range []step.State{step.Started, step.Completed} {
			recorded := stepOf("r", 1)
			recorded.Records = []step.Record{{Ord: 1, State: state}}
			stalls := map[step.State]int{step.Started: 2}[state]
			if err := o.Commit(recorded); err != nil || o.Lease().Loops[0].Stalls != stalls {
				t.Errorf("%v, %+v", err, o.Lease().Loops)
			}
		}
	})
}
