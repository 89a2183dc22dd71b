package storetest

import (
	"errors"
	"fmt"
	"slices"
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
	n.Fired, n.InputHash = &run.Fired{Index: s.Index, For: at}, nil
	return n
}

// pausingOf pauses a schedule, or has it go on.
func pausingOf(i int, paused bool) run.Pausing {
	event := auditEvent("schedule")
	return run.Pausing{
		Tenant: session.DefaultTenant, Workflow: "w", Index: i, Paused: paused,
		Next: func(after time.Time) time.Time { return nextHour(0, after) }, Record: &event,
	}
}

// fireDue acts on what is due, as one of several replicas does, and makes up for all that was missed.
func fireDue(t tester, s store.Store) (did int, err error) {
	for after, page := (run.Place{}), 1; page > 0 && err == nil; {
		due, now, failed := s.DueSchedules(ctx(t), after, 1)
		if page, err = len(due), failed; page == 0 {
			break
		}
		after = due[0].Place()
		var starts []run.Start
		for at := due[0].Next; !at.After(now); at = nextHour(0, at) {
			starts = append(starts, fired(due[0], at))
		}
		is, failed := s.Fire(ctx(t), due[0], nextHour(0, now), starts)
		if err = failed; is {
			did += len(starts)
		}
	}
	return did, err
}

