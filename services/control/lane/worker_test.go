package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// incarnation runs a worker until the test stops or drains it.
type incarnation struct {
	stop  context.CancelFunc
	drain chan struct{}
	done  chan error
}

func run(t *testing.T, w *Worker, predecessors ...string) *incarnation {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	n := &incarnation{stop: stop, drain: make(chan struct{}), done: make(chan error, 1)}
	go func() { n.done <- w.Run(ctx, "me", predecessors, n.drain) }()
	t.Cleanup(stop)
	synctest.Wait()
	return n
}

func leases(n int, kind Kind) (all []Lease) {
	for i := range n {
		l := lease(fmt.Sprint(kind, "-", i))
		l.Kind = kind
		all = append(all, l)
	}
	return all
}

// A kind whose lanes are due by the thousand leaves slots for the other, and no lane is taken without one.
func TestClaimsTakeShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, k, _ := world(Deps{})
		w, r, _, _ := world(Deps{Slots: 40, Runners: map[Kind]Runner{KindSession: k, KindRun: k}})
		k.drive = func(ctx context.Context, _ *Owner) error { <-ctx.Done(); return ctx.Err() }
		r.due[KindRun], r.due[KindSession] = leases(1000, KindRun), leases(30, KindSession)
		n := run(t, w)
		if got, _ := k.now(); len(got) != 40 {
			t.Errorf("%d lanes run in 40 slots", len(got))
		}
		if left := len(r.now().due[KindSession]); left > 20 {
			t.Errorf("%d of 30 sessions wait behind the timers", left)
		}
		n.stop()
		if err := <-n.done; err != nil {
			t.Error(err)
		}
	})
}

// Whoever comes while lanes wait for slots waits with them: a slot that becomes free is not theirs.
func TestNewcomersDoNotOvertake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, k, _ := world(Deps{Slots: 2})
		k.drive = func(ctx context.Context, _ *Owner) error { <-ctx.Done(); return ctx.Err() }
		w.owner, w.ctx, w.group = "o", t.Context(), &sync.WaitGroup{}
		for range 2 {
			if _, ok := w.Reserve(); !ok {
				t.Fatal("no slot, and none waits")
			}
		}
		if _, ok := w.Reserve(); ok {
			t.Fatal("a third slot")
		}
		r.due[KindSession] = leases(1, KindSession) // whom the third one has admitted
		w.Unreserve()
		if _, ok := w.Reserve(); ok {
			t.Error("the slot of one that waits is taken by who comes later")
		}
		w.claimDue(t.Context())
		if got, _ := k.now(); len(got) != 1 {
			t.Errorf("%d lanes run", len(got))
		}
		w.Unreserve()
		w.claimDue(t.Context()) // nobody waits any more
		if _, ok := w.Reserve(); !ok {
			t.Error("no slot, and none waits")
		}
	})
}

// The next look at due lanes is when the next one is due, and at the latest after a second.
func TestClaimsComeWhenLanesAreDue(t *testing.T) {
	for next, want := range map[time.Duration]time.Duration{100 * time.Millisecond: 120, time.Hour: 1200} {
		synctest.Test(t, func(t *testing.T) {
			w, r, _, _ := world(Deps{})
			r.next = next
			run(t, w)
			r.say(func() { r.claimed = nil })
			time.Sleep(want * time.Millisecond)
			synctest.Wait()
			if n := len(r.now().claimed); n != 1 {
				t.Errorf("%d claims within %v when the next lane is due in %v", n, want*time.Millisecond, next)
			}
		})
	}
}

// Draining hands every lane back, uncharged; the end of the incarnation hands back nothing.
func TestDrainAndEnd(t *testing.T) {
	for _, drains := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w, r, _, _ := world(Deps{})
			r.due[KindSession] = leases(3, KindSession)
			n := run(t, w)
			if drains {
				close(n.drain)
			} else {
				n.stop()
			}
			if err := <-n.done; err != nil {
				t.Error(err)
			}
			want := map[bool]int{true: 3}[drains]
			charged := func(x Release) bool { return x != Release{} }
			if len(r.now().released) != want || slices.ContainsFunc(r.now().released, charged) {
				t.Errorf("drained: %v, released: %+v", drains, r.now().released)
			}
			if _, ok := w.Reserve(); ok {
				t.Error("a slot was given out after the end")
			}
		})
	}
}

