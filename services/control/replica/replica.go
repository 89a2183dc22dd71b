// Package replica is this process as the holder of a lease.
//
//	Register ──▶ live ──renewed every 4 s, TTL 15 s──▶ live
//	              ├── a renewal fails or comes too late ──▶ dead: everything it owned is cancelled, a new incarnation registers
//	              └── drain ──▶ gone: lanes handed back
//
// Invariants: an incarnation that cannot prove its lease stops before others may take its lanes: it trusts itself for
// the TTL less a margin, counted on its own monotonic clock from before the last successful renewal; the database's
// clock decides the rest.
package replica

import (
	"context"
	"time"
)

// Replica is one incarnation of one control process.
type Replica struct {
	ID      string // UUIDv7, new for every incarnation
	Addr    string // gRPC address that other replicas dial, "" when there are none
	Version string
	Host    string
	// path of the data directory's lock file: whoever holds the lock on that host knows that its predecessors are dead
	Lock string
}

// Store keeps replicas.
type Store interface {
	// RegisterReplica makes r live for ttl and returns the ids of earlier incarnations with the same non-empty Host and
	// Lock, which are dead because r holds that lock.
	RegisterReplica(ctx context.Context, r Replica, ttl time.Duration) (predecessors []string, err error)
	// RenewReplica extends the lease by ttl from now; false when it has expired or is gone, and then it stays dead.
	RenewReplica(ctx context.Context, id string, ttl time.Duration) (bool, error)
	// RemoveReplica ends the lease at once.
	RemoveReplica(ctx context.Context, id string) error
	// OwnerOf returns the live replica that owns the session's lane; ok is false when none does.
	OwnerOf(ctx context.Context, sessionID string) (r Replica, ok bool, err error)
}
