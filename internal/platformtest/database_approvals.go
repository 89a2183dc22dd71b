package platformtest

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
)

// GetApproval implements approval.Store.
func (d *Database) GetApproval(ctx context.Context, tenant, id string) (approval.Approval, error) {
	return ask(ctx, d, "GetApproval", func(ctx context.Context) (approval.Approval, error) {
		return d.db.GetApproval(ctx, tenant, id)
	})
}

// ListApprovals implements approval.Store.
func (d *Database) ListApprovals(
	ctx context.Context, f approval.Filter,
) (page []approval.Approval, next string, err error) {
	page, err = ask(ctx, d, "ListApprovals", func(ctx context.Context) (page []approval.Approval, err error) {
		page, next, err = d.db.ListApprovals(ctx, f)
		return page, err
	})
	return page, next, err
}

// TurnApprovals implements approval.Store.
func (d *Database) TurnApprovals(ctx context.Context, loopID string, turn int) ([]approval.Approval, error) {
	return ask(ctx, d, "TurnApprovals", func(ctx context.Context) ([]approval.Approval, error) {
		return d.db.TurnApprovals(ctx, loopID, turn)
	})
}

// DecideApproval implements approval.Store.
func (d *Database) DecideApproval(
	ctx context.Context, n approval.Decision,
) (a approval.Approval, decided bool, err error) {
	a, err = put(ctx, d, Step{Op: "DecideApproval"}, func(ctx context.Context) (a approval.Approval, err error) {
		a, decided, err = d.db.DecideApproval(ctx, n)
		return a, err
	})
	return a, decided, err
}

// ExpireApproval implements approval.Store.
func (d *Database) ExpireApproval(ctx context.Context, id string) (approval.Approval, error) {
	return put(ctx, d, Step{Op: "ExpireApproval"}, func(ctx context.Context) (approval.Approval, error) {
		return d.db.ExpireApproval(ctx, id)
	})
}

// LaneGrants implements approval.Store.
func (d *Database) LaneGrants(ctx context.Context, laneID string) ([]approval.Grant, error) {
	return ask(ctx, d, "LaneGrants", func(ctx context.Context) ([]approval.Grant, error) {
		return d.db.LaneGrants(ctx, laneID)
	})
}

// GetGrant implements approval.Store.
func (d *Database) GetGrant(ctx context.Context, tenant, id string) (approval.Grant, error) {
	return ask(ctx, d, "GetGrant", func(ctx context.Context) (approval.Grant, error) {
		return d.db.GetGrant(ctx, tenant, id)
	})
}

// ListGrants implements approval.Store.
func (d *Database) ListGrants(ctx context.Context, f approval.Filter) (page []approval.Grant, next string, err error) {
	page, err = ask(ctx, d, "ListGrants", func(ctx context.Context) (page []approval.Grant, err error) {
		page, next, err = d.db.ListGrants(ctx, f)
		return page, err
	})
	return page, next, err
}

// RevokeGrant implements approval.Store.
func (d *Database) RevokeGrant(ctx context.Context, tenant, id string, by audit.Who) (approval.Grant, error) {
	return put(ctx, d, Step{Op: "RevokeGrant"}, func(ctx context.Context) (approval.Grant, error) {
		return d.db.RevokeGrant(ctx, tenant, id, by)
	})
}
