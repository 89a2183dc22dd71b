-- +goose Up

-- deleting_at is set from when a tenant's deletion is asked for, deleted_at once nothing of it is left. The row stays:
-- no other tenant gets the name.
ALTER TABLE tenants ADD COLUMN deleting_at INTEGER;
ALTER TABLE tenants ADD COLUMN deleted_at INTEGER;

-- For the deletion of tenants, which the default one is safe from: single-tenant installations write neither index.
CREATE INDEX tokens_tenant ON tokens (tenant) WHERE tenant <> 'default';
CREATE INDEX receipts_tenant ON receipts (tenant) WHERE tenant <> 'default' AND idem_key <> '';

-- +goose Down
DROP INDEX receipts_tenant;
DROP INDEX tokens_tenant;
ALTER TABLE tenants DROP COLUMN deleted_at;
ALTER TABLE tenants DROP COLUMN deleting_at;
