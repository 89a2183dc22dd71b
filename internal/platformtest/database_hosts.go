package platformtest

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/replica"
)

// GetExecutor implements fleet.Store.
func (d *Database) GetExecutor(ctx context.Context, id string) (fleet.Executor, error) {
	return ask(ctx, d, "GetExecutor", func(ctx context.Context) (fleet.Executor,
		error,
	) {
		return d.db.GetExecutor(ctx, id)
	})
}

// ListExecutors implements fleet.Store.
func (d *Database) ListExecutors(ctx context.Context) ([]fleet.Executor, error) {
	return ask(ctx, d, "ListExecutors", func(ctx context.Context) ([]fleet.Executor,
		error,
	) {
		return d.db.ListExecutors(ctx)
	})
}

// FindToken implements auth.Store.
func (d *Database) FindToken(ctx context.Context, hash []byte) (auth.Token, error) {
	return ask(ctx, d, "FindToken", func(ctx context.Context) (auth.Token, error) { return d.db.FindToken(ctx, hash) })
}

// GetToken implements auth.Store.
func (d *Database) GetToken(ctx context.Context, tenant, id string) (auth.Token, error) {
	return ask(ctx, d, "GetToken", func(ctx context.Context) (auth.Token, error) {
		return d.db.GetToken(ctx, tenant, id)
	})
}

// ListTokens implements auth.Store.
func (d *Database) ListTokens(
	ctx context.Context, tenant, before string, limit int,
) (page []auth.Token, next string, err error) {
	err = d.use(ctx, &Step{Op: "ListTokens"}, false, func(ctx context.Context) (err error) {
		page, next, err = d.db.ListTokens(ctx, tenant, before, limit)
		return err
	})
	return page, next, err
}

// GetDefinition implements store.Definitions.
func (d *Database) GetDefinition(ctx context.Context, digest string) ([]byte, error) {
	return ask(ctx, d, "GetDefinition", func(ctx context.Context) ([]byte,
		error,
	) {
		return d.db.GetDefinition(ctx, digest)
	})
}

// Connect implements fleet.Store.
func (d *Database) Connect(ctx context.Context, e fleet.Executor) (int64, error) {
	return put(ctx, d, Step{Op: "Connect"}, func(ctx context.Context) (int64, error) { return d.db.Connect(ctx, e) })
}

// RegisterReplica implements replica.Store.
func (d *Database) RegisterReplica(ctx context.Context, r replica.Replica, ttl time.Duration) ([]string, error) {
	return put(ctx, d, Step{Op: "RegisterReplica"}, func(ctx context.Context) ([]string,
		error,
	) {
		return d.db.RegisterReplica(ctx, r, ttl)
	})
}

// RenewReplica implements replica.Store.
func (d *Database) RenewReplica(ctx context.Context, id string, ttl time.Duration) (bool, error) {
	return put(ctx, d, Step{Op: "RenewReplica"}, func(ctx context.Context) (bool,
		error,
	) {
		return d.db.RenewReplica(ctx, id, ttl)
	})
}

// ClusterSecret implements auth.Store.
func (d *Database) ClusterSecret(ctx context.Context, candidate []byte) ([]byte, error) {
	return put(ctx, d, Step{Op: "ClusterSecret"}, func(ctx context.Context) ([]byte,
		error,
	) {
		return d.db.ClusterSecret(ctx, candidate)
	})
}

// Disconnect implements fleet.Store.
func (d *Database) Disconnect(ctx context.Context, id string, epoch, begun int64) error {
	return put0(ctx, d, "Disconnect", func(ctx context.Context) error { return d.db.Disconnect(ctx, id, epoch, begun) })
}

// SetBegun implements fleet.Store.
func (d *Database) SetBegun(ctx context.Context, id string, epoch, begun int64) (bool, error) {
	return put(ctx, d, Step{Op: "SetBegun"}, func(ctx context.Context) (bool, error) {
		return d.db.SetBegun(ctx, id, epoch, begun)
	})
}

// SetDraining implements fleet.Store.
func (d *Database) SetDraining(ctx context.Context, id string, epoch int64) error {
	return put0(ctx, d, "SetDraining", func(ctx context.Context) error { return d.db.SetDraining(ctx, id, epoch) })
}

// RemoveReplica implements replica.Store.
func (d *Database) RemoveReplica(ctx context.Context, id string) error {
	return put0(ctx, d, "RemoveReplica", func(ctx context.Context) error { return d.db.RemoveReplica(ctx, id) })
}

// CreateToken implements auth.Store.
func (d *Database) CreateToken(ctx context.Context, t auth.Token, life time.Duration) (auth.Token, error) {
	return put(ctx, d, Step{Op: "CreateToken"}, func(ctx context.Context) (auth.Token, error) {
		return d.db.CreateToken(ctx, t, life)
	})
}

// AppendAudit implements audit.Store.
func (d *Database) AppendAudit(ctx context.Context, events []audit.Event) error {
	return put0(ctx, d, "AppendAudit", func(ctx context.Context) error { return d.db.AppendAudit(ctx, events) })
}

// ListAudit implements audit.Store.
func (d *Database) ListAudit(ctx context.Context, f audit.Filter) (page []audit.Event, next string, err error) {
	err = d.use(ctx, &Step{Op: "ListAudit"}, false, func(ctx context.Context) (err error) {
		page, next, err = d.db.ListAudit(ctx, f)
		return err
	})
	return page, next, err
}

// CreateTicket implements auth.Store.
func (d *Database) CreateTicket(ctx context.Context, t auth.Ticket, life time.Duration) error {
	return put0(ctx, d, "CreateTicket", func(ctx context.Context) error { return d.db.CreateTicket(ctx, t, life) })
}

// UseTicket implements auth.Store.
func (d *Database) UseTicket(ctx context.Context, hash []byte) ([]byte, error) {
	return put(ctx, d, Step{Op: "UseTicket"}, func(ctx context.Context) ([]byte, error) {
		return d.db.UseTicket(ctx, hash)
	})
}

// RevokeToken implements auth.Store.
func (d *Database) RevokeToken(ctx context.Context, tenant, id string) error {
	return put0(ctx, d, "RevokeToken", func(ctx context.Context) error { return d.db.RevokeToken(ctx, tenant, id) })
}

// PutDefinition implements store.Definitions.
func (d *Database) PutDefinition(ctx context.Context, digest, name string, body []byte) error {
	return put0(ctx, d, "PutDefinition", func(ctx context.Context) error {
		return d.db.PutDefinition(ctx, digest, name,
			body)
	})
}