var scheduleCases = []testCase{
	{"keep what is known of them, as long as they are the same", func(t *testing.T, db DB) {
		all := setSchedules(t, db.Store, hourly("UTC"), hourly("Asia/Tokyo"))
		if len(all) != 2 || all[1].Zone != "Asia/Tokyo" || all[1].Index != 1 || all[0].Next.Minute() != 0 ||
			all[0].Next.Before(time.Now()) {
			t.Fatalf("the schedules: %+v", all)
		}
		records := db.Count(`SELECT count(*) FROM audit`)
		paused, err := db.Second.PauseSchedule(ctx(t), pausingOf(0, true))
		if ok(t, err); !paused.Paused {
			t.Errorf("%+v", paused)
		}
		db.Advance(3 * time.Hour)
		due, now, err := db.Second.DueSchedules(ctx(t), run.Place{}, 10)
		ok(t, err)
		if len(due) != 1 || due[0].Zone != "Asia/Tokyo" || !due[0].Next.Equal(all[1].Next) || now.Before(due[0].Next) {
			t.Errorf("due: %+v at %v", due, now)
		}
		again := setSchedules(t, db.Second, hourly("Europe/Berlin"), hourly("UTC"), hourly("Asia/Tokyo"))
		if len(again) != 3 || !again[1].Paused || again[1].Index != 1 || !again[2].Next.Equal(all[1].Next) ||
			again[0].Paused || !again[0].Next.After(now) {
			t.Errorf("then: %+v", again)
		}
		resumed, err := db.Store.PauseSchedule(ctx(t), pausingOf(1, false))
		if ok(t, err); resumed.Paused || !resumed.Next.After(now) {
			t.Errorf("resumed: %+v", resumed)
		}
		_, err = db.Store.PauseSchedule(ctx(t), pausingOf(7, true))
		refused(t, err, run.ErrNoSchedule)
		if n := db.Count(`SELECT count(*) FROM audit`); n != records+2 {
			t.Errorf("%d pauses are in the audit log", n-records)
		}
		_, err = db.Store.PauseSchedule(ctx(t), pausingOf(2, true))
		ok(t, err)
		if got := setSchedules(t, db.Second, hourly("Asia/Tokyo"), hourly("UTC"), hourly("Asia/Seoul"),
			hourly("Asia/Tokyo")); !got[0].Paused || got[1].Paused || got[2].Paused || got[3].Paused {
			t.Errorf("in other places: %+v", got)
		}
		if got := setSchedules(t, db.Second, hourly("Asia/Manila"), hourly("UTC")); !got[0].Paused || got[1].Paused {
			t.Errorf("in the place of one that pauses: %+v", got)
		}
		if left := setSchedules(t, db.Store); len(left) != 0 {
			t.Errorf("left: %+v", left)
		}
	}},
	{"are due no later than they say, although they were written when the clock was ahead", func(
		t *testing.T, db DB,
	) {
		first := setSchedules(t, db.Store, hourly("Asia/Seoul"))[0].Next
		all := []run.Schedule{hourly("UTC"), hourly("Asia/Tokyo")}
		ok(t, db.Store.SetSchedules(ctx(t), session.DefaultTenant, "w", all, func(i int, at time.Time) time.Time {
			return nextHour(i, at.AddDate(7*i, 0, 0))
		}))
		got := setSchedules(t, db.Second, all...)
		if len(got) != 2 || !got[0].Next.Equal(first) || !got[1].Next.Equal(first) {
			t.Errorf("%+v", got)
		}
		db.Advance(3 * time.Hour)
		equal(t, "what is due is due", setSchedules(t, db.Second, all...), got)
	}},
	{"start one run for each instant, whoever acts on it", func(t *testing.T, db DB) {
		setSchedules(t, db.Store, hourly("UTC"))
		clients := []store.Store{db.Store, db.Second, db.Start()}
		for round := range 5 {
			db.Advance(time.Hour)
			var did atomic.Int32
			together(t, 3, func(i int) error {
				n, err := fireDue(t, clients[i])
				did.Add(int32(n))
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
	{"start one run for each instant, however the clock of the database's machine is set", func(t *testing.T, db DB) {
		first := setSchedules(t, db.Store, hourly("UTC"))[0].Next
		clients := []store.Store{db.Store, db.Second, db.Start()}
		alive := make([]string, len(clients))
		var want []time.Time
		for i, by := range []time.Duration{0, -3 * time.Hour, 5 * time.Hour, -90 * time.Minute, -far, far} {
			for range i {
				want = append(want, first.Add(time.Duration(len(want))*time.Hour))
				db.Advance(time.Hour)
			}
			for i, s := range clients {
				alive[i] = live(t, s)
			}
			db.Jump(by)
			if i%2 == 0 {
				clients[2] = db.Start()
				alive[2] = live(t, clients[2])
			}
			together(t, 3, func(i int) error {
				_, before := fireDue(t, clients[i])
				_, err := clients[i].RenewReplica(ctx(t), alive[i], leaseTTL)
				_, then := fireDue(t, clients[i])
				return errors.Join(before, err, then)
			})
			var got []time.Time
			for _, id := range listRuns(t, db.Store, run.Filter{}) {
				got = append(got, getRun(t, db.Store, id).Fired.For)
			}
			slices.SortFunc(got, time.Time.Compare)
			equal(t, fmt.Sprint("the instants after jump ", i), got, want)
		}
	}},
	{"start no second run of an instant when they are set again", func(t *testing.T, db DB) {
		all := []run.Schedule{hourly("UTC"), hourly("UTC"), hourly("Asia/Tokyo")}
		due := setSchedules(t, db.Store, all...)[0].Next
		again := func(all ...run.Schedule) {
			ok(t, db.Store.SetSchedules(ctx(t), session.DefaultTenant, "w", nil, nil))
			ok(t, db.Store.SetSchedules(ctx(t), session.DefaultTenant, "w", all,
				func(int, time.Time) time.Time { return due }))
		}
		db.Advance(time.Hour)
		for _, c := range []struct {
			runs int
			all  []run.Schedule
		}{
			{3, all},
			{3, []run.Schedule{all[2], all[0], all[1]}},
			{4, append(all, all[0])},
			{4, append(all[2:], all[1])},
		} {
			again(c.all...)
			for range c.all {
				page, now, err := db.Second.DueSchedules(ctx(t), run.Place{}, 1)
				ok(t, err)
				n := fired(page[0], due)
				n.Gate = &run.Gate{Key: n.ID, Limit: 1}
				if is, err := db.Second.Fire(ctx(t), page[0], nextHour(0, now), []run.Start{n}); err != nil || !is {
					t.Errorf("fired: %v, %v", is, err)
				}
			}
			if n := len(listRuns(t, db.Store, run.Filter{})); n != c.runs {
				t.Errorf("%d runs, want %d", n, c.runs)
			}
			if n := db.Count(`SELECT count(*) FROM conc_keys`); n != c.runs {
				t.Errorf("%d keys of %d runs", n, c.runs)
			}
		}
	}},
	{"that cannot be acted on keep no others", func(t *testing.T, db DB) {
		setSchedules(t, db.Store, hourly("UTC"), hourly("Asia/Tokyo"), hourly("Europe/Berlin"))
		db.Advance(time.Hour)
		var zones []string
		last := run.Place{}
		for range 4 {
			page, now, err := db.Second.DueSchedules(ctx(t), last, 1)
			ok(t, err)
			if now.IsZero() != (len(page) == 0) || len(page) > 1 {
				t.Fatalf("at %v: %+v", now, page)
			}
			if len(page) == 1 {
				last = page[0].Place()
				zones = append(zones, page[0].Zone)
			}
		}
		equal(t, "the zones", zones, []string{"UTC", "Asia/Tokyo", "Europe/Berlin"})
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
