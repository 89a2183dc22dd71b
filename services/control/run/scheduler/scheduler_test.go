package scheduler_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/scheduler"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// output is a log that several goroutines write.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) count(what string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Count(o.text.String(), what)
}

// fixture is a replica's scheduler on a database in memory.
type fixture struct {
	*testing.T
	at        *scheduler.Service
	plane     *planetest.Plane
	runs      *planetest.Runs
	workflows *planetest.Workflows
	log       *output
}

// within runs a test on fake time, which begins at midnight UTC on the first of January 2000.
func within(t *testing.T, f func(f *fixture), files map[string]string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := planetest.New(t, nil)
		w := planetest.NewWorkflows(t, files)
		one := &fixture{T: t, plane: p, workflows: w, runs: p.Runs(t, w), log: &output{}}
		one.at = one.another()
		f(one)
	})
}

// another is the scheduler of one more replica.
func (f *fixture) another() *scheduler.Service {
	return scheduler.NewService(scheduler.Deps{
		Store: f.plane.Store, Runs: f.runs, Workflows: f.workflows, Log: slog.New(slog.NewTextHandler(f.log, nil)),
	})
}

func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// sweep acts on what is due.
func (f *fixture) sweep() { f.Helper(); f.ok(f.at.Sweep(f.Context())) }

// work runs the scheduler for a time.
func (f *fixture) work(d time.Duration) {
	f.Helper()
	ctx, stop := context.WithTimeout(f.Context(), d)
	defer stop()
	f.ok(f.at.Run(ctx))
}

// started are the instants whose runs of a workflow of a tenant were started, in order.
func (f *fixture) started(tenant, workflow string) (all []string) {
	f.Helper()
	found, err := f.runs.List(f.Context(), run.Filter{Tenant: tenant, Workflows: []string{workflow}, Limit: 1000})
	f.ok(err)
	for _, r := range found {
		if r.Fired == nil {
			f.Fatalf("no schedule has started %+v", r)
		}
		all = append(all, r.Fired.For.Format("2 15:04"))
	}
	slices.Reverse(all)
	return all
}

func (f *fixture) starts(workflow string, want ...string) {
	f.Helper()
	if got := f.started("default", workflow); !slices.Equal(got, want) {
		f.Errorf("%s was started for %q, want %q", workflow, got, want)
	}
}

// rows are the schedules of the tenant default.
func (f *fixture) rows() []scheduler.Entry {
	f.Helper()
	all, err := f.at.List(f.Context(), "", "", 3)
	f.ok(err)
	return all
}

// define puts a definition into force.
func (f *fixture) define(name, text string) {
	f.Helper()
	f.workflows.Force[name] = planetest.ParseWorkflow(f, name, text)
	f.at.Reloaded()
	f.ok(f.at.Keep(f.Context()))
}

// on is a definition with schedules, each written as one line.
func on(schedules ...string) string {
	return "on: {schedule: [" + strings.Join(schedules, ", ") + "]}\nsteps: [{log: hi}]\n"
}

func TestWhatWasMissed(t *testing.T) {
	within(t, func(f *fixture) {
		f.ok(f.at.Keep(f.Context()))
		time.Sleep(5*time.Hour + 10*time.Minute)
		f.sweep()
		f.starts("none")
		f.starts("last", "1 05:00")
		f.starts("all", "1 01:00", "1 02:00", "1 03:00", "1 04:00", "1 05:00")
		if got := f.started("default", "many"); len(got) != 100 || got[0] != "1 03:31" || got[99] != "1 05:10" {
			f.Errorf("%d runs were made up for: %q", len(got), got)
		}
		f.sweep()
		if got := f.started("default", "many"); len(got) != 100 {
			f.Errorf("then %d", len(got))
		}
		time.Sleep(50*time.Minute + 30*time.Second) // within schedule.Grace
		f.sweep()
		f.starts("none", "1 06:00")
		f.starts("last", "1 05:00", "1 06:00")
	}, map[string]string{
		"none": on(`{cron: "0 * * * *", catchup: none}`), "last": on(`{cron: "0 * * * *"}`),
		"all": on(`{cron: "0 * * * *", catchup: all}`), "many": on(`{cron: "* * * * *", catchup: all}`),
	})
}

func TestReplicasStartOneRun(t *testing.T) {
	within(t, func(f *fixture) {
		f.ok(f.at.Keep(f.Context()))
		all := []*scheduler.Service{f.at, f.another(), f.another()}
		for range 5 {
			time.Sleep(time.Hour)
			var g sync.WaitGroup
			for _, one := range all {
				g.Go(func() {
					if err := one.Sweep(f.Context()); err != nil {
						f.Error(err)
					}
				})
			}
			g.Wait()
		}
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			f.starts(name, "1 01:00", "1 02:00", "1 03:00", "1 04:00", "1 05:00")
		}
	}, map[string]string{
		"a": on(`{cron: "0 * * * *"}`), "b": on(`{cron: "0 * * * *"}`), "c": on(`{cron: "0 * * * *"}`),
		"d": on(`{cron: "0 * * * *"}`), "e": on(`{cron: "0 * * * *"}`),
	})
}

