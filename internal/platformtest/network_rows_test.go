package platformtest_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
)

// Rows 18 to 24: one cannot reach another, or leaves in order.
var networkRows = []row{
	{"18", "control and executor cannot reach each other for less than the grace", "R", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Wire.Cut()
		w.sleep(90 * time.Second)
		w.m.Wire.Mend()
		w.wait(w.a, id, truth)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"18", "the connection is half open for less than the grace", "R", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Wire.Freeze()
		w.sleep(90 * time.Second)
		w.m.Wire.Mend()
		w.wait(w.a, id, truth)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"18", "the executor finds another replica", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Dial(b)
		w.m.Wire.Cut()
		w.m.Wire.Mend()
		w.wait(w.a, id, truth)
		w.begins("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"18", "frames are delayed and repeated", "R", func(w *world) {
		w.m.Tap(func(f platformtest.Frame) platformtest.Fate {
			if f.Kind == "Hello" || f.Kind == "Welcome" {
				return platformtest.Pass
			}
			w.sleep(300 * time.Millisecond)
			return platformtest.Twice
		})
		id := w.submit(one)
		w.wait(w.a, id, truth)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"19", "control and executor cannot reach each other for longer than the grace", "U", func(w *world) {
		id := w.submit("add effects one;sleep 1h;add effects never")
		w.sleep(10 * time.Second)
		w.m.Wire.Freeze()
		w.wait(w.a, id, "unknown")
		before := w.entries(w.sessionID("shell"))
		w.m.Wire.Mend()
		w.sleep(time.Minute)
		if w.count("Cancel", "") == 0 {
			w.Error("the executor was not told to end what nobody waits for")
		}
		w.late(before)
		w.unknown("shell")
		w.sleep(2 * time.Hour)
		w.finish(w.a, "shell", "one")
	}},
	{"20", "a replica cannot reach the database", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		asked := w.submitTo(w.a, "hung", "say: never")
		w.sleep(10 * time.Second)
		if w.asking.Load() != 1 {
			w.Fatal("the model is not asked")
		}
		var trusted time.Time
		for _, x := range w.a.DB.Writes() {
			if x.Op == "RenewReplica" && x.Err == nil {
				trusted = x.At.Add(12 * time.Second)
			}
		}
		var anew atomic.Bool
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.Op == "RegisterReplica" { // another life begins when nothing of the one before runs
				anew.Store(true)
			}
			return nil
		})
		w.a.DB.Lose(platformtest.ErrAway)

		w.sleep(time.Until(trusted) - time.Millisecond)
		if w.asking.Load() != 1 {
			w.Error("it stopped before it had to")
		}
		w.sleep(time.Millisecond)
		synctest.Wait()
		if n := w.asking.Load(); n != 0 {
			w.Errorf("at its trust deadline %d models are asked", n)
		}
		w.sleep(2 * time.Second) // nobody else may have its lanes yet
		if w.asking.Load() != 0 || !anew.Load() {
			w.Error("its incarnation has not ended")
		}
		w.sleep(time.Minute) // nor does it pass on what others send
		for _, f := range w.m.Frames() {
			if f.Down && f.At.After(trusted) {
				w.Errorf("beyond its trust deadline it sent %s", f.Kind)
			}
		}

		w.m.Dial(b)
		if got := w.wait(b, id, truth); got.GetAttempts() != 1 {
			w.Errorf("%d attempts, want 1", got.GetAttempts())
		}
		if got, err := w.tryWait(b, asked); err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_EXPIRED {
			w.Errorf("settled %v, %v", got.GetOutcome(), err)
		}
		w.a.DB.Lose(nil)
		w.sleep(time.Minute)
		w.output("shell", truth+"\n")
		w.finish(w.a, "shell", "one") // a serves again
	}},
	{"21", "replicas cannot reach each other: a result needs no owner", "R", func(w *world) {
		b, id := w.elsewhere()
		w.wait(b, id, truth)
		w.finish(w.a, "shell", "one")
	}},
	{"21", "replicas cannot reach each other: a call goes through the executor's own", "R", func(w *world) {
		b := w.c.Start("b", nil)
		w.move(b)
		w.c.Peers("a", "b").Cut()
		w.c.Peers("b", "a").Cut()
		began := time.Now()
		id := w.submit(one)
		for len(w.effects()) == 0 && time.Since(began) < time.Hour {
			w.sleep(time.Second)
		}
		if took := time.Since(began); took > 8*time.Second {
			w.Errorf("it took %s until the command began", took)
		}
		if got := w.wait(w.a, id, truth); got.GetAttempts() != 0 {
			w.Errorf("%d attempts were charged", got.GetAttempts())
		}
		w.output("shell", truth+"\n")
		w.finish(b, "shell", "one")
	}},
	{"22", "the database is away for longer than a lease", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		w.sleep(10 * time.Second)
		for _, p := range []*platformtest.Platform{w.a, b} {
			p.DB.Lose(platformtest.ErrAway)
		}
		w.sleep(30 * time.Second)
		for _, p := range []*platformtest.Platform{w.a, b} {
			p.DB.Lose(nil)
		}
		w.wait(b, id, truth)
		w.begins("shell", truth+"\n")
		w.finish(w.a, "shell", "one")
	}},
	{"22", "the database has written what it did not answer", "R", func(w *world) {
		var answered sync.Map
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.After && slices.Contains([]string{"T2", "T3", "T4"}, s.Op) {
				if _, again := answered.LoadOrStore(s.Op, true); !again {
					return platformtest.ErrAway
				}
			}
			return nil
		})
		w.wait(w.a, w.submit(one), truth)
		for _, op := range []string{"T2", "T3", "T4"} {
			if _, met := answered.Load(op); !met {
				w.Errorf("no fault at %s", op)
			}
		}
		w.finish(w.a, "shell", "one")
	}},
	{"24", "a replica drains while a command runs", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Dial(b)
		w.drain(w.a, b, time.Second)
		if got := w.wait(b, id, truth); got.GetAttempts() != 0 {
			w.Errorf("%d attempts were charged", got.GetAttempts())
		}
		w.output("shell", truth+"\n")
		w.finish(b, "shell", "one")
	}},
	{"24", "a replica drains while the model answers", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submitTo(w.a, "paced", "say: an answer of six words altogether")
		next := w.submitTo(w.a, "paced", "say: next in line")
		w.sleep(3500 * time.Millisecond)
		w.drain(w.a, b, 10*time.Second) // the answer is waited for; what is queued behind it goes on elsewhere
		if got := w.wait(b, id, "an answer of six words altogether"); got.GetAttempts() != 0 {
			w.Errorf("%d attempts were charged", got.GetAttempts())
		}
		w.wait(b, next, "next in line")
		if n := w.restarts("paced"); n != 0 {
			w.Errorf("the model was asked again %d times", n)
		}
		w.finish(b, "paced")
	}},
	{"24", "a replica drains while the model answers for longer than it waits", "R", func(w *world) {
		b := w.c.Start("b", nil)
		answer := strings.TrimSpace(strings.Repeat("word ", 40))
		id := w.submitTo(w.a, "paced", "say: "+answer)
		w.sleep(3500 * time.Millisecond)
		w.drain(w.a, b, 21*time.Second)
		if got := w.wait(b, id, answer); got.GetAttempts() != 0 {
			w.Errorf("%d attempts were charged", got.GetAttempts())
		}
		if n := w.restarts("paced"); n != 1 {
			w.Errorf("the model was asked again %d times, want once", n)
		}
		w.finish(b, "paced")
	}},
}
