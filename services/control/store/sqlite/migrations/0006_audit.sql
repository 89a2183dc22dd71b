-- +goose Up

-- Who did what, see package audit. Never changed. body has the rest of an event.
CREATE TABLE audit (
    event_id TEXT NOT NULL UNIQUE,
    tenant   TEXT NOT NULL DEFAULT 'default',
    at       INTEGER NOT NULL,
    token_id TEXT NOT NULL,
    verb     TEXT NOT NULL,
    body     TEXT NOT NULL
) STRICT;

CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_tenant ON audit (tenant, event_id);

-- +goose Down
DROP TABLE audit;
