package lane

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Store keeps lanes. Methods may be called concurrently; the implementation may group independent calls into one
// transaction, and each gets its own answer. Times are the store's: one clock for all replicas, which goes on evenly
// while one of them lives, however the clocks of machines are set. An answer that was lost is asked for again inside of
// a method as long as that is safe; what is refused is an error.
type Store interface {
	// Claim takes at most limit lanes of a kind that are due, in order of due_at, with epoch+1. A head that was
	// half-done goes on; otherwise the oldest queued submission becomes the head, and the time by which it has to end
	// is set. A head whose row cannot be decoded is settled from rows and listed in Unreadable; the lane is left due
	// when more is queued.
	Claim(ctx context.Context, owner string, kind Kind, limit int) (Claimed, error)
	// TakeOver takes at most limit running lanes of the replicas named in dead or, when none is named, of those whose
	// lease has expired or is gone: epoch+1, attempts+1 on the head and stalls+1 on every open loop.
	TakeOver(ctx context.Context, owner string, dead []string, limit int) (Claimed, error)
	// Commit writes facts. ErrFenced: the lane has another owner or epoch, or rests. *Refused: see there. Any other
	// error that is not temporary (errs.Temporary) means that the commit contradicts the rows.
	Commit(ctx context.Context, c Commit) (Committed, error)
	// Own returns the lanes that owner runs, in no order.
	Own(ctx context.Context, owner string) ([]Held, error)
	// Release hands an owned lane back with its half-done head. ErrFenced.
	Release(ctx context.Context, f Fence, r Release) error
	// End settles the head of an owned lane from rows alone: neither entry, definition nor input is read. All open
	// loops settle, calls that are pending become cancelled and those that are dispatched lost, the event says so, and
	// the lane goes on without an owner. ErrFenced.
	End(ctx context.Context, f Fence, outcome Outcome, reason, message string) (Ended, error)
	// Force does the same with at most limit running lanes whose head should have ended for more than the grace
	// of the lane's kind, whoever owns them: epoch+1, NOT_ENDED_IN_TIME.
	Force(ctx context.Context, limit int) ([]Ended, error)
	// Raise lifts the epoch of an owned lane above an epoch that an executor has seen, as after a restore of an older
	// database: at most call.MaxRaise above its own. ErrFenced, also when above is out of that range.
	Raise(ctx context.Context, f Fence, above int64) (Fence, error)
	// Post counts mail for lanes in a transaction of its own; MoveMail makes it arrive.
	Post(ctx context.Context, laneIDs ...string) error
	// MoveMail delivers mail that was posted: a resting lane becomes due, and the owners of running ones are returned
	// to be told. Lanes that are locked keep theirs for the next call. It returns after all that could be moved, and
	// always terminates.
	MoveMail(ctx context.Context) ([]Mailed, error)
}

// Claimed is what a claim got.
type Claimed struct {
	Leases     []Lease
	Next       time.Duration // until the next lane of the kind is due, at least 0; Never when none is
	Unreadable []Unreadable
}

// Unreadable is a head that was settled because its row cannot be decoded.
type Unreadable struct {
	Ended
	Err error
}

// Held is an owned lane as its row has it.
type Held struct {
	Fence     Fence
	EventHead int64 // tells of which head Ends is: each begins and settles with an event
	Mail      int64
	Ends      Ends
}

// Release says why a lane is handed back.
type Release struct {
	// Stalled is the loop that an error is charged to, "" for a drain, which charges nothing and leaves the lane due.
	// If that loop has ended, the head is charged.
	Stalled string
	Cause   string        // the error in plain words
	Pause   time.Duration // before the lane is due again
}

// Ended is a head that was settled from rows.
type Ended struct {
	LaneID string
	Key    session.Key
	HeadID string
	Events []event.Event // with seqs, committed
	Ready  bool          // more is queued
}

// Mailed is a lane that mail has reached.
type Mailed struct {
	LaneID string
	Owner  string // of a running lane, "" when it was resting
}
