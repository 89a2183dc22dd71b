-- +goose Up

-- Until when all calls of one model with one key wait, whose hash is the row's key: a provider has asked for a pause.
-- Rows go once that is over. kind and cause are the provider's error.
CREATE TABLE model_pauses (
    key    TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL DEFAULT 'default',
    until  INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    cause  TEXT NOT NULL
) STRICT;

CREATE INDEX model_pauses_until ON model_pauses (until);

-- +goose Down
DROP INDEX model_pauses_until;
DROP TABLE model_pauses;
