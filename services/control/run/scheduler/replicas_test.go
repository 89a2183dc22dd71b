package scheduler_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/scheduler"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/store/planetest"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// clock is that of a database, which a test moves. Time passes, or the clock of the machine is set.
type clock struct{ passed, set atomic.Int64 }

func (c *clock) wall() time.Time           { return time.Now().Add(c.jumped()) }
func (c *clock) jumped() time.Duration     { return time.Duration(c.set.Load()) }
func (c *clock) skipped() time.Duration    { return time.Duration(c.passed.Load()) }
func (c *clock) advance(by time.Duration)  { c.passed.Add(int64(by)) }
func (c *clock) jump(by time.Duration)     { c.set.Add(int64(by)) }
func (c *clock) opened(t time.Time) *clock { c.jump(time.Until(t)); return c }

// databases open one database for each replica, on a clock.
var databases = map[string]func(t *testing.T, c *clock, replicas int) []store.Store{
	"SQLite": func(t *testing.T, c *clock, replicas int) []store.Store {
		began := time.Now()
		db, err := sqlite.Open(t.Context(), sqlite.Memory, sqlite.Options{Clock: sqlite.Clock{
			Wall: c.wall, Elapsed: func() time.Duration { return time.Since(began) + c.skipped() },
		}})
		return slices.Repeat([]store.Store{closing(t, db, err)}, replicas)
	},
	"Postgres": func(t *testing.T, c *clock, replicas int) (all []store.Store) {
		url := pgtest.URL(t)
		for range replicas {
			db, err := postgres.Open(t.Context(), url, postgres.Options{
				ClockOffset: c.skipped, ServerOffset: c.jumped, Log: slog.New(slog.DiscardHandler),
			})
			all = append(all, closing(t, db, err))
		}
		return all
	},
}

