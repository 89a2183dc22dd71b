package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/replica"
)

// Leases are compared with the database's clock only. A row whose lease has ended stays until its incarnation owns no
// lane: that is how a take-over finds the dead without looking at every running lane.

// RegisterReplica implements replica.Store.
func (s *Store) RegisterReplica(
	ctx context.Context, r replica.Replica, ttl time.Duration,
) (predecessors []string, err error) {
	offset := s.offset()
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		batch := &pgx.Batch{}
		batch.Queue(`DELETE FROM replicas r WHERE expires < clock_timestamp() + $1::bigint * interval '1 microsecond' - interval '1 hour'
			AND NOT EXISTS (SELECT 1 FROM lanes l WHERE l.owner = r.replica_id AND l.state = 2)`, offset)
		batch.Queue(`INSERT INTO replicas (replica_id, addr, version, host, lock, expires)
			VALUES ($1, $2, $3, $4, $5, clock_timestamp() + ($6::bigint + $7::bigint) * interval '1 microsecond')
			ON CONFLICT (replica_id) DO UPDATE SET addr = excluded.addr, version = excluded.version, host = excluded.host,
			  lock = excluded.lock, expires = excluded.expires`,
			r.ID, r.Addr, r.Version, r.Host, r.Lock, offset, micros(ttl))
		batch.Queue(`UPDATE replicas SET expires = least(expires, clock_timestamp() + $4::bigint * interval '1 microsecond')
			WHERE host = $1 AND lock = $2 AND host <> '' AND lock <> '' AND replica_id <> $3 RETURNING replica_id`,
			r.Host, r.Lock, r.ID, offset).Query(func(rows pgx.Rows) (err error) {
			predecessors, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		return s.send(ctx, batch)
	})
	return predecessors, wrap("register replica", err)
}

// RenewReplica implements replica.Store.
func (s *Store) RenewReplica(ctx context.Context, id string, ttl time.Duration) (ok bool, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		tag, err := s.pool.Exec(ctx, `UPDATE replicas SET expires = clock_timestamp() + ($2::bigint + $3::bigint) * interval '1 microsecond'
			WHERE replica_id = $1 AND expires > clock_timestamp() + $2::bigint * interval '1 microsecond'`,
			id, s.offset(), micros(ttl))
		ok = tag.RowsAffected() > 0
		return err
	})
	return ok, wrap("renew replica", err)
}

// RemoveReplica implements replica.Store.
func (s *Store) RemoveReplica(ctx context.Context, id string) error {
	return wrap("remove replica", s.retry(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.pool.Exec(ctx, `UPDATE replicas SET expires = least(expires, clock_timestamp() + $2::bigint * interval '1 microsecond')
			WHERE replica_id = $1`, id, s.offset())
		return err
	}))
}

// OwnerOf implements replica.Store.
func (s *Store) OwnerOf(ctx context.Context, sessionID string) (r replica.Replica, ok bool, err error) {
	if !isID(sessionID) {
		return r, false, nil
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		err := s.pool.QueryRow(ctx, `SELECT r.replica_id, r.addr, r.version, r.host, r.lock FROM replicas r
			JOIN lanes l ON l.owner = r.replica_id AND l.state + 0 = 2
			JOIN sessions k ON k.lane_id = l.lane_id
			WHERE k.session_id = $2 AND r.expires > clock_timestamp() + $1::bigint * interval '1 microsecond'`,
			s.offset(), sessionID).Scan(&r.ID, &r.Addr, &r.Version, &r.Host, &r.Lock)
		ok = err == nil
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return r, ok, wrap("find the session's owner", err)
}
