package storetest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
)

// hourly is a schedule that is due on the hour.
func hourly(zone string) run.Schedule {
	return run.Schedule{Cron: "0 * * * *", Zone: zone, Catchup: "last"}
}

func nextHour(_ int, after time.Time) time.Time {
	return after.Truncate(time.Hour).Add(time.Hour).UTC()
}

func setSchedules(t tester, s store.Store, all ...run.Schedule) []run.Schedule {
	t.Helper()
	ok(t, s.SetSchedules(ctx(t), session.DefaultTenant, "w", all, nextHour))
	got, err := s.Schedules(ctx(t), session.DefaultTenant)
	ok(t, err)
	return got
}

// fired is a run that a schedule starts.
func fired(s run.Schedule, at time.Time) run.Start {
	n := newRun(s.Workflow)
	n.Fired, n.IdempotencyKey = &run.Fired{Index: s.Index, For: at}, "sched:w:"+at.Format(time.RFC3339)
	return n
}

var scheduleCases = []testCase{
	{"keep what is known of them, as long as they are the same", func(t *testing.T, db DB) {
		all := setSchedules(t, db.Store, hourly("UTC"), hourly("Asia/Tokyo"))
		if len(all) != 2 || all[1].Zone != "Asia/Tokyo" || all[1].Index != 1 || all[0].Next.Minute() != 0 ||
			all[0].Next.Before(time.Now()) {
			t.Fatalf("the schedules: %+v", all)
		}
		paused, err := db.Second.PauseSchedule(ctx(t), session.DefaultTenant, "w", 0, true, nil)
		if ok(t, err); !paused.Paused {
			t.Errorf("%+v", paused)
		}
		db.Advance(3 * time.Hour)
		due, now, err := db.Second.DueSchedules(ctx(t), 10)
		ok(t, err)
		if len(due) != 1 || due[0].Zone != "Asia/Tokyo" || !due[0].Next.Equal(all[1].Next) || now.Before(due[0].Next) {
			t.Errorf("due: %+v at %v", due, now)
		}
		again := setSchedules(t, db.Second, hourly("Europe/Berlin"), hourly("UTC"), hourly("Asia/Tokyo"))
		if len(again) != 3 || !again[1].Paused || again[1].Index != 1 || !again[2].Next.Equal(all[1].Next) ||
			again[0].Paused || !again[0].Next.After(now) {
			t.Errorf("then: %+v", again)
		}
		resumed, err := db.Store.PauseSchedule(ctx(t), session.DefaultTenant, "w", 1, false,
			func(after time.Time) time.Time { return nextHour(0, after) })
		if ok(t, err); resumed.Paused || !resumed.Next.After(now) {
			t.Errorf("resumed: %+v", resumed)
		}
		_, err = db.Store.PauseSchedule(ctx(t), session.DefaultTenant, "w", 7, true, nil)
		refused(t, err, run.ErrNoSchedule)
		if left := setSchedules(t, db.Store); len(left) != 0 {
			t.Errorf("left: %+v", left)
		}
	}},
	{"start one run for each instant, whoever acts on it", func(t *testing.T, db DB) {
		setSchedules(t, db.Store, hourly("UTC"))
		clients := []store.Store{db.Store, db.Second, db.Start()}
		for round := range 5 {
			db.Advance(time.Hour)
			var did atomic.Int32
			together(t, 3, func(i int) error {
				due, now, err := clients[i].DueSchedules(ctx(t), 10)
				for _, s := range due {
					is, err := clients[i].Fire(ctx(t), s, nextHour(0, now), []run.Start{fired(s, s.Next)})
					if err != nil {
						return err
					}
					if is {
						did.Add(1)
					}
				}
				return err
			})
			if did.Load() != 1 || len(listRuns(t, db.Store, run.Filter{})) != round+1 {
				t.Fatalf("round %d: %d have fired", round, did.Load())
			}
		}
		all := setSchedules(t, db.Store, hourly("UTC"))
		last := getRun(t, db.Store, all[0].LastRun)
		if last.Fired == nil || !last.Fired.For.Equal(all[0].Last) || !all[0].Next.After(all[0].Last) {
			t.Errorf("%+v, %+v", all[0], last)
		}
	}},
	{"move on with all of their starts, or not at all", func(t *testing.T, db DB) {
		s := setSchedules(t, db.Store, hourly("UTC"))[0]
		db.Advance(5 * time.Hour)
		busy, free := fired(s, s.Next), fired(s, s.Next.Add(time.Hour))
		busy.Gate, free.Gate = &run.Gate{Key: "b", Limit: 1, Policy: run.Reject}, &run.Gate{Key: "a", Limit: 1}
		ownRun(t, db.Store, keyedRun("b", 1, run.Queue))
		is, err := db.Second.Fire(ctx(t), s, s.Next.Add(5*time.Hour), []run.Start{busy, free})
		if ok(t, err); !is {
			t.Fatal("it has not fired")
		}
		if got := getRun(t, db.Store, free.ID); got.Blocked || !got.Fired.For.Equal(s.Next.Add(time.Hour)) {
			t.Errorf("the run: %+v", got)
		}
		_, err = db.Store.GetRun(ctx(t), session.DefaultTenant, busy.ID)
		refused(t, err, run.ErrNotFound)
		if is, err = db.Store.Fire(ctx(t), s, s.Next.Add(6*time.Hour), nil); err != nil || is {
			t.Errorf("it has fired again: %v, %v", is, err)
		}
		moved := setSchedules(t, db.Store, hourly("UTC"))[0]
		if !moved.Next.Equal(s.Next.Add(5*time.Hour)) || moved.LastRun != free.ID {
			t.Errorf("moved: %+v", moved)
		}
		broken := fired(moved, moved.Next)
		broken.Fork = &run.Fork{RunID: "none"}
		both := []run.Start{fired(moved, moved.Last), broken}
		if _, err = db.Store.Fire(ctx(t), moved, moved.Next.Add(time.Hour), both); err == nil {
			t.Error("a start that fails is no failure")
		}
		equal(t, "the schedule", setSchedules(t, db.Store, hourly("UTC"))[0], moved)
	}},
}
