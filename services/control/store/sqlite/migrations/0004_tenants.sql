-- +goose Up

-- Those that share the installation. suspended_at is set while a tenant's tokens are refused.
CREATE TABLE tenants (
    tenant       TEXT NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL,
    suspended_at INTEGER
) STRICT;

INSERT INTO tenants (tenant, created_at) VALUES ('default', CAST(unixepoch('subsec') * 1000000 AS INTEGER));

-- Whoever has rows by now is a tenant.
INSERT INTO tenants (tenant, created_at)
SELECT DISTINCT tenant, CAST(unixepoch('subsec') * 1000000 AS INTEGER) FROM tokens WHERE tenant <> 'default';

-- +goose Down
DROP TABLE tenants;
