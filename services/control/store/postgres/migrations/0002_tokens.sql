-- +goose Up

-- What clients may do: role, '' is user; limits, beside agents. shared: an executor serves every tenant.
ALTER TABLE tokens
    ADD COLUMN role text NOT NULL DEFAULT '',
    ADD COLUMN limits jsonb,
    ADD COLUMN shared boolean NOT NULL DEFAULT false;

-- Tickets stand for tokens, once and for a moment. token_hash is that of the token.
CREATE TABLE tickets (
    hash       bytea PRIMARY KEY,
    tenant     text NOT NULL DEFAULT 'default',
    token_hash bytea NOT NULL,
    expires    timestamptz NOT NULL
);

CREATE INDEX tickets_expires ON tickets (expires);

-- +goose Down
DROP TABLE tickets;
ALTER TABLE tokens DROP COLUMN shared, DROP COLUMN limits, DROP COLUMN role;
