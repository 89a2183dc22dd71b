package control_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/services/control"
	"github.com/pawl-dev/pawl/services/control/project"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// startScheduled starts a replica on a Postgres whose clock is ahead by skipped, and returns its store.
func startScheduled(t *testing.T, url, dir string, skipped func() time.Duration) *postgres.Store {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := postgres.Open(t.Context(), url, postgres.Options{ClockOffset: skipped, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	p, err := project.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- control.Run(ctx, control.Config{
			Store: db, GRPC: listener, Agents: p.Agents, Workflows: p.Workflows, Lookup: os.LookupEnv, Open: true,
			Ready: func() { close(ready) }, Log: log,
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, db.Close()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("control did not start: %v", err)
	}
	return db
}

// Three control planes on one Postgres carry out one run for each instant, over the night in which the clocks of Berlin
// go forward.
func TestSchedulesOfThreeReplicas(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "workflows", "night.yaml")
	text := `
on: {schedule: [{cron: "30 2 * * *", tz: Europe/Berlin}, {cron: "0 * * * *", catchup: all}]}
steps: [{id: a, set: {at: "${{ run.?scheduled_for.orValue(run.started) }}"}}]
output: "${{ steps.a.at }}"
`
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	var passed atomic.Int64
	passed.Store(int64(time.Until(time.Date(2031, 3, 29, 23, 50, 0, 0, time.UTC))))
	began := time.Now()
	skipped := func() time.Duration { return time.Duration(passed.Load()) }
	url := pgtest.URL(t)
	db := startScheduled(t, url, dir, skipped)
	for range 2 {
		startScheduled(t, url, dir, skipped)
	}
	// What is due later than the replicas have begun is written by then.
	waitFor(t, func() bool {
		all, err := db.Schedules(t.Context(), "default")
		return err == nil && len(all) == 2
	})
	want := []string{"30 00:00", "30 01:00", "30 01:30", "30 02:00"}
	for n := range want {
		passed.Add(int64([]time.Duration{15, 55, 30, 30}[n] * time.Minute))
		waitFor(t, func() bool { return len(ended(t, db)) > n })
	}
	if got := ended(t, db); !slices.Equal(got, want) {
		t.Errorf("runs were started for %q, want %q, in %v", got, want, time.Since(began))
	}
}

// ended are the instants for which runs were started, when all of them have completed.
func ended(t *testing.T, db *postgres.Store) (all []string) {
	t.Helper()
	found, err := db.ListRuns(t.Context(), run.Filter{Tenant: "default", Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range found {
		if r.Status != run.Completed {
			return nil
		}
		full, err := db.GetRun(t.Context(), "default", r.ID)
		if err != nil || !strings.Contains(string(full.Output), r.Fired.For.Format("2006-01-02T15:04:05Z")) {
			t.Fatalf("%s of %v: %v", full.Output, r.Fired.For, err)
		}
		all = append(all, r.Fired.For.Format("2 15:04"))
	}
	slices.Sort(all)
	return all
}

// waitFor waits until something is so, a minute at most.
func waitFor(t *testing.T, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range await.Ticks(ctx, 20*time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatal("it is not so after a minute")
}
