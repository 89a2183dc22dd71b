// Package replica is this process as the holder of a lease, by which the other replicas know that it lives.
//
//	Run ─▶ registered ─▶ live ──renewed every 4 s for 15 s──▶ live
//	           ▲          │
//	           │          ├── not renewed in time ─▶ lapsed: all that it does ends
//	           └────────────────── with a new id ──────┘
//	                      └── stopped ─▶ removed: its lanes were handed back
//
// Each life has an id of its own (Incarnation), because what was decided about the last one, by others, stays decided.
//
// Invariants: an incarnation that cannot prove its lease stops before others may take its lanes. It trusts its lease
// for the TTL less a margin, from the moment before it asked for the last successful renewal, on the monotonic clock.
// The platform's clock alone decides for others.
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
