-- +goose Up

-- What somebody is asked to decide, see package approval. lane_id is of the lane that waits, session_id and
-- submission_id are of the loop that asks, root_id is the submission that it works for. agent, instance and name are
-- the session's. subject is JSON: what is to be decided, which never changes. state: 0 open, 1 approved, 2 denied,
-- 3 expired, 4 withdrawn. told says that the stream has told what became of it.
CREATE TABLE approvals (
    approval_id   uuid PRIMARY KEY,
    tenant        text NOT NULL DEFAULT 'default',
    lane_id       uuid NOT NULL,
    session_id    uuid NOT NULL,
    submission_id uuid NOT NULL,
    root_id       uuid NOT NULL,
    turn          int NOT NULL,
    call_id       text NOT NULL,
    agent         text NOT NULL,
    instance      text NOT NULL,
    name          text NOT NULL,
    digest        bytea NOT NULL,
    subject       text NOT NULL,
    timeout_us    bigint NOT NULL DEFAULT 0,
    state         smallint NOT NULL DEFAULT 0,
    told          boolean NOT NULL DEFAULT false,
    decided_by    text,
    comment       text NOT NULL DEFAULT '',
    scope         smallint NOT NULL DEFAULT 0,
    asked_at      timestamptz NOT NULL,
    expires_at    timestamptz,
    decided_at    timestamptz
);

CREATE INDEX approvals_loop ON approvals (submission_id, turn);
CREATE INDEX approvals_lane ON approvals (lane_id, approval_id);
CREATE INDEX approvals_open ON approvals (tenant, approval_id) WHERE state = 0;
CREATE INDEX approvals_ended ON approvals (decided_at) WHERE decided_at IS NOT NULL;

-- What an approval has allowed for the rest of a session. rule is the digest of the rule, said the rule for people.
CREATE TABLE grants (
    grant_id    uuid PRIMARY KEY,
    tenant      text NOT NULL DEFAULT 'default',
    lane_id     uuid NOT NULL,
    agent       text NOT NULL,
    instance    text NOT NULL,
    name        text NOT NULL,
    tool        text NOT NULL,
    rule        text NOT NULL,
    said        text NOT NULL,
    approval_id uuid NOT NULL,
    granted_by  text NOT NULL,
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    revoked_by  text
);

CREATE INDEX grants_lane ON grants (lane_id, grant_id);
CREATE INDEX grants_revoked ON grants (revoked_at) WHERE revoked_at IS NOT NULL;

-- The approval that a call waits for, or has waited for.
ALTER TABLE tool_calls ADD COLUMN approval_id uuid;

-- +goose Down
ALTER TABLE tool_calls DROP COLUMN approval_id;
DROP TABLE grants;
DROP TABLE approvals;
