-- +goose Up

-- Those that share the installation. suspended_at is set while a tenant's tokens are refused.
CREATE TABLE tenants (
    tenant       text PRIMARY KEY,
    created_at   timestamptz NOT NULL,
    suspended_at timestamptz
);

INSERT INTO tenants (tenant, created_at) VALUES ('default', clock_timestamp());

-- Whoever has rows by now is a tenant.
INSERT INTO tenants (tenant, created_at)
SELECT DISTINCT tenant, clock_timestamp() FROM tokens WHERE tenant <> 'default';

-- +goose Down
DROP TABLE tenants;
