-- +goose Up

-- Until when all replicas wait with their calls of one model with one key, whose hash is the row's key: a provider has
-- asked for a pause. Rows go once that is over. kind and cause are the provider's error.
CREATE TABLE model_pauses (
    key    text PRIMARY KEY,
    tenant text NOT NULL DEFAULT 'default',
    until  timestamptz NOT NULL,
    kind   text NOT NULL,
    cause  text NOT NULL
);

CREATE INDEX model_pauses_until ON model_pauses (until);

-- +goose Down
DROP TABLE model_pauses;