// An admission that has reserved a slot before the drain, and gets its lease after it, is run and hands back uncharged.
func TestAdmissionOverADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, k, _ := world(Deps{})
		r.due[KindSession] = leases(1, KindSession)
		slow := make(chan struct{})
		drive := k.drive
		k.drive = func(ctx context.Context, o *Owner) error {
			if o.Fence().LaneID == "1-0" {
				<-slow // keeps the incarnation draining
			}
			return drive(ctx, o)
		}
		n := run(t, w)
		if _, ok := w.Reserve(); !ok {
			t.Fatal("no slot")
		}
		close(n.drain)
		synctest.Wait()
		w.Start(lease("late"))
		synctest.Wait()
		if len(r.now().released) != 1 || r.now().released[0] != (Release{}) {
			t.Errorf("%+v", r.now().released)
		}
		close(slow)
		<-n.done
	})
}

// A run that fails hands its lane back with the cause, again until that is written; its third stall ends the head.
func TestFailingRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, k, tape := world(Deps{})
		k.drive = func(context.Context, *Owner) error { return errors.New("cannot decode") }
		tries := 0
		r.release = func() error {
			if tries++; tries < 4 {
				return errDown
			}
			return nil
		}
		r.due[KindSession] = leases(1, KindSession)
		r.owned = []Held{{Fence: Fence{"1-0", 1}, Ends: Ends{In: Never}}}
		run(t, w)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(r.now().released) != 1 || r.now().released[0].Cause != "cannot decode" || tries != 4 {
			t.Fatalf("%d tries, %+v", tries, r.now().released)
		}
		l := lease("third")
		l.Loops[0].Stalls = 2
		r.say(func() { r.due[KindSession] = []Lease{l} })
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(r.now().ended) != 1 || !strings.HasPrefix(r.now().ended[0], "interrupted STALLED") ||
			!strings.HasSuffix(r.now().ended[0], "The last error: cannot decode") ||
			!slices.Contains(tape.now().told, "third") {
			t.Errorf("%q, %v", r.now().ended, tape.now().told)
		}
		// One of which even that did not work is not run again.
		begun := 0
		k.drive = func(context.Context, *Owner) error { begun++; return nil }
		l = lease("spent")
		l.Loops[0].Stalls = 6
		r.say(func() { r.due[KindSession] = []Lease{l} })
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(r.now().ended) != 2 || begun != 0 {
			t.Errorf("%q, %d runs", r.now().ended, begun)
		}
	})
}

// A panic of a run is its lane's matter, and charged.
func TestPanickingRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, k, _ := world(Deps{})
		k.drive = func(context.Context, *Owner) error { panic("boom") }
		r.due[KindSession] = leases(1, KindSession)
		run(t, w)
		if len(r.now().released) != 1 || !strings.Contains(r.now().released[0].Cause, "boom") {
			t.Errorf("%+v", r.now().released)
		}
	})
}

// Rows tell of what no hint did: mail, aborts, lanes without a run, runs without their lane.
func TestRowsAreCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, k, _ := world(Deps{})
		r.due[KindSession] = leases(2, KindSession)
		n := run(t, w)
		mine, lost, stray := Fence{"1-0", 1}, Fence{"1-1", 1}, Fence{"stray", 9}
		r.say(func() {
			r.owned = []Held{{Fence: mine, Mail: 5, Ends: Ends{In: Never}}, {Fence: stray, Ends: Ends{In: Never}}}
		})
		_, before := k.now()
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		owners, nudges := k.now()
		if owners[0].Mail() != 5 || nudges == before {
			t.Errorf("mail %d, %d nudges", owners[0].Mail(), nudges-before)
		}
		if len(r.now().released) != 0 || w.find("1-1") == nil {
			t.Errorf("believed at once: %+v", r.now().released)
		}
		time.Sleep(5 * lookEvery)
		synctest.Wait()
		if len(r.now().released) == 0 || w.find("1-1") != nil {
			t.Errorf("released %+v; the lost run is there: %v", r.now().released, w.find(lost.LaneID) != nil)
		}
		r.say(func() { r.owned = []Held{{Fence: mine, Mail: 6, Ends: Ends{Why: Abort}}} })
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if owners[0].Why() != Abort {
			t.Errorf("an abort in the row: %v", owners[0].Why())
		}
		n.stop()
		<-n.done
	})
}

