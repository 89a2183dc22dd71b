-- +goose Up

-- What somebody is asked to decide, see package approval. lane_id is of the lane that waits, session_id and
-- submission_id are of the loop that asks, root_id is the submission that it works for. agent, instance and name are
-- the session's. subject is JSON: what is to be decided, which never changes. state: 0 open, 1 approved, 2 denied,
-- 3 expired, 4 withdrawn. told says that the stream has told what became of it.
CREATE TABLE approvals (
    approval_id   TEXT NOT NULL UNIQUE,
    tenant        TEXT NOT NULL DEFAULT 'default',
    lane_id       TEXT NOT NULL,
    session_id    TEXT NOT NULL,
    submission_id TEXT NOT NULL,
    root_id       TEXT NOT NULL,
    turn          INTEGER NOT NULL,
    call_id       TEXT NOT NULL,
    agent         TEXT NOT NULL,
    instance      TEXT NOT NULL,
    name          TEXT NOT NULL,
    digest        BLOB NOT NULL,
    subject       TEXT NOT NULL,
    timeout_us    INTEGER NOT NULL DEFAULT 0,
    state         INTEGER NOT NULL DEFAULT 0,
    told          INTEGER NOT NULL DEFAULT 0,
    decided_by    TEXT,
    comment       TEXT NOT NULL DEFAULT '',
    scope         INTEGER NOT NULL DEFAULT 0,
    asked_at      INTEGER NOT NULL,
    expires_at    INTEGER,
    decided_at    INTEGER
) STRICT;

CREATE INDEX approvals_loop ON approvals (submission_id, turn);
CREATE INDEX approvals_lane ON approvals (lane_id, approval_id);
CREATE INDEX approvals_open ON approvals (tenant, approval_id) WHERE state = 0;
CREATE INDEX approvals_ended ON approvals (decided_at) WHERE decided_at IS NOT NULL;

-- What an approval has allowed for the rest of a session. rule is the digest of the rule, said the rule for people.
CREATE TABLE grants (
    grant_id    TEXT NOT NULL UNIQUE,
    tenant      TEXT NOT NULL DEFAULT 'default',
    lane_id     TEXT NOT NULL,
    agent       TEXT NOT NULL,
    instance    TEXT NOT NULL,
    name        TEXT NOT NULL,
    tool        TEXT NOT NULL,
    rule        TEXT NOT NULL,
    said        TEXT NOT NULL,
    approval_id TEXT NOT NULL,
    granted_by  TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER,
    revoked_by  TEXT
) STRICT;

CREATE INDEX grants_lane ON grants (lane_id, grant_id);
CREATE INDEX grants_revoked ON grants (revoked_at) WHERE revoked_at IS NOT NULL;

-- The approval that a call waits for, or has waited for.
ALTER TABLE tool_calls ADD COLUMN approval_id TEXT;

-- +goose Down
ALTER TABLE tool_calls DROP COLUMN approval_id;
DROP TABLE grants;
DROP TABLE approvals;
