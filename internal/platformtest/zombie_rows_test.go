package platformtest_test

import (
	"sync"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
)

// Row 12: a replica freezes, another one takes over, and it wakes.
var zombieRows = []row{
	{"12", "a frozen replica wakes: its T1 is refused", "harmless", zombie("shell", "T1")},
	{"12", "a frozen replica wakes: its T2 is refused", "harmless", zombie("shell", "T2")},
	{"12", "a frozen replica wakes: its outcome of a call is refused", "harmless", zombie("shell", "outcome")},
	{"12", "a frozen replica wakes: its T3 is refused", "harmless", zombie("shell", "T3")},
	{"12", "a frozen replica wakes: its T4 is refused", "harmless", zombie("shell", "T4")},
	{"12", "a frozen replica wakes: its flush is refused", "harmless", zombie("paced", "flush")},
	{
		"12", "a frozen replica wakes after another one took over and before that one wrote anything", "harmless",
		func(w *world) {
			frozen, taken := make(chan struct{}), make(chan struct{})
			var first, second sync.Once
			w.a.DB.Strike(func(s platformtest.Step) error {
				if s.String() == "before T3" {
					first.Do(func() { w.a.Freeze(); close(frozen) })
				}
				return nil
			})
			id := w.submit(one)
			w.met(frozen)
			b := w.c.Start("b", func(p *platformtest.Platform, s platformtest.Step) error {
				if s.String() == "after TakeOver" && s.Leases > 0 {
					second.Do(func() { p.Freeze(); close(taken) })
				}
				return nil
			})
			w.met(taken)
			woke := time.Now()
			w.a.Thaw() // nothing but the epoch tells its T3 from one that may be written
			synctest.Wait()
			w.refused(w.a, "T3", woke)
			b.Thaw()
			w.move(b)
			w.wait(b, id, truth)
			w.finish(b, "shell", "one")
		},
	},
	{"12", "a frozen replica wakes: its Execute is refused", "harmless", func(w *world) {
		b := w.c.Start("b", nil)
		w.move(b)
		thaw := w.hold("Execute")
		id := w.submit(one) // a runs it, and its Execute is on its way to b
		synctest.Wait()
		w.a.Freeze()
		w.wait(b, id, truth)
		before := w.count("Execute", "")
		thaw()
		w.a.Thaw()
		w.sleep(time.Minute)
		if w.count("Execute", "") != before+1 || w.count("Rejected", "STALE_EPOCH") != 1 {
			w.Errorf("%d of %d orders are the late one, %d were refused", w.count("Execute", "")-before,
				w.count("Execute", ""), w.count("Rejected", "STALE_EPOCH"))
		}
		w.finish(w.a, "shell", "one")
	}},
	{"12", "a frozen replica wakes: its Cancel is refused", "harmless", func(w *world) {
		b := w.c.Start("b", nil)
		w.move(b)
		thaw := w.hold("Cancel")
		id := w.submit(one)
		w.sleep(10 * time.Second)
		if _, err := pawlv1.NewSubmissionServiceClient(w.a.GRPC).AbortSubmission(w.Context(),
			&pawlv1.AbortSubmissionRequest{SubmissionId: id}); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		w.a.Freeze()
		got, err := w.tryWait(b, id)
		if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_ABORTED {
			w.Errorf("settled %v %v, %v", got.GetOutcome(), got.GetError(), err)
		}
		before := w.count("Cancel", "")
		thaw()
		w.a.Thaw()
		w.sleep(time.Minute)
		if w.count("Cancel", "") != before+1 || w.count("Rejected", "STALE_EPOCH") != 1 {
			w.Errorf("%d of %d cancels are the late one, %d were refused", w.count("Cancel", "")-before,
				w.count("Cancel", ""), w.count("Rejected", "STALE_EPOCH"))
		}
		w.finish(w.a, "shell", "one")
	}},
}