func TestDefinitionsAreLoadedAgain(t *testing.T) {
	within(t, func(f *fixture) {
		f.ok(f.at.Keep(f.Context()))
		first := scheduler.Which{Workflow: "w"}
		if e, err := f.at.Pause(f.Context(), first, true); err != nil || !e.Paused || len(e.Upcoming) > 0 {
			f.Fatalf("%+v, %v", e, err)
		}
		f.define("w", on(`{cron: "0 * * * *", catchup: all}`, `{cron: "30 * * * *"}`))
		f.define("w", on(`{cron: "20 * * * *"}`, `{cron: "30 * * * *"}`)) // it takes the place of one that pauses
		time.Sleep(time.Hour)
		f.sweep()
		f.starts("w", "1 00:30")
		rows := f.rows()
		if len(rows) != 2 || !rows[0].Paused || rows[1].Paused || rows[1].Last.Minute() != 30 || rows[1].LastRun == "" {
			f.Errorf("%+v", rows)
		}
		if e, err := f.at.Pause(f.Context(), first, false); err != nil || e.Paused ||
			!e.Next.Equal(time.Date(2000, 1, 1, 1, 20, 0, 0, time.UTC)) {
			f.Errorf("%+v, %v", e, err)
		}
		f.define("w", "steps: [{log: hi}]")
		if rows := f.rows(); len(rows) > 0 {
			f.Errorf("without schedules: %+v", rows)
		}
		f.define("w", on(`{cron: "30 * * * *"}`))
		delete(f.workflows.Force, "w")
		f.at.Reloaded()
		f.ok(f.at.Keep(f.Context()))
		if rows := f.rows(); len(rows) > 0 {
			f.Errorf("without a file: %+v", rows)
		}
	}, map[string]string{"w": on(`{cron: "0 * * * *"}`)})
}

// A replica that has other files leaves alone what it did not write: it neither acts on it nor writes it again.
func TestDefinitionsOfAnotherReplica(t *testing.T) {
	within(t, func(f *fixture) {
		f.ok(f.at.Keep(f.Context()))
		newer := f.another()
		old := f.workflows.Force["w"]
		f.workflows.Force["w"] = planetest.ParseWorkflow(f, "w", on(`{cron: "30 * * * *"}`))
		f.ok(newer.Keep(f.Context()))
		f.workflows.Force["w"] = old
		time.Sleep(time.Hour)
		f.ok(f.at.Keep(f.Context()))
		f.sweep()
		f.starts("w")
		if rows := f.rows(); len(rows) != 1 || rows[0].Cron != "30 * * * *" || rows[0].Problem == nil {
			f.Errorf("%+v", rows)
		}
		if _, err := f.at.Trigger(f.Context(), scheduler.Which{Workflow: "w"}, ""); err == nil {
			f.Error("it is started as another replica would")
		}
		f.workflows.Force["w"] = planetest.ParseWorkflow(f, "w", on(`{cron: "30 * * * *"}`))
		f.ok(newer.Sweep(f.Context()))
		f.starts("w", "1 00:30")
	}, map[string]string{"w": on(`{cron: "0 * * * *"}`)})
}

// What cannot be acted on is tried again at growing intervals, and keeps no others.
func TestSchedulesThatFail(t *testing.T) {
	within(t, func(f *fixture) {
		f.ok(f.at.Keep(f.Context()))
		delete(f.workflows.Force, "gone") // another replica may have it yet
		time.Sleep(time.Hour - time.Second)
		f.work(time.Minute)
		f.starts("good", "1 01:00")
		f.starts("broken")
		if n := f.log.count("cannot be acted on"); n < 5 || n > 20 {
			f.Errorf("it was tried %d times in a minute", n)
		}
		if n := f.log.count("goes without a run"); n != 1 {
			f.Errorf("%d instants go without a run", n)
		}
		rows := f.rows()
		if len(rows) != 3 || rows[0].Next.Hour() != 2 || rows[0].Problem != nil || // broken
			!errors.Is(rows[1].Problem, workflow.ErrNotFound) || rows[2].Problem != nil {
			f.Errorf("%+v", rows)
		}
		f.define("gone", on(`{cron: "0 * * * *"}`))
		f.sweep()
		f.starts("gone", "1 01:00")
	}, map[string]string{
		"broken": `{concurrency: {key: "${{ string(run.started) }}"}, on: {schedule: [{cron: "0 * * * *"}]},
			steps: [{log: hi}]}`,
		"gone": on(`{cron: "0 * * * *"}`), "good": on(`{cron: "0 * * * *"}`),
	})
}

