// Package postgres keeps control's state in PostgreSQL, for any number of replicas.
//
//	Admit, Commit ──▶ group ──▶ one transaction for many operations ──▶ an answer for each
//	Claim, TakeOver, RequestAbort, Force ──▶ one transaction: lock the lanes, then look on a new snapshot
//	Post ──▶ wakes ──▶ MoveMail ──▶ lanes
//
// Every write about a lane is driven by one fenced UPDATE of its row in lanes, which is fence, compare-and-swap and
// lock at once: who does not get the row back writes nothing. Who waits for a lane holds nothing that others wait for
// but lanes, in one order; calls are locked after their lanes, in order of their ids.
//
// What is asked for a client runs within its tenant, see tenancy.Within: as a role that row-level security shows the
// rows of one tenant only, see wall.go. Claims, commits and retention, and what operators ask for, do not. The first
// statement of a transaction says so, in the same round trip. That is one statement more for each read, and two for a
// prompt: one for the look before its admission and one for that. Admissions of several tenants are one transaction
// still, with statements for each tenant. A commit costs nothing more.
//
// Invariants: nothing that bumps an epoch commits asynchronously; every operation may be repeated after a lost answer,
// and is; one clock decides times, see clock; a notification is never part of a transaction that writes.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/store/rows"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// Options of a Store. The zero value is right.
type Options struct {
	// Direct is an address of the same database that leads to the server itself, where the Store's own leads to a
	// pooler that shares sessions: for what needs a session. "" is none; then other replicas' hints are not heard, and
	// replicas that start together take turns by a row.
	Direct string
	// Log hears of lost connections; nil is slog's default.
	Log *slog.Logger
	// ConnectTimeout bounds Open's wait for the database; 0 is 10 s.
	ConnectTimeout time.Duration
	// RetryFor bounds one try of an operation, and how long it is tried again while the database is away; 0 is 10 s.
	RetryFor time.Duration
	// NoRowSecurity leaves it to the code alone to keep tenants apart: for databases where nobody can make a role. The
	// log is told at each start.
	NoRowSecurity bool
	// ClockOffset is time that has passed everywhere, and ServerOffset a jump of the server's clock. For tests.
	ClockOffset, ServerOffset func() time.Duration
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.RetryFor == 0 {
		o.RetryFor = 10 * time.Second
	}
	none := func() time.Duration { return 0 }
	if o.ClockOffset == nil {
		o.ClockOffset = none
	}
	if o.ServerOffset == nil {
		o.ServerOffset = none
	}
}

// Store is a PostgreSQL database.
type Store struct {
	*rows.Tables
	access
	opts    Options
	wall    string // the tenants' role; "" is that there is no second wall
	admits  *group[admission, submission.Admitted]
	starts  *group[runStart, run.Started]
	commits *group[commit, lane.Committed]
	notes   *notes
	health  *health
	clock   clock
	turns   turns

	flushes sync.WaitGroup
	cancel  context.CancelFunc // ends the rest
	rest    sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// Open connects to the database at url (postgres://user:password@host:port/database?options), brings its tables to this
// version's format and starts the store's own work. It fails within a second or so when there is
// nothing at the address, within Options.ConnectTimeout when the database does not answer, and at once when it has a
// newer format.
//
// A pooler that shares sessions, as PgBouncer does in transaction mode, is recognised by what it makes of startup
// parameters. Where it applies them, and forgets prepared statements nevertheless, the url has to say
// default_query_exec_mode=cache_describe. It may also set pool_max_conns.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	opts.defaults()
	access, err := connect(ctx, url, opts)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, access); err != nil {
		access.pool.Close()
		return nil, fmt.Errorf("database format: %w", err)
	}
	wall := ""
	if opts.NoRowSecurity {
		warnNoWall(opts.Log)
	} else if wall, err = raiseWall(ctx, access); err != nil {
		access.pool.Close()
		return nil, fmt.Errorf("row-level security: %w", err)
	}
	background, cancel := context.WithCancel(context.Background())
	s := &Store{
		access: access, opts: opts, wall: wall, cancel: cancel, notes: newNotes(), health: &health{log: opts.Log},
	}
	s.Tables = rows.New(plain{s: s}, s.opts.Log)
	began := time.Now()
	s.clock.elapsed = func() time.Duration { return time.Since(began) + opts.ClockOffset() }
	if err := s.tellTime(ctx); err != nil {
		cancel()
		access.pool.Close()
		return nil, fmt.Errorf("the database's time: %w", err)
	}
	s.admits = newGroup(s.flushAdmissions)
	s.starts = newGroup(s.flushStarts)
	s.commits = newGroup(s.flushCommits)
	s.flushes.Go(func() { s.admits.run(background, s.retry) })
	s.flushes.Go(func() { s.starts.run(background, s.retry) })
	s.flushes.Go(func() { s.commits.run(background, s.retry) })
	s.rest.Go(func() {
		_ = contain.Loop(background, s.opts.Log, "sending hints",
			func(ctx context.Context) error { s.sendNotes(ctx); return nil })
	})
	return s, nil
}

// planSQL plans the rest of the transaction as connections of our own plan everything.
const planSQL = `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
  set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
  set_config('jit', 'off', true)`

// batch begins a transaction that locks many lanes, in the order in which they are given: see planning.
func (s *Store) batch() *pgx.Batch {
	b := &pgx.Batch{}
	if s.shared {
		b.Queue(planSQL)
	}
	return b
}

// Close ends all work and waits for it. Operations that wait fail; those under way are finished.
func (s *Store) Close() error {
	s.admits.close()
	s.starts.close()
	s.commits.close()
	s.flushes.Wait()
	s.cancel()
	s.rest.Wait()
	s.pool.Close()
	return nil
}

var errClosed = errors.New("the store is closed")
