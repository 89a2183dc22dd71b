package platformtest_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
)

// timed is a world whose database is on a machine with a clock of its own: so far from that of the replicas at first,
// and by jump later.
func timed(t *testing.T, off time.Duration, run func(w *world, jump func(time.Duration))) {
	synctest.Test(t, func(t *testing.T) {
		var jumped atomic.Int64
		db, err := sqlite.Open(t.Context(), sqlite.Memory, sqlite.Options{Clock: sqlite.Clock{
			Wall: func() time.Time { return time.Now().Add(off + time.Duration(jumped.Load())) },
		}})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{T: t}
		w.c = platformtest.New(t, platformtest.Options{Store: db, Models: models{&w.asking}, Agents: agents()})
		w.a = w.c.Start("a", nil)
		w.m = w.c.Machine(w.a, "m")
		w.m.Start(w.a)
		synctest.Wait()
		run(w, func(d time.Duration) { jumped.Add(int64(d)) })
	})
}

// The database's clock may be hours away from the replicas': deadlines are as long as they say, what was left in time
// completes, and nobody waits.
func TestDatabaseWithAnotherTime(t *testing.T) {
	for name, off := range map[string]time.Duration{"behind": -5 * time.Hour, "ahead": 5 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			timed(t, off, func(w *world, _ func(time.Duration)) {
				b := w.c.Start("b", nil)
				w.wait(w.a, w.submitTo(w.a, "hasty", one), truth)
				w.expires(w.a, w.submitTo(w.a, "hasty", "add effects two;trap;sleep 100h;add effects never"))
				id := w.submitTo(w.a, "hasty", asked("", "add effects three;sleep 2m;echo late"))
				w.sleep(time.Minute)
				w.a.Kill()
				w.m.Dial(b)
				if got := w.wait(b, id, "late"); got.GetAttempts() != 1 {
					w.Errorf("%d attempts, want 1", got.GetAttempts())
				}
				w.expires(b, w.submitTo(b, "hung", "say: never"))
				w.finishTree(b, "hasty", "one", "two", "three")
			})
		})
	}
}

// The clock of the database's machine jumps while submissions with deadlines run. Nothing ends earlier or later for it.
func TestDatabaseWhoseClockJumps(t *testing.T) {
	for name, by := range map[string]time.Duration{"forwards": 3 * time.Hour, "backwards": -3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			timed(t, 0, func(w *world, jump func(time.Duration)) {
				began := time.Now()
				short := w.submitTo(w.a, "hasty", "add effects one;sleep 25s;echo short")
				long := w.submitTo(w.a, "paced", "say: two\n"+asked("", "add effects two;trap;sleep 100h"))
				free := w.submit(asked("", "add effects three;sleep 10m;echo free")) // with an hour
				w.sleep(10 * time.Second)
				jump(by)
				w.wait(w.a, short, "short")
				got, err := w.tryWait(w.a, long)
				if err != nil || got.GetOutcome() != pawlv1.Outcome_OUTCOME_EXPIRED {
					w.Errorf("settled %v, %v", got, err)
				}
				if took := time.Since(began); took > 6*time.Minute || took < 5*time.Minute {
					w.Errorf("it took %s, with a deadline of 5 minutes", took)
				}
				w.wait(w.a, free, "free")
				w.wait(w.a, w.submitTo(w.a, "hasty", "echo next"), "next")
				w.finishTree(w.a, "shell", "one", "two", "three")
			})
		})
	}
}
