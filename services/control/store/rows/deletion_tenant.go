package rows

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

var (
	markTenant = writes(`UPDATE tenants SET suspended_at = COALESCE(suspended_at, {now}),
		deleting_at = COALESCE(deleting_at, {now}) WHERE tenant = $1 RETURNING ` + tenantColumns)
	// Names and keys of clients go. What is left of a receipt is the hash, until it expires.
	blankReceipts = writes(`WITH found AS MATERIALIZED (SELECT scope, idem_key FROM receipts
		WHERE tenant = $1 AND tenant <> 'default' AND idem_key <> '' LIMIT $2 {skip locked})
		UPDATE receipts SET scope = CAST(submission_id AS text), idem_key = ''
		WHERE (scope, idem_key) IN (SELECT scope, idem_key FROM found)`)
	deleteTokens = writes(`WITH found AS MATERIALIZED (SELECT token_id FROM tokens
		WHERE tenant = $1 AND tenant <> 'default' LIMIT $2 {skip locked})
		DELETE FROM tokens WHERE token_id IN (SELECT token_id FROM found)`)
	deleteSchedules = writes(`DELETE FROM schedules WHERE tenant = $1 AND tenant <> 'default'`)
	deleteKeys      = writes(`DELETE FROM conc_keys WHERE tenant = $1 AND tenant <> 'default'`)
	// Those that are connected go later: without a token they do not stay.
	dropExecutors = writes(`DELETE FROM executors WHERE tenant = $1 AND NOT EXISTS (SELECT 1 FROM replicas r
		WHERE r.replica_id = executors.replica AND r.expires > {now})`)
	executorOf = reads(`SELECT 1 FROM executors WHERE tenant = $1 LIMIT 1`)
	// An admission that has not seen that the tenant goes has made its session by then.
	endOfTenant = writes(`UPDATE tenants SET deleted_at = {now}
		WHERE tenant = $1 AND deleting_at <= {seen}`)
)

// beginTenant marks a tenant and begins its deletion.
func (t *Tables) beginTenant(ctx context.Context, d deletion.Deletion) (begun deletion.Deletion, err error) {
	name := d.Key.Tenant
	err = t.port.Transact(ctx, func(ctx context.Context, p Port) error {
		marked, err := one(ctx, p, decodeTenant, tenancy.ErrNotFound, markTenant, name)
		if err != nil {
			return err
		}
		if begun = d; !marked.DeletedAt.IsZero() {
			begun.AskedAt, begun.DoneAt = marked.DeletingAt, marked.DeletedAt
			return nil
		}
		if err := addDeletion(ctx, p, d); err != nil {
			return err
		}
		begun, err = one(ctx, p, decodeDeletion, deletion.ErrNotFound, openDeletion, name, "", "", "")
		return err
	})
	return begun, err
}

// endTenant deletes what a tenant without sessions has yet. Its tokens go last but for the connections that were made
// with them: its executors are there for as long as sessions have workspaces.
func endTenant(ctx context.Context, p Port, d deletion.Deletion) (gone int, done bool, err error) {
	name := d.Key.Tenant
	for _, s := range []Statement{blankReceipts, deleteTokens} {
		if n, err := p.Exec(ctx, s, name, retention.MaxRows); err != nil || n > 0 {
			return n, false, err
		}
	}
	for _, s := range []Statement{deleteSchedules, deleteKeys, dropExecutors} {
		if _, err := p.Exec(ctx, s, name); err != nil {
			return 0, false, err
		}
	}
	left, err := p.Query(ctx, executorOf, name)
	if err != nil || len(left) > 0 {
		return 0, false, err
	}
	if n, err := p.Exec(ctx, endOfTenant, name); err != nil || n == 0 {
		return 0, false, err
	}
	_, err = p.Exec(ctx, finishDeletion, d.ID)
	return 0, err == nil, err
}