func closing(t *testing.T, db store.Store, err error) store.Store {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// replicas are schedulers on databases with one clock.
type replicas struct {
	*testing.T
	*clock
	stores []store.Store
	ids    []string // of living replicas
	all    []*scheduler.Service
}

func start(t *testing.T, c *clock, stores []store.Store, w *planetest.Workflows) *replicas {
	t.Helper()
	r := &replicas{T: t, clock: c, stores: stores}
	for _, db := range stores {
		one := replica.Replica{ID: ident.New(), Host: "host", Lock: ident.New()}
		if _, err := db.RegisterReplica(t.Context(), one, replica.TTL); err != nil {
			t.Fatal(err)
		}
		r.ids = append(r.ids, one.ID)
		s := scheduler.NewService(scheduler.Deps{
			Store: db, Runs: run.NewService(run.Deps{Store: db, Workflows: w, Bus: wake.NewBus(nil)}), Workflows: w,
			Log: slog.New(slog.DiscardHandler),
		})
		r.all = append(r.all, s)
	}
	r.together(func(i int) error { return r.all[i].Keep(t.Context()) })
	return r
}

// together lets all replicas do something at once.
func (r *replicas) together(f func(i int) error) {
	r.Helper()
	var g sync.WaitGroup
	for i := range r.all {
		g.Go(func() {
			if err := f(i); err != nil {
				r.Error(err)
			}
		})
	}
	g.Wait()
}

// pass lets time pass in steps of a length, after each of which all replicas renew their leases and act.
func (r *replicas) pass(steps int, by time.Duration) {
	r.Helper()
	for range steps {
		r.advance(by)
		r.sweep()
	}
}

func (r *replicas) sweep() {
	r.Helper()
	r.together(func(i int) error { return r.all[i].Sweep(r.Context()) })
	r.together(func(i int) error {
		_, err := r.stores[i].RenewReplica(r.Context(), r.ids[i], replica.TTL)
		return err
	})
	r.together(func(i int) error { return r.all[i].Sweep(r.Context()) })
}

// starts checks for which instants runs of a workflow were started: each once.
func (r *replicas) starts(workflow string, want ...string) {
	r.Helper()
	found, err := r.stores[0].ListRuns(r.Context(), run.Filter{
		Tenant: "default", Workflows: []string{workflow}, Limit: 1000,
	})
	if err != nil {
		r.Fatal(err)
	}
	var got []string
	for _, one := range found {
		got = append(got, one.Fired.For.Format("2 15:04"))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		r.Errorf("%s was started for %q, want %q", workflow, got, want)
	}
}

// on3 runs a test with three replicas on each kind of database, whose clock begins with a time.
func on3(t *testing.T, begins time.Time, files map[string]string, f func(r *replicas)) {
	t.Helper()
	for kind, open := range databases {
		t.Run(kind, func(t *testing.T) {
			c := (&clock{}).opened(begins)
			f(start(t, c, open(t, c, 3), planetest.NewWorkflows(t, files)))
		})
	}
}

var night = map[string]string{
	"night": on(`{cron: "30 2 * * *", tz: Europe/Berlin}`), "often": on(`{cron: "15 * * * *", tz: Europe/Berlin}`),
}

func TestReplicasWhereClocksGoForward(t *testing.T) {
	on3(t, time.Date(2030, 3, 30, 23, 50, 0, 0, time.UTC), night, func(r *replicas) {
		r.pass(10, 20*time.Minute) // at 1:00 UTC it is 3:00 in Berlin, after 1:59
		r.starts("night", "31 01:30")
		r.starts("often", "31 00:15", "31 01:15", "31 02:15")
	})
}

func TestReplicasWhereClocksGoBack(t *testing.T) {
	on3(t, time.Date(2030, 10, 26, 23, 50, 0, 0, time.UTC), night, func(r *replicas) {
		r.pass(10, 20*time.Minute) // at 1:00 UTC it is 2:00 in Berlin, after 2:59
		r.starts("night", "27 00:30")
		r.starts("often", "27 00:15", "27 01:15", "27 02:15")
	})
}

// However the clock of the database's machine is set, each hour that passes has one run.
func TestReplicasWhoseClockIsSet(t *testing.T) {
	files := map[string]string{"all": on(`{cron: "0 * * * *", catchup: all}`)}
	on3(t, time.Date(2030, 5, 5, 5, 30, 0, 0, time.UTC), files, func(r *replicas) {
		for _, by := range []time.Duration{3 * time.Hour, -5 * time.Hour, 10 * 365 * 24 * time.Hour} {
			r.jump(by)
			r.sweep()
			r.together(func(i int) error { r.all[i].Reloaded(); return r.all[i].Keep(r.Context()) })
			r.pass(4, 15*time.Minute)
			r.jump(-by)
			r.sweep()
		}
		r.starts("all", "5 06:00", "5 07:00", "5 08:00")
	})
}

// All replicas run at once, and are stopped by their contexts.
func TestReplicasRun(t *testing.T) {
	files := map[string]string{"all": on(`{cron: "* * * * *", catchup: all}`)}
	on3(t, time.Date(2030, 5, 5, 5, 30, 10, 0, time.UTC), files, func(r *replicas) {
		ctx, stop := context.WithCancel(r.Context())
		var g sync.WaitGroup
		for _, s := range r.all {
			g.Go(func() {
				if err := s.Run(ctx); err != nil {
					r.Error(err)
				}
			})
		}
		for n := range 3 {
			r.advance(time.Minute)
			for tries := range await.Ticks(r.Context(), 10*time.Millisecond) {
				if len(r.found()) > n || tries > 3000 {
					break
				}
			}
		}
		stop()
		g.Wait()
		r.starts("all", "5 05:31", "5 05:32", "5 05:33")
	})
}

func (r *replicas) found() []run.Run {
	r.Helper()
	all, err := r.stores[0].ListRuns(r.Context(), run.Filter{Tenant: "default", Limit: 1000})
	if err != nil {
		r.Fatal(err)
	}
	return all
}