func TestManyThatFailKeepNoOthers(t *testing.T) {
	files := map[string]string{"good": on(`{cron: "5 * * * *", catchup: all}`)}
	bad := slices.Repeat([]string{`{cron: "0 * * * *"}`}, 100)
	for _, name := range []string{"a", "b", "c"} {
		files[name] = on(bad...)
	}
	within(t, func(f *fixture) {
		f.ok(f.at.Keep(f.Context()))
		for _, name := range []string{"a", "b", "c"} {
			delete(f.workflows.Force, name)
		}
		time.Sleep(time.Hour + 5*time.Minute - time.Second)
		f.work(4 * time.Second)
		f.starts("good", "1 00:05", "1 01:05")
	}, files)
}

func TestPauseAndTrigger(t *testing.T) {
	within(t, func(f *fixture) {
		f.ok(f.at.Keep(f.Context()))
		second := scheduler.Which{Workflow: "w", Index: 1}
		if _, err := f.at.Pause(f.Context(), second, true); err != nil {
			f.Fatal(err)
		}
		time.Sleep(90 * time.Minute)
		f.sweep()
		f.starts("w", "1 01:00")
		at := time.Now()
		got, err := f.at.Trigger(f.Context(), second, "k")
		if err != nil || string(got.Run.Input) != `{"n":2}` || got.Run.Fired.Index != 1 ||
			!got.Run.Fired.For.Equal(at) {
			f.Fatalf("%+v, %v", got, err)
		}
		time.Sleep(time.Second)
		again, err := f.at.Trigger(f.Context(), second, "k")
		if err != nil || !again.Replayed || again.Run.ID != got.Run.ID {
			f.Errorf("%+v, %v", again, err)
		}
		e, err := f.at.Pause(f.Context(), second, false)
		if err != nil || !e.Next.Equal(time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC)) || len(e.Upcoming) != 1 {
			f.Errorf("%+v, %v", e, err)
		}
		rows := f.rows()
		if got := rows[0].Upcoming; len(got) != 3 || !got[2].Equal(time.Date(2000, 1, 1, 4, 0, 0, 0, time.UTC)) {
			f.Errorf("what is to come: %v", got)
		}
		for _, of := range []scheduler.Which{
			{Workflow: "w", Index: 2}, {Workflow: "x"}, {Tenant: "acme", Workflow: "w"},
		} {
			if _, err := f.at.Trigger(f.Context(), of, ""); !errors.Is(err, run.ErrNoSchedule) {
				f.Errorf("%+v was triggered: %v", of, err)
			}
			if _, err := f.at.Pause(f.Context(), of, true); !errors.Is(err, run.ErrNoSchedule) {
				f.Errorf("%+v was paused: %v", of, err)
			}
		}
	}, map[string]string{
		"w": on(`{cron: "0 * * * *", input: {n: 1}}`, `{cron: "0 * * * *", input: {n: 2}}`),
	})
}

// Each tenant that has the workflow has its schedules, also one that is made later; one that goes has none.
func TestSchedulesOfTenants(t *testing.T) {
	within(t, func(f *fixture) {
		f.work(time.Minute)
		for _, name := range []string{"acme", "other"} {
			if _, err := f.plane.Store.CreateTenant(f.Context(), name); err != nil {
				f.Fatal(err)
			}
		}
		f.work(time.Minute)
		if _, err := f.plane.Store.SuspendTenant(f.Context(), "other", true); err != nil {
			f.Fatal(err)
		}
		time.Sleep(time.Hour)
		f.sweep()
		for tenant, want := range map[string]int{"default": 1, "acme": 1, "other": 0} {
			if got := f.started(tenant, "w"); len(got) != want {
				f.Errorf("%s: %q", tenant, got)
			}
		}
	}, map[string]string{"w": on(`{cron: "0 * * * *"}`)})
}

// A clock that was ahead when the rows were written silences nothing for long.
func TestClockThatWasAhead(t *testing.T) {
	within(t, func(f *fixture) {
		f.ok(f.at.Keep(f.Context()))
		row := f.rows()[0].Schedule
		if fired, err := f.plane.Store.Fire(f.Context(), row, row.Next.AddDate(7, 0, 0), nil); err != nil || !fired {
			f.Fatal(fired, err)
		}
		f.ok(f.at.Keep(f.Context()))
		time.Sleep(time.Hour)
		f.sweep()
		f.starts("w", "1 01:00")
	}, map[string]string{"w": on(`{cron: "0 * * * *"}`)})
}
