// Package fleet is the executors: who is connected where, what they offer, and where a session's calls go.
//
//	unknown ──Hello──▶ connected ──connection lost──▶ away ──Hello──▶ connected, connection_epoch+1
//	                       └──Draining──▶ connected, takes nothing new
//
// Invariants: an executor has at most one connection in the whole control plane, the one with the highest connection_epoch; a
// session's workspace stays on the executor that its first call went to.
package fleet

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
)

// ErrNotFound says that there is no such executor.
var ErrNotFound = errs.New(errs.NotFound, "EXECUTOR_NOT_FOUND", "no such executor")

// Missing is ErrNotFound about an id.
func Missing(id string) error { return ErrNotFound.With("no such executor: %s", id) }

// Executor is what is known of one executor.
type Executor struct {
	ID              string
	JournalID       string
	Labels          map[string]string
	Slots           int
	Version         string
	Root            string
	Isolation       string
	Draining        bool
	ConnectionEpoch int64
	Replica         string // "" while away
	ReplicaAddr     string // where other replicas reach that one
	LastSeen        time.Time
	Running         int // calls dispatched to it
}

// Connected reports whether a replica holds its connection.
func (e Executor) Connected() bool { return e.Replica != "" }

// Store keeps executors.
type Store interface {
	// Connect records a new connection at e.Replica and returns its epoch, one more than the last.
	Connect(ctx context.Context, e Executor) (epoch int64, err error)
	// Disconnect records the end of a connection unless a newer one exists.
	Disconnect(ctx context.Context, id string, epoch int64) error
	// SetDraining records that the executor takes nothing new.
	SetDraining(ctx context.Context, id string, epoch int64) error
	// GetExecutor returns an executor or ErrNotFound. An executor whose replica is dead counts as away.
	GetExecutor(ctx context.Context, id string) (Executor, error)
	// ListExecutors returns all, by id.
	ListExecutors(ctx context.Context) ([]Executor, error)
}
