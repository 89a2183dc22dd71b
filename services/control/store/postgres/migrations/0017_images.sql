-- +goose Up

-- Images of conversations that are too large to stand in an entry or an input, which name them by their hex SHA-256. Of
-- a session each is there once. They go with the last session that has entries of this one.
CREATE TABLE images (
    session_id uuid NOT NULL,
    sha256     text NOT NULL,
    tenant     text NOT NULL DEFAULT 'default',
    body       bytea NOT NULL,
    PRIMARY KEY (session_id, sha256)
);

ALTER TABLE images ALTER body SET STORAGE EXTERNAL;

-- +goose Down
DROP TABLE images;
