-- +goose Up

-- What is to be deleted, see package deletion. kind: 1 session, 2 instance, 3 tenant. agent, instance and name are of
-- the sessions that it is about, '' is all; once it is done, they are empty. state: 0 its work ends, 1 what others keep
-- for it goes, 2 its rows go. Nobody else works on it before due_at. after_agent, after_instance and after_name are how
-- far an instance or a tenant is split into deletions of sessions, which have it as parent_id and go when they are
-- done.
CREATE TABLE deletions (
    deletion_id    TEXT NOT NULL UNIQUE,
    tenant         TEXT NOT NULL DEFAULT 'default',
    kind           INTEGER NOT NULL,
    agent          TEXT NOT NULL,
    instance       TEXT NOT NULL,
    name           TEXT NOT NULL,
    session_id     TEXT,
    executor       TEXT NOT NULL DEFAULT '',
    parent_id      TEXT,
    state          INTEGER NOT NULL DEFAULT 0,
    after_agent    TEXT NOT NULL DEFAULT '',
    after_instance TEXT NOT NULL DEFAULT '',
    after_name     TEXT NOT NULL DEFAULT '',
    attempts       INTEGER NOT NULL DEFAULT 0,
    cause          TEXT NOT NULL DEFAULT '',
    due_at         INTEGER NOT NULL,
    asked_at       INTEGER NOT NULL,
    done_at        INTEGER
) STRICT;

CREATE UNIQUE INDEX deletions_open ON deletions (tenant, agent, instance, name) WHERE done_at IS NULL;
-- The condition on attempts always holds, and keeps the index from being taken where a deletion is looked for by its
-- key.
CREATE INDEX deletions_due ON deletions (due_at) WHERE done_at IS NULL AND attempts >= 0;
CREATE INDEX deletions_done ON deletions (done_at) WHERE done_at IS NOT NULL;
CREATE INDEX deletions_parts ON deletions (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX deletions_session ON deletions (session_id, deletion_id) WHERE session_id IS NOT NULL;
CREATE INDEX deletions_listed ON deletions (tenant, deletion_id) WHERE parent_id IS NULL;

-- For deletions: the turns of a submission.
CREATE INDEX turns_submission ON turns (submission_id, turn);

-- +goose Down
DROP INDEX turns_submission;
DROP TABLE deletions;
