-- +goose Up

-- One row per incarnation of a control process. host and lock name the lock file that proves a predecessor dead.
CREATE TABLE replicas (
    replica_id uuid PRIMARY KEY,
    tenant     text NOT NULL DEFAULT 'default',
    addr       text NOT NULL DEFAULT '',
    version    text NOT NULL DEFAULT '',
    host       text NOT NULL DEFAULT '',
    lock       text NOT NULL DEFAULT '',
    expires    timestamptz NOT NULL
);

-- What never changes about a conversation, and where its workspace is. What changes with every commit is on the lane.
CREATE TABLE sessions (
    session_id uuid PRIMARY KEY,
    tenant     text NOT NULL DEFAULT 'default',
    agent      text NOT NULL,
    instance   text NOT NULL,
    name       text NOT NULL,
    executor   text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    UNIQUE (tenant, agent, instance, name)
);

-- For lists, which are in order of id. The condition always holds, and keeps the index from being taken where one session is looked for
-- by its key: on an empty table it looks as good as the key's own.
CREATE INDEX sessions_agent ON sessions (tenant, agent, session_id) WHERE agent <> '';

-- The queue head of a session. One fenced UPDATE of this row is fence, compare-and-swap of both heads and row lock at once.
-- state: 0 idle, 1 ready, 2 running. pending counts the submissions that have not settled and decides what comes after one; none of them
-- has a seq below first_open, where the search for the next begins: what has settled leaves dead entries in every index until a vacuum.
CREATE TABLE lanes (
    session_id uuid PRIMARY KEY,
    tenant     text NOT NULL DEFAULT 'default',
    state      smallint NOT NULL,
    next_seq   bigint NOT NULL,
    first_open bigint NOT NULL DEFAULT 1,
    pending    int NOT NULL,
    ready_at   timestamptz NOT NULL,
    owner      uuid,
    claim_id   uuid,
    epoch      bigint NOT NULL DEFAULT 0,
    entry_head bigint NOT NULL DEFAULT 0,
    event_head bigint NOT NULL DEFAULT 0,
    event_floor bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 2);

CREATE INDEX lanes_ready ON lanes (ready_at) WHERE state = 1;
CREATE INDEX lanes_owner ON lanes (owner, claim_id) WHERE state = 2;

-- status: 0 queued, 1 running, 2 settled. event_base is the stream's head at admission: every event of the submission is later.
-- forced_at is when its lane was last taken from an owner that did not end it in time.
CREATE TABLE submissions (
    submission_id   uuid PRIMARY KEY,
    tenant          text NOT NULL DEFAULT 'default',
    session_id      uuid NOT NULL,
    seq             bigint NOT NULL,
    idem_key        text,
    input_hash      bytea,
    agent_digest    text NOT NULL,
    input           bytea,
    event_base      bigint NOT NULL,
    status          smallint NOT NULL,
    outcome         text NOT NULL DEFAULT '',
    reason          text NOT NULL DEFAULT '',
    message         text NOT NULL DEFAULT '',
    phase           smallint NOT NULL,
    turn            int NOT NULL,
    input_entry     bigint NOT NULL,
    result_entry    bigint NOT NULL DEFAULT 0,
    model           text NOT NULL DEFAULT '',
    usage           jsonb,
    attempts        int NOT NULL DEFAULT 0,
    stalls          int NOT NULL DEFAULT 0,
    timeout_us      bigint NOT NULL,
    deadline        timestamptz,
    abort_requested_at timestamptz,
    forced_at       timestamptz,
    cancellation    text,
    accepted_at     timestamptz NOT NULL,
    started_at      timestamptz,
    settled_at      timestamptz,
    has_calls       boolean NOT NULL DEFAULT false,
    UNIQUE (session_id, seq)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 2);

CREATE UNIQUE INDEX submissions_idem ON submissions (session_id, idem_key) WHERE idem_key IS NOT NULL;
-- A backstop: two running submissions of one session are a constraint violation, whatever the code does.
CREATE UNIQUE INDEX submissions_running ON submissions (session_id) WHERE status = 1;
-- Nearly always empty, so that polling it costs nothing.
CREATE INDEX submissions_aborts ON submissions (abort_requested_at) WHERE status = 1 AND abort_requested_at IS NOT NULL;
-- For those that should have ended.
CREATE INDEX submissions_deadlines ON submissions (deadline) WHERE status = 1 AND deadline IS NOT NULL;
-- For retention: those whose records of calls are still there.
CREATE INDEX submissions_calls ON submissions (settled_at) WHERE status = 2 AND has_calls;

-- What was admitted under an idempotency key. scope names the session by its key, so that a receipt outlives the session's rows.
CREATE TABLE receipts (
    scope         text NOT NULL,
    idem_key      text NOT NULL,
    tenant        text NOT NULL DEFAULT 'default',
    hash          bytea,
    submission_id uuid NOT NULL,
    expires       timestamptz NOT NULL,
    PRIMARY KEY (scope, idem_key)
);

