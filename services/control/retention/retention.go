// Package retention deletes what piles up and nobody needs any more.
//
//	each minute ──▶ events, deltas, tickets
//	each hour   ──▶ receipts, calls, executors, tokens, definitions, deletions, approvals, runs, pauses, audit events
//
// Invariants: one transaction deletes a bounded number of rows and bytes, so that no pass holds a database's only
// writer for long; what a pass cannot delete is not looked at again and again; a kind that fails does not keep the
// others from their turn.
package retention

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
)

// Kind is what a batch deletes.
type Kind uint8

// Kinds, with the age that counts for each.
const (
	// Events are segments of streams, by the time of their commit. The oldest of a stream go first, and its floor rises
	// with them.
	Events Kind = iota
	// Deltas are segments of nothing but deltas that an entry covers, by the time of the entry's commit.
	Deltas
	// Tickets are those that nobody has used, by the end of their life.
	Tickets
	// Receipts are idempotency keys, by the end of their life.
	Receipts
	// Calls are the records of tool calls, by the time at which their submission settled.
	Calls
	// Executors are those that are not connected, by the time at which they were last seen. One whose connection ended
	// with its replica was last seen, for want of a better witness, when the first pass finds the replica dead.
	Executors
	// Tokens are those that were revoked or have expired, by the time of their end. An operator's token stays, so that
	// the file that holds its secret cannot bring it back; but one that a data directory made for itself goes once it
	// has expired.
	Tokens
	// Definitions are those of agents that no unsettled submission is pinned to, and those of workflows of which there
	// is no run, by the time at which they were last pinned.
	Definitions
	// Deletions are those that are done, by the time of their end.
	Deletions
	// Approvals are those that are not open, by the time of their decision, and grants that were revoked.
	Approvals
	// Runs are those that have ended, by the time of their end. A batch begins their deletion, see package deletion.
	Runs
	// Pauses are those of models, by their end.
	Pauses
	// Audit is the audit log, by the time of each event.
	Audit
	kinds // how many there are
)

var names = [kinds]string{
	"events", "deltas", "tickets", "receipts", "calls", "executors", "tokens", "definitions", "deletions",
	"approvals", "runs", "pauses of models", "audit events",
}

// String is the plural of what is deleted.
func (k Kind) String() string { return names[k] }

const (
	// DefaultEvents is how long events are kept.
	DefaultEvents = 7 * 24 * time.Hour
	// DeltaAge is how long deltas are kept at least: whoever reconnects within a day gets them as they were.
	DeltaAge = 24 * time.Hour
	// RecordAge is how long calls, executors, tokens, definitions, deletions, approvals and runs are kept after their
	// use has ended.
	RecordAge = 30 * 24 * time.Hour
	// DefaultAudit is how long the audit log is kept.
	DefaultAudit = 90 * 24 * time.Hour

	// MaxRows and MaxBytes bound what one transaction deletes. One row may be larger than MaxBytes by itself.
	MaxRows  = 200
	MaxBytes = 1 << 20

	every = time.Minute
	// perHour is how many passes there are to one that deletes all kinds.
	perHour = 60
)

// Batch is what one transaction did.
type Batch struct {
	Deleted int
	// More says that the batch got on, and that it ended at its bounds: another one may find more.
	More bool
}

// Store deletes. Several replicas may do so at once: none waits for another.
type Store interface {
	// DeleteBatch deletes, in one transaction, at most limit rows (and about MaxBytes) of a kind that are older than
	// age. The work that it does is bounded by limit, whatever the database holds.
	DeleteBatch(ctx context.Context, kind Kind, age time.Duration, limit int) (Batch, error)
}

// Sweeper deletes what is due. Every replica runs one; what one deletes the others find gone.
type Sweeper struct {
	Store  Store
	Events time.Duration // how long events are kept, 0 is DefaultEvents
	Audit  time.Duration // how long the audit log is kept, 0 is DefaultAudit
	Log    *slog.Logger  // nil is slog's default
}

// Run deletes from time to time until ctx ends. What fails is tried again the next time.
func (s Sweeper) Run(ctx context.Context) error {
	if s.Events == 0 {
		s.Events = DefaultEvents
	}
	if s.Audit == 0 {
		s.Audit = DefaultAudit
	}
	if s.Log == nil {
		s.Log = slog.Default()
	}
	for pass := 1; ; pass++ {
		if await.Sleep(ctx, every+rand.N(every/4)) != nil {
			return nil
		}
		for kind := range kinds {
			if kind <= Tickets || pass%perHour == 0 {
				s.sweep(ctx, kind)
			}
		}
	}
}

// age is how old rows of a kind are when they are deleted.
func (s Sweeper) age(kind Kind) time.Duration {
	switch kind {
	case Events:
		return s.Events
	case Deltas:
		return min(DeltaAge, s.Events)
	case Audit:
		return s.Audit
	case Tickets, Receipts, Pauses:
		return 0
	default:
		return RecordAge
	}
}

// sweep deletes all that is due of one kind. Between batches it pauses for as long as a batch took: whoever waits for
// the writer gets at least half of it.
func (s Sweeper) sweep(ctx context.Context, kind Kind) {
	deleted := 0
	for more := true; more; {
		began := time.Now()
		b, err := s.Store.DeleteBatch(ctx, kind, s.age(kind), MaxRows)
		if err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "deleting old rows failed, trying again later", "kind", kind.String(), "error", err)
		}
		deleted += b.Deleted
		more = err == nil && b.More && await.Sleep(ctx, time.Since(began)) == nil
	}
	if deleted > 0 {
		s.Log.DebugContext(ctx, "old rows deleted", "kind", kind.String(), "rows", deleted)
	}
}

// Budget is what a transaction may still do.
type Budget struct{ Rows, Bytes int }

// NewBudget allows limit rows and MaxBytes.
func NewBudget(limit int) Budget { return Budget{Rows: limit, Bytes: MaxBytes} }

// Spent reports whether the transaction has to end.
func (b *Budget) Spent() bool { return b.Rows <= 0 || b.Bytes <= 0 }

// Spend counts one row.
func (b *Budget) Spend(bytes int) {
	b.Rows--
	b.Bytes -= bytes
}
