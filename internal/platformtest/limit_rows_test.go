package platformtest_test

import (
	"fmt"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
)

// Rows 25, 26 and 29: what has a limit reaches it.
var limitRows = []row{
	{"25", "an input kills its replicas", "interrupted", func(w *world) {
		killAt(w.a, "before T2")
		_, _ = w.try(w.Context(), w.a, "shell", one) // the answer may get lost
		w.dead(w.a)
		for range 2 {
			w.dead(w.c.Start("a", killsAt("before T2")))
		}
		p := w.next(w.a)
		got, err := w.tryWait(p, w.again(p, "shell", one))
		if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_INTERRUPTED ||
			got.GetError().GetReason() != "STALLED" {
			w.Errorf("settled %v %v, %v", got.GetOutcome(), got.GetError(), err)
		}
		w.finish(p, "shell")
	}},
	{"26", "the model hangs", "expired", func(w *world) {
		w.expires(w.a, w.submitTo(w.a, "hung", "say: never"))
		w.finish(w.a, "hung")
	}},
	{"26", "a command hangs", "expired", func(w *world) {
		w.expires(w.a, w.submitTo(w.a, "hasty", "add effects one;trap;sleep 100h;add effects never"))
		w.finish(w.a, "hasty", "one")
		if len(w.m.Box.Held()) != 0 {
			w.Errorf("the executor still has %q", w.m.Box.Held())
		}
	}},
	{"29", "the database's disk is full", "R", func(w *world) {
		for _, op := range []string{"T1", "T2", "T3", "T4"} {
			began := time.Now()
			w.a.DB.Strike(func(s platformtest.Step) error {
				if s.String() == "before "+op && time.Since(began) < 30*time.Minute {
					return fmt.Errorf("writing: %w", sqlite.ErrFull)
				}
				return nil
			})
			w.submit("sleep 1m;echo before " + op)
			id := w.submit("add effects " + op + ";echo done " + op) // queued: T1 is a commit of its own
			if got := w.wait(w.a, id, "done "+op); got.GetAttempts() != 0 {
				w.Errorf("%d attempts were charged", got.GetAttempts())
			}
			if took := time.Since(began); took < 30*time.Minute || took > 35*time.Minute {
				w.Errorf("%s: it took %s", op, took)
			}
		}
		w.a.DB.Strike(nil)
		w.finish(w.a, "shell", "T1", "T2", "T3", "T4")
	}},
	{"29", "the database's disk is full until after the deadline", "expired", func(w *world) {
		began := time.Now()
		w.a.DB.Strike(func(s platformtest.Step) error {
			if s.String() == "before T3" && time.Since(began) < 30*time.Minute {
				return fmt.Errorf("writing: %w", sqlite.ErrFull)
			}
			return nil
		})
		got, err := w.tryWait(w.a, w.submitTo(w.a, "hasty", "add effects one\nadd effects never"))
		if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_EXPIRED {
			w.Errorf("settled %v %v, %v", got.GetOutcome(), got.GetError(), err)
		}
		w.finish(w.a, "hasty", "one")
	}},
	{"29", "the quota of the executor's journal is used up", "R", func(w *world) {
		w.m.Kill()
		w.m.Quota = 4 << 10
		w.m.Start(w.a)
		w.m.Tap(func(f platformtest.Frame) platformtest.Fate { // what is not acknowledged stays
			if f.Kind == "ResultAck" {
				return platformtest.Drop
			}
			return platformtest.Pass
		})
		w.wait(w.a, w.submit("add effects one;bytes 8000"), "0000000")
		w.wait(w.a, w.submit("add effects refused"), "quota")
		w.m.Tap(nil)
		w.move(w.a)
		w.sleep(time.Minute) // the result is sent again and acknowledged
		w.wait(w.a, w.submit(quick), "quick result")
		w.finish(w.a, "shell", "one", "quick")
	}},
	{"29", "the executor's disk is full", "R", func(w *world) {
		id := w.submit(one)
		w.sleep(10 * time.Second)
		w.m.Disk.Fill(true)
		w.wait(w.a, id, truth) // nothing that runs is lost
		w.wait(w.a, w.submit("add effects refused"), "full")
		w.m.Disk.Fill(false)
		w.wait(w.a, w.submit(quick), "quick result")
		w.finish(w.a, "shell", "one", "quick")
	}},
}