// A head is settled from rows only after its owner could have ended it: not for a grace after the first look, nor after
// an outage that was longer.
func TestHeadsAreForcedAfterAGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, _, tape := world(Deps{})
		r.due[KindSession] = leases(1, KindSession)
		n := run(t, w)
		time.Sleep(ForceGrace - lookEvery)
		synctest.Wait()
		if r.forces() != 0 {
			t.Error("a head is settled before anybody could end it")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r.forces() == 0 {
			t.Error("nothing is supervised")
		}
		r.say(func() { r.away = errors.New("the database is away") })
		time.Sleep(ForceGrace + 2*lookEvery)
		r.say(func() {
			r.away = nil
			r.forced = []Ended{{LaneID: "1-0", HeadID: "root of 1-0", Events: []event.Event{{Type: event.Settled}}}}
		})
		before := r.forces()
		time.Sleep(ForceGrace - 3*lookEvery)
		synctest.Wait()
		if r.forces() != before {
			t.Errorf("supervised %d times just after an outage", r.forces()-before)
		}
		time.Sleep(2 * forceLooks * lookEvery)
		synctest.Wait()
		if r.forces() == before || len(tape.now().events) == 0 || w.find("1-0") != nil {
			t.Errorf("after a grace: %d looks, %d events", r.forces()-before, len(tape.now().events))
		}
		n.stop()
		<-n.done
	})
}

// A replica that has just started takes the lanes of the dead at once: the store knows whether they are dead.
func TestTheDeadAreTakenFromAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, _, _ := world(Deps{})
		r.say(func() { r.orphans = leases(1, KindSession) })
		n := run(t, w)
		synctest.Wait()
		if len(r.now().orphans) != 0 {
			t.Error("no lane is taken over yet")
		}
		n.stop()
		<-n.done
	})
}

func (r *rows) forces() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked["Force"]
}

// Mail makes resting lanes due, and reaches the owners of running ones, here and elsewhere.
func TestMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, k, tape := world(Deps{})
		r.due[KindSession] = leases(1, KindSession)
		n := run(t, w)
		r.say(func() {
			r.mailed = []Mailed{{"1-0", "me"}, {"elsewhere", "other"}, {"resting", ""}}
			r.owned = []Held{{Fence: Fence{"1-0", 1}, Mail: 3, Ends: Ends{In: Never}}}
			r.claimed = nil
		})
		w.Posted(t.Context())
		synctest.Wait()
		owners, _ := k.now()
		if owners[0].Mail() != 3 || !slices.Equal(tape.now().told, []string{"elsewhere"}) || len(r.now().claimed) == 0 {
			t.Errorf("mail %d, told %v, claims %v", owners[0].Mail(), tape.now().told, r.now().claimed)
		}
		n.stop()
		<-n.done
	})
}

// Who leaves a lane to others claims nothing for a moment.
func TestYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, k, _ := world(Deps{})
		k.drive = func(ctx context.Context, o *Owner) error { return o.Yield(ctx, "root of 1-0", errDown) }
		r.due[KindSession] = leases(1, KindSession)
		run(t, w)
		r.say(func() { r.claimed = nil })
		w.deps.Bus.Publish(wake.Ready)
		time.Sleep(yieldFor - time.Millisecond)
		synctest.Wait()
		if len(r.now().claimed) != 0 || len(r.now().released) != 1 {
			t.Errorf("claims %v, released %v", r.now().claimed, r.now().released)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(r.now().claimed) == 0 {
			t.Error("claims nothing any more")
		}
	})
}

// Reports find the run of their lane.
func TestDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, _, _ := world(Deps{})
		r.orphans = leases(1, KindSession)
		n := run(t, w, "dead")
		for id, want := range map[[2]string]bool{{"1-0", "mine"}: true, {"1-0", "other"}: false, {"l", "mine"}: false} {
			if got := w.Deliver(call.Report{LaneID: id[0], CallID: id[1]}); got != want {
				t.Errorf("%v: %v", id, got)
			}
		}
		n.stop()
		<-n.done
	})
}

// A head ends when any of its loops has used up all tries, that of a sub-agent too.
func TestSpentSubAgentEndsItsHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, _, _ := world(Deps{})
		l := lease("1")
		l.Loops = append(l.Loops, Loop{ID: "child", ParentCall: "c", Stalls: stallsToEnd, StallCause: "why"})
		r.due[KindSession] = []Lease{l}
		n := run(t, w)
		time.Sleep(lookEvery)
		synctest.Wait()
		if ended := r.now().ended; len(ended) != 1 || !strings.Contains(ended[0], "why") {
			t.Errorf("ended %q", ended)
		}
		n.stop()
		<-n.done
	})
}
