package platformtest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store"
)

var errDead = errors.New("the process is dead")

// ErrAway is what stores answer while the database cannot be reached.
var ErrAway = errs.New(errs.Unavailable, "DATABASE_UNAVAILABLE", "the database cannot be reached")

// Step is one use of the database by a replica, before it or After it.
type Step struct {
	After bool
	// Op is the method; of Commit and CompleteCall what the write is about, see opOf.
	Op  string
	Err error // of the database, After
	// Commit and Outcome are what is written.
	Commit  *lane.Commit
	Outcome *call.Outcome
	Leases  int // that a Claim or TakeOver got, After
}

// String is "before T2", "after Claim" and the like.
func (s Step) String() string {
	if s.After {
		return "after " + s.Op
	}
	return "before " + s.Op
}

// opOf names a commit by the arrow that its first step is (see package loop): of a sub-agent with "task " before it.
// What concerns single calls is "dispatch" or "outcome", all else "flush".
func opOf(c *lane.Commit) string {
	s := &c.Steps[0]
	op := opOfStep(s)
	if s.Begin != nil || s.SessionID != c.Fence.LaneID {
		op = "task " + op
	}
	return op
}

func opOfStep(s *lane.Step) string {
	switch p := s.Progress; {
	case s.End != nil:
		return "T4"
	case p != nil && p.InputEntry > 0:
		return "T1"
	case p != nil && p.Phase == lane.PhaseTools:
		return "T2"
	case p != nil:
		return "T3"
	case len(s.Dispatches) > 0:
		return "dispatch"
	case len(s.Outcomes) > 0:
		return "outcome"
	}
	return "flush"
}

// Write is a write that the database answered, for tests of what it refuses.
type Write struct {
	Op  string
	At  time.Time
	Err error
}

// Database is the database as one replica sees it. A test can strike at every Step, take the database away, and freeze
// its replica.
type Database struct {
	db    store.Store
	hints *hints
	alone bool

	mu     sync.Mutex // guards what follows
	dead   bool
	frozen chan struct{} // closed by thaw; nil while not frozen
	lost   error         // what every use answers while the database is out of reach
	strike func(Step) error
	writes []Write
}

// Strike sets what is called at every step; an error takes the place of the database's. nil ends it.
func (d *Database) Strike(f func(Step) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strike = f
}

// Lose makes every use fail with err, as long as it is not nil: a partition.
func (d *Database) Lose(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = err
}

// Writes is every write so far that reached the database.
func (d *Database) Writes() []Write {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Write(nil), d.writes...)
}

// freeze holds up every use, at whatever it is, until thaw: what a stopped process does.
func (d *Database) freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen == nil {
		d.frozen = make(chan struct{})
	}
}

func (d *Database) thaw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen != nil {
		close(d.frozen)
		d.frozen = nil
	}
}

// die makes the database refuse everything from now on.
func (d *Database) die() {
	d.mu.Lock()
	d.dead = true
	d.mu.Unlock()
	d.thaw()
}

// reach is what happens on the way to the database and back. thawed says that the replica was frozen meanwhile.
func (d *Database) reach(s Step) (thawed bool, err error) {
	d.mu.Lock()
	strike, dead := d.strike, d.dead
	d.mu.Unlock()
	if strike != nil && !dead {
		if err := strike(s); err != nil {
			return false, err
		}
	}
	for {
		d.mu.Lock()
		dead, frozen, lost := d.dead, d.frozen, d.lost
		d.mu.Unlock()
		switch {
		case dead:
			return thawed, errDead
		case frozen != nil:
			<-frozen
			thawed = true
		case s.After:
			return thawed, nil
		default:
			return thawed, lost
		}
	}
}

func (d *Database) use(ctx context.Context, s *Step, write bool, f func(context.Context) error) error {
	thawed, err := d.reach(*s)
	if err != nil {
		return err
	}
	if thawed {
		ctx = context.WithoutCancel(ctx) // the statement was on its way
	}
	s.Err = f(ctx)
	if write {
		d.mu.Lock()
		d.writes = append(d.writes, Write{s.Op, time.Now(), s.Err})
		d.mu.Unlock()
	}
	s.After = true
	if _, err := d.reach(*s); err != nil {
		return err
	}
	return s.Err
}

// ask is a read.
func ask[T any](ctx context.Context, d *Database, op string, f func(context.Context) (T, error)) (v T, err error) {
	err = d.use(ctx, &Step{Op: op}, false, func(ctx context.Context) (err error) {
		v, err = f(ctx)
		return err
	})
	return v, err
}

// put is a write.
func put[T any](ctx context.Context, d *Database, s Step, f func(context.Context) (T, error)) (v T, err error) {
	err = d.use(ctx, &s, true, func(ctx context.Context) (err error) {
		v, err = f(ctx)
		return err
	})
	return v, err
}

// put0 is a write that answers with an error alone.
func put0(ctx context.Context, d *Database, op string, f func(context.Context) error) error {
	return d.use(ctx, &Step{Op: op}, true, f)
}
