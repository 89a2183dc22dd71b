package platformtest

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/deletion"
)

// BeginDeletion implements deletion.Store.
func (d *Database) BeginDeletion(ctx context.Context, one deletion.Deletion) (deletion.Deletion, error) {
	return put(ctx, d, Step{Op: "BeginDeletion"}, func(ctx context.Context) (deletion.Deletion, error) {
		return d.db.BeginDeletion(ctx, one)
	})
}

// GetDeletion implements deletion.Store.
func (d *Database) GetDeletion(ctx context.Context, tenant, id string) (deletion.Deletion, error) {
	return ask(ctx, d, "GetDeletion", func(ctx context.Context) (deletion.Deletion, error) {
		return d.db.GetDeletion(ctx, tenant, id)
	})
}

// DeletionOf implements deletion.Store.
func (d *Database) DeletionOf(ctx context.Context, tenant, sessionID string) (deletion.Deletion, error) {
	return ask(ctx, d, "DeletionOf", func(ctx context.Context) (deletion.Deletion, error) {
		return d.db.DeletionOf(ctx, tenant, sessionID)
	})
}

// ListDeletions implements deletion.Store.
func (d *Database) ListDeletions(
	ctx context.Context, tenant, before string, limit int,
) ([]deletion.Deletion, error) {
	return ask(ctx, d, "ListDeletions", func(ctx context.Context) ([]deletion.Deletion, error) {
		return d.db.ListDeletions(ctx, tenant, before, limit)
	})
}

// TakeDeletions implements deletion.Store.
func (d *Database) TakeDeletions(
	ctx context.Context, keep time.Duration, limit int,
) ([]deletion.Deletion, error) {
	return put(ctx, d, Step{Op: "TakeDeletions"}, func(ctx context.Context) ([]deletion.Deletion, error) {
		return d.db.TakeDeletions(ctx, keep, limit)
	})
}

// PostponeDeletion implements deletion.Store.
func (d *Database) PostponeDeletion(ctx context.Context, id string, pause time.Duration, cause string) error {
	return put0(ctx, d, "PostponeDeletion", func(ctx context.Context) error {
		return d.db.PostponeDeletion(ctx, id, pause, cause)
	})
}

// AdvanceDeletion implements deletion.Store.
func (d *Database) AdvanceDeletion(ctx context.Context, id string, to deletion.State) (deletion.Deletion, error) {
	return put(ctx, d, Step{Op: "AdvanceDeletion"}, func(ctx context.Context) (deletion.Deletion, error) {
		return d.db.AdvanceDeletion(ctx, id, to)
	})
}

// CloseSession implements deletion.Store.
func (d *Database) CloseSession(ctx context.Context, sessionID string) (bool, error) {
	return put(ctx, d, Step{Op: "CloseSession"}, func(ctx context.Context) (bool, error) {
		return d.db.CloseSession(ctx, sessionID)
	})
}

// PurgeSession implements deletion.Store.
func (d *Database) PurgeSession(
	ctx context.Context, id string, keep time.Duration, limit int,
) (deletion.Batch, error) {
	return put(ctx, d, Step{Op: "PurgeSession"}, func(ctx context.Context) (deletion.Batch, error) {
		return d.db.PurgeSession(ctx, id, keep, limit)
	})
}

// SplitDeletion implements deletion.Store.
func (d *Database) SplitDeletion(ctx context.Context, id string, limit int) (begun int, done bool, err error) {
	err = put0(ctx, d, "SplitDeletion", func(ctx context.Context) (err error) {
		begun, done, err = d.db.SplitDeletion(ctx, id, limit)
		return err
	})
	return begun, done, err
}
