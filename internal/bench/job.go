package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Databases that are measured.
const (
	Memory   = "memory"
	SQLite   = "sqlite"
	Postgres = "postgres"
)

var (
	everywhere = []string{Memory, SQLite, Postgres}
	onDisk     = []string{SQLite, Postgres}
	onPostgres = []string{Postgres}
	nowhere    = []string{""} // no database has a part in it
)

// measurement is one thing to measure, on each of its databases.
type measurement struct {
	name      string
	databases []string
	measure   func(context.Context, *run) error
}

// measurements in the order of the table.
var measurements = []measurement{
	{"floors", nowhere, floors},
	{"sizes", nowhere, sizes},
	{"commits", everywhere, commits},
	{"admission", everywhere, admission},
	{"prompts", everywhere, prompts},
	{"runs/store", everywhere, storedRuns},
	{"runs/noop", everywhere, noopRuns},
	{"runs/steps", everywhere, longRun},
	{"runs/parked", onDisk, parkedRuns},
	{"runs/schedules", onDisk, scheduledRuns},
	{"long", everywhere, long},
	{"long-session", onDisk, longSession},
	{"fifo", everywhere, fifo},
	{"tools", everywhere, toolCalls},
	{"deltas", everywhere, deltas},
	{"files", everywhere, files},
	{"bigfile", []string{Memory}, bigFile},
	{"rest", everywhere, rest},
	{"sockets", []string{Memory}, sockets},
	{"websockets", []string{Memory}, websockets},
	{"surfaces", []string{SQLite}, surfaces},
	{"silent", []string{Memory}, silent},
	{"starts", everywhere, starts},
	{"history/100", onDisk, shortHistory},
	{"history/1000", onDisk, longHistory},
	{"throughput", onPostgres, throughput},
	{"depth", onPostgres, depth},
	{"leases", onPostgres, leases},
	{"capacity", onPostgres, capacity},
	{"watchers", onPostgres, watchers},
	{"replicas", onPostgres, replicas},
	{"restart", onDisk, restart},
	{"handover", onPostgres, handOver},
	{"failover", onPostgres, failover},
}

// job is a measurement on one of its databases.
type job struct {
	measurement
	database string
}

func (j job) String() string { return strings.TrimSuffix(j.name+"/"+j.database, "/") }

// chosen are the jobs that match.
func chosen(all []measurement, only *regexp.Regexp) []job {
	var jobs []job
	for _, m := range all {
		for _, d := range m.databases {
			if j := (job{m, d}); only.MatchString(j.String()) {
				jobs = append(jobs, j)
			}
		}
	}
	return jobs
}

// measure does the jobs one after the other. What fails is told, and does not keep the others from being measured.
func measure(ctx context.Context, jobs []job, quick bool) (rows []Row, err error) {
	b, err := newBench(ctx, quick)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	var failed []error
	for i, j := range jobs {
		if ctx.Err() != nil {
			failed = append(failed, fmt.Errorf("interrupted before %s", j))
			break
		}
		began := time.Now()
		r := &run{bench: b, database: j.database, name: fmt.Sprintf("%d of %d, %s", i+1, len(jobs), j)}
		r.progress("begins")
		err := errors.Join(j.measure(ctx, r), r.end())
		for _, row := range r.rows {
			r.progress(strings.Join(slices.DeleteFunc(row.cells(), func(s string) bool { return s == "" }), "  "))
		}
		rows = append(rows, r.rows...)
		if err != nil {
			r.progress("failed: " + err.Error())
			failed = append(failed, fmt.Errorf("%s: %w", j, err))
		} else {
			r.progress(fmt.Sprintf("took %.1f s", time.Since(began).Seconds()))
		}
	}
	return rows, errors.Join(failed...)
}

// run is one job that runs.
type run struct {
	*bench
	database string
	name     string
	rows     []Row

	mu   sync.Mutex // guards what follows
	ends []func() error
}

func (r *run) progress(text string) { fmt.Fprintf(os.Stderr, "bench: %s: %s\n", r.name, text) }

// add adds a row of the run's database.
func (r *run) add(row Row) {
	row.Database = r.database
	r.rows = append(r.rows, row)
}

// atEnd has something done when the run ends, last first. Safe for concurrent use.
func (r *run) atEnd(f func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends = append(r.ends, f)
}

func (r *run) end() error {
	var failed []error
	for _, f := range slices.Backward(r.ends) {
		failed = append(failed, f())
	}
	return errors.Join(failed...)
}

// some is how much of something is done: few when it has to be quick.
func (b *bench) some(all, few int) int {
	if b.quick {
		return few
	}
	return all
}
