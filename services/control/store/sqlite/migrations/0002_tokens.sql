-- +goose Up

-- What clients may do: role, '' is user; limits, beside agents. shared: an executor serves every tenant.
ALTER TABLE tokens ADD COLUMN role TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN limits TEXT;
ALTER TABLE tokens ADD COLUMN shared INTEGER NOT NULL DEFAULT 0;

-- Tickets stand for tokens, once and for a moment. token_hash is that of the token.
CREATE TABLE tickets (
    hash       BLOB NOT NULL UNIQUE,
    tenant     TEXT NOT NULL DEFAULT 'default',
    token_hash BLOB NOT NULL,
    expires    INTEGER NOT NULL
) STRICT;

CREATE INDEX tickets_expires ON tickets (expires);

-- +goose Down
DROP TABLE tickets;
ALTER TABLE tokens DROP COLUMN shared;
ALTER TABLE tokens DROP COLUMN limits;
ALTER TABLE tokens DROP COLUMN role;
