package sqlite

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/replica"
)

var (
	// Whoever holds the lock proves the others dead: without a row they own nothing that cannot be taken over.
	deletePredecessors = sql(`DELETE FROM replicas WHERE host = ? AND lock = ? AND replica_id <> ? RETURNING replica_id`)
	deleteForgotten    = sql(`DELETE FROM replicas WHERE expires < ?`)
	insertReplica      = sql(`INSERT INTO replicas (replica_id, addr, version, host, lock, expires) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (replica_id) DO UPDATE SET addr = excluded.addr, version = excluded.version, host = excluded.host, lock = excluded.lock,
		expires = excluded.expires`)
	renewReplica  = sql(`UPDATE replicas SET expires = ? WHERE replica_id = ? AND expires > ?`)
	deleteReplica = sql(`DELETE FROM replicas WHERE replica_id = ?`)
	selectOwner   = sql(`SELECT r.replica_id, r.addr, r.version, r.host, r.lock FROM replicas r
		JOIN lanes l ON l.owner = r.replica_id WHERE l.lane_id = ? AND l.state = 2 AND r.expires > ?`)
)

// forgetAfter is how long the row of a dead replica is kept for whoever looks.
const forgetAfter = 24 * time.Hour

// RegisterReplica implements replica.Store.
func (s *Store) RegisterReplica(
	ctx context.Context, r replica.Replica, ttl time.Duration,
) (predecessors []string, err error) {
	err = s.write(ctx, func(t tx) error {
		predecessors = nil
		if r.Host != "" && r.Lock != "" {
			if predecessors, err = t.texts(deletePredecessors, r.Host, r.Lock, r.ID); err != nil {
				return err
			}
		}
		if _, err := t.exec(deleteForgotten, t.now.Add(-forgetAfter).UnixMicro()); err != nil {
			return err
		}
		_, err := t.exec(insertReplica, r.ID, r.Addr, r.Version, r.Host, r.Lock, t.now.Add(ttl).UnixMicro())
		return err
	})
	return predecessors, err
}

// RenewReplica implements replica.Store.
func (s *Store) RenewReplica(ctx context.Context, id string, ttl time.Duration) (ok bool, err error) {
	err = s.write(ctx, func(t tx) error {
		n, err := t.exec(renewReplica, t.now.Add(ttl).UnixMicro(), id, t.micros())
		ok = n == 1
		return err
	})
	return ok, err
}

// RemoveReplica implements replica.Store.
func (s *Store) RemoveReplica(ctx context.Context, id string) error {
	return s.write(ctx, func(t tx) error {
		_, err := t.exec(deleteReplica, id)
		return err
	})
}

// OwnerOf implements replica.Store.
func (s *Store) OwnerOf(ctx context.Context, laneID string) (owner replica.Replica, ok bool, err error) {
	err = s.read(ctx, func(c *conn) error {
		r, err := c.row(selectOwner, laneID, s.now().UnixMicro())
		if err == nil && r != nil {
			owner, ok = replica.Replica{
				ID: r.text(0), Addr: r.text(1), Version: r.text(2), Host: r.text(3),
				Lock: r.text(4),
			}, true
		}
		return err
	})
	return owner, ok, err
}
