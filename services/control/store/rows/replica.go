package rows

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/replica"
)

// Leases are compared with the platform's clock only. A row whose lease has ended stays until its incarnation owns no
// lane, for whoever looks.
var (
	forgetReplicas = writes(`DELETE FROM replicas WHERE expires < {before $1}
		AND replica_id NOT IN (SELECT owner FROM lanes WHERE state = 2 AND owner IS NOT NULL)`)
	insertReplica = writes(`INSERT INTO replicas (replica_id, addr, version, host, lock, expires)
		VALUES ($1, $2, $3, $4, $5, {after $6}) ON CONFLICT (replica_id) DO UPDATE SET addr = excluded.addr,
		version = excluded.version, host = excluded.host, lock = excluded.lock, expires = excluded.expires`)
	// Whoever holds the lock proves the others dead. Their leases end before any time: a renewal that was sent before
	// and arrives now is to find none.
	endPredecessors = writes(`UPDATE replicas SET expires = $4
		WHERE host = $1 AND lock = $2 AND host <> '' AND lock <> '' AND replica_id <> $3 RETURNING replica_id`)
	renewReplica = writes(`UPDATE replicas SET expires = {after $2} WHERE replica_id = $1 AND expires > {now}`)
	endReplica   = writes(`UPDATE replicas SET expires = {now} WHERE replica_id = $1 AND expires > {now}`)
	findOwner    = reads(`SELECT r.replica_id, r.addr, r.version, r.host, r.lock FROM lanes l
		JOIN replicas r ON r.replica_id = l.owner AND r.expires > {now} WHERE l.lane_id = $1 AND l.state + 0 = 2`)
)

// forgetAfter is how long the row of a dead replica that owns nothing is kept for whoever looks.
const forgetAfter = time.Hour

func owner(r Row) (replica.Replica, error) {
	return replica.Replica{
		ID: r.text(0), Addr: r.text(1), Version: r.text(2), Host: r.text(3), Lock: r.text(4),
	}, nil
}

// RegisterReplica implements replica.Store.
func (t *Tables) RegisterReplica(
	ctx context.Context, r replica.Replica, ttl time.Duration,
) (predecessors []string, err error) {
	err = t.port.Transact(ctx, func(ctx context.Context, p Port) error {
		if _, err := p.Exec(ctx, forgetReplicas, forgetAfter.Microseconds()); err != nil {
			return err
		}
		if _, err := p.Exec(ctx, insertReplica, r.ID, r.Addr, r.Version, r.Host, r.Lock,
			ttl.Microseconds()); err != nil {
			return err
		}
		dead, err := p.Query(ctx, endPredecessors, r.Host, r.Lock, r.ID, time.Unix(0, 0).UTC())
		predecessors = nil
		for _, d := range dead {
			predecessors = append(predecessors, d.text(0))
		}
		return err
	})
	return predecessors, wrap("register replica", err)
}

// RenewReplica implements replica.Store.
func (t *Tables) RenewReplica(ctx context.Context, id string, ttl time.Duration) (bool, error) {
	n, err := t.port.Exec(ctx, renewReplica, id, ttl.Microseconds())
	return n > 0, wrap("renew replica", err)
}

// RemoveReplica implements replica.Store.
func (t *Tables) RemoveReplica(ctx context.Context, id string) error {
	_, err := t.port.Exec(ctx, endReplica, id)
	return wrap("remove replica", err)
}

// OwnerOf implements replica.Store.
func (t *Tables) OwnerOf(ctx context.Context, laneID string) (replica.Replica, bool, error) {
	if !ident.IsUUID(laneID) {
		return replica.Replica{}, false, nil
	}
	r, err := one(ctx, t.port, owner, nil, findOwner, laneID)
	return r, r.ID != "", wrap("find the lane's owner", err)
}