CREATE INDEX receipts_expires ON receipts (expires);

-- Append only.
CREATE TABLE entries (
    session_id    uuid NOT NULL,
    seq           bigint NOT NULL,
    tenant        text NOT NULL DEFAULT 'default',
    submission_id uuid,
    kind          text NOT NULL,
    body          bytea NOT NULL,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (session_id, seq)
);

-- state: 0 pending, 1 dispatched, 2 done, 3 lost, 4 cancelled. safety: 1 at most once, 2 idempotent, 3 pure.
CREATE TABLE tool_calls (
    call_id        text PRIMARY KEY,
    tenant         text NOT NULL DEFAULT 'default',
    session_id     uuid NOT NULL,
    submission_seq bigint NOT NULL,
    turn           int NOT NULL,
    idx            int NOT NULL,
    entry_seq      bigint NOT NULL,
    provider_id    text NOT NULL,
    tool           text NOT NULL,
    safety         smallint NOT NULL,
    args_hash      bytea,
    executor       text NOT NULL DEFAULT '',
    dispatch       int NOT NULL DEFAULT 0,
    journal_id     text NOT NULL DEFAULT '',
    state          smallint NOT NULL,
    reply          bytea,
    late_reply     bytea,
    created_at     timestamptz NOT NULL,
    dispatched_at  timestamptz,
    done_at        timestamptz,
    UNIQUE (session_id, submission_seq, turn, idx)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 2);

CREATE INDEX tool_calls_dispatched ON tool_calls (executor) WHERE state = 1;

-- Events, packed as they were committed: body is a JSON array, without seqs. epoch and digest tell which commit it was, so that
-- one whose answer was lost is recognised; digest is NULL for an admission.
-- kind: 0 mixed, 1 deltas only, 2 holds an entry, 3 begins or settles a submission, without one. Segments are deleted by age: those of
-- deltas where the next of kind 2 or 3 is one of kind 2, all below the lane's event_floor.
CREATE TABLE segments (
    session_id uuid NOT NULL,
    first_seq  bigint NOT NULL,
    last_seq   bigint NOT NULL,
    tenant     text NOT NULL DEFAULT 'default',
    epoch      bigint NOT NULL,
    digest     bytea,
    kind       smallint NOT NULL,
    body       bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (session_id, first_seq)
);

CREATE INDEX segments_age ON segments (created_at);

-- How far retention has got with what it looks at once, in order of time: at, session_id and seq are those of the last segment that it
-- has looked at. Where it has not finished with that one, below is where it goes on in the session's stream, downwards; 0 is that it has.
CREATE TABLE cursors (
    name       text PRIMARY KEY,
    tenant     text NOT NULL DEFAULT 'default',
    at         timestamptz NOT NULL DEFAULT 'epoch',
    session_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    seq        bigint NOT NULL DEFAULT 0,
    below      bigint NOT NULL DEFAULT 0
);

INSERT INTO cursors (name) VALUES ('compaction');

CREATE TABLE executors (
    executor_id      text PRIMARY KEY,
    tenant           text NOT NULL DEFAULT 'default',
    journal_id       text NOT NULL,
    journal_name     text NOT NULL,
    incarnation      text NOT NULL,
    begun            bigint NOT NULL,
    labels           jsonb,
    slots            int NOT NULL,
    version          text NOT NULL,
    root             text NOT NULL,
    isolation        text NOT NULL,
    draining         boolean NOT NULL,
    connection_epoch bigint NOT NULL,
    replica          uuid,
    last_seen        timestamptz NOT NULL
);

CREATE INDEX executors_seen ON executors (last_seen);

CREATE TABLE tokens (
    token_id   uuid PRIMARY KEY,
    tenant     text NOT NULL DEFAULT 'default',
    name       text NOT NULL,
    kind       text NOT NULL,
    agents     jsonb,
    executor   text NOT NULL,
    labels     jsonb,
    hash       bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

-- For retention, see package retention: what ended and may be deleted.
CREATE INDEX tokens_revoked ON tokens (revoked_at) WHERE revoked_at IS NOT NULL AND kind <> 'operator';
CREATE INDEX tokens_expired ON tokens (expires_at)
    WHERE expires_at IS NOT NULL AND (kind <> 'operator' OR (name = 'operator of the data directory' AND revoked_at IS NULL));

-- used_at is when it was last pinned, within an hour.
CREATE TABLE definitions (
    digest     text PRIMARY KEY,
    tenant     text NOT NULL DEFAULT 'default',
    name       text NOT NULL,
    body       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at    timestamptz NOT NULL
);

CREATE INDEX definitions_used ON definitions (used_at);

CREATE TABLE secrets (
    name   text PRIMARY KEY,
    tenant text NOT NULL DEFAULT 'default',
    body   bytea NOT NULL
);

-- +goose Down
DROP TABLE replicas, sessions, lanes, submissions, receipts, entries, tool_calls, segments, executors, tokens, definitions, secrets, cursors;
