-- +goose Up

-- Who did what, see package audit. Never changed. body has the rest of an event.
CREATE TABLE audit (
    event_id uuid PRIMARY KEY,
    tenant   text NOT NULL DEFAULT 'default',
    at       timestamptz NOT NULL,
    token_id text NOT NULL,
    verb     text NOT NULL,
    body     jsonb NOT NULL
);

CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_tenant ON audit (tenant, event_id);

-- +goose Down
DROP TABLE audit;
