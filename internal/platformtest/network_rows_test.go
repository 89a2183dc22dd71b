package platformtest_test

import (
	"errors"
	"slices"
	"sync"
	"time"

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
		w.sleep(10 * time.Second)
		lost := time.Now()
		w.a.DB.Lose(errors.New("no route to the database"))
		w.m.Dial(b)
		got := w.wait(b, id, truth)
		if got.GetAttempts() != 1 {
			w.Errorf("%d attempts, want 1", got.GetAttempts())
		}
		for _, x := range w.a.DB.Writes() {
			if x.At.After(lost) && x.Err == nil {
				w.Errorf("%s was written from beyond the partition", x.Op)
			}
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
			p.DB.Lose(errors.New("the database restarts"))
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
					return errors.New("connection reset")
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
	{"24", "a replica drains", "R", func(w *world) {
		b := w.c.Start("b", nil)
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Dial(b)
		w.a.Stop()
		if got := w.wait(b, id, truth); got.GetAttempts() != 0 {
			w.Errorf("%d attempts were charged", got.GetAttempts())
		}
		w.output("shell", truth+"\n")
		w.finish(b, "shell", "one")
	}},
}
