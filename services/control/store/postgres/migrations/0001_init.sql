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

-- One row. The platform's clock, which times of lanes and leases are of, is the server's and ahead_us microseconds.
-- seen is its time when a replica has vouched for that last.
CREATE TABLE clock (
    id       smallint PRIMARY KEY CHECK (id = 1),
    tenant   text NOT NULL DEFAULT 'default',
    ahead_us bigint NOT NULL DEFAULT 0,
    seen     timestamptz NOT NULL DEFAULT 'epoch'
);

INSERT INTO clock (id) VALUES (1);

-- What never changes about a conversation, and where its workspace is. lane_id is the session's own id or, of a
-- sub-agent's conversation, that of the session at the root of the tree.
CREATE TABLE sessions (
    session_id  uuid PRIMARY KEY,
    tenant      text NOT NULL DEFAULT 'default',
    lane_id     uuid NOT NULL,
    parent_id   uuid,
    parent_call text,
    agent       text NOT NULL,
    instance    text NOT NULL,
    name        text NOT NULL,
    executor    text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    UNIQUE (tenant, agent, instance, name)
);

-- For lists, which are in order of id. The condition on the agent always holds, and keeps the index from being taken
-- where one session is looked for by its key: on an empty table it looks as good as the key's own.
CREATE INDEX sessions_agent ON sessions (tenant, agent, session_id) WHERE agent <> '' AND parent_id IS NULL;
CREATE INDEX sessions_children ON sessions (parent_id, session_id) WHERE parent_id IS NOT NULL;

-- Ownership, see package lane. One fenced UPDATE of a row here is fence, compare-and-swap of the stream's head and row
-- lock at once.
-- state: 0 idle, 1 due at due_at (infinity: when mail comes), 2 running. kind: 1 session, 2 run. pending counts the
-- submissions that have not settled, the running one included, and decides what comes after it; none before first_open
-- is among them: what has settled leaves dead entries in every index until a vacuum.
-- ends_at, ends_why (1 deadline, 2 abort) and force_after are of the head that has begun. flush names the transaction
-- that moved the lane last, for the statements of that transaction. No index has a column in it that commits, mail and
-- aborts change: such updates stay in the page (HOT).
CREATE TABLE lanes (
    lane_id     uuid PRIMARY KEY,
    tenant      text NOT NULL DEFAULT 'default',
    kind        smallint NOT NULL DEFAULT 1,
    state       smallint NOT NULL,
    due_at      timestamptz NOT NULL,
    next_seq    bigint NOT NULL,
    first_open  bigint NOT NULL DEFAULT 1,
    pending     int NOT NULL,
    owner       uuid,
    claim_id    uuid,
    epoch       bigint NOT NULL DEFAULT 0,
    mail        bigint NOT NULL DEFAULT 0,
    event_head  bigint NOT NULL DEFAULT 0,
    event_floor bigint NOT NULL DEFAULT 0,
    ends_at     timestamptz,
    ends_why    smallint NOT NULL DEFAULT 0,
    force_after timestamptz,
    flush       uuid
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 2);

CREATE INDEX lanes_due ON lanes (kind, due_at) WHERE state = 1;
CREATE INDEX lanes_owner ON lanes (owner, claim_id) WHERE state = 2;

-- Mail on its way to lanes: whoever posts it may hold other lanes, so that it must not wait for one. Without a foreign
-- key, which would lock and dirty the lane's row.
CREATE TABLE wakes (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant  text NOT NULL DEFAULT 'default',
    lane_id uuid NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Loops: submissions, and those of sub-agents, which have a parent_call. status: 0 queued, 1 running, 2 settled.
-- entry_head is the conversation's. event_base is the stream's head when the loop began, and until then
-- at admission: every event of the loop is later.
-- has_calls says that calls of tools are on record.
CREATE TABLE submissions (
    submission_id   uuid PRIMARY KEY,
    tenant          text NOT NULL DEFAULT 'default',
    lane_id         uuid NOT NULL,
    session_id      uuid NOT NULL,
    root_id         uuid NOT NULL,
    parent_call     text,
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
    phase           smallint NOT NULL DEFAULT 0,
    turn            int NOT NULL DEFAULT 0,
    input_entry     bigint NOT NULL DEFAULT 0,
    result_entry    bigint NOT NULL DEFAULT 0,
    entry_head      bigint NOT NULL DEFAULT 0,
    model           text NOT NULL DEFAULT '',
    usage           jsonb,
    attempts        int NOT NULL DEFAULT 0,
    stalls          int NOT NULL DEFAULT 0,
    stall_cause     text NOT NULL DEFAULT '',
    timeout_us      bigint NOT NULL DEFAULT 0,
    abort_requested_at timestamptz,
    cancellation    text,
    accepted_at     timestamptz NOT NULL,
    started_at      timestamptz,
    settled_at      timestamptz,
    has_calls       boolean NOT NULL DEFAULT false,
    UNIQUE (session_id, seq)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 2);

CREATE UNIQUE INDEX submissions_idem ON submissions (session_id, idem_key) WHERE idem_key IS NOT NULL;
-- A backstop: two running submissions of one lane are a constraint violation, whatever the code does.
CREATE UNIQUE INDEX submissions_head ON submissions (lane_id) WHERE status = 1 AND parent_call IS NULL;
CREATE INDEX submissions_children ON submissions (root_id) WHERE parent_call IS NOT NULL;
-- For retention: those whose records of calls are still there.
CREATE INDEX submissions_calls ON submissions (settled_at) WHERE status = 2 AND has_calls;

-- What was admitted under an idempotency key. scope names the session by its key, so that a receipt outlives the
-- session's rows.
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

-- Append only. A body stays in its row for as long as the row fits a page, compressed if that helps: a table of its own
-- for bodies would write a tenth more, in pieces of 2 kB with an index entry each.
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

ALTER TABLE entries ALTER body SET STORAGE MAIN;

-- state: 0 pending, 1 dispatched, 2 done, 3 lost, 4 cancelled. safety: 1 at most once, 2 idempotent, 3 pure.
-- kind: see package tool. shown_stdout and shown_stderr are how many bytes of the output are in the stream.
CREATE TABLE tool_calls (
    call_id        text PRIMARY KEY,
    tenant         text NOT NULL DEFAULT 'default',
    lane_id        uuid NOT NULL,
    submission_id  uuid NOT NULL,
    turn           int NOT NULL,
    idx            int NOT NULL,
    kind           smallint NOT NULL,
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
    leaves         boolean NOT NULL DEFAULT false,
    shown_stdout   bigint NOT NULL DEFAULT 0,
    shown_stderr   bigint NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL,
    dispatched_at  timestamptz,
    done_at        timestamptz,
    UNIQUE (submission_id, turn, idx)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 2);

CREATE INDEX tool_calls_dispatched ON tool_calls (executor) WHERE state = 1;
-- Those that wait for a slot of an executor.
CREATE INDEX tool_calls_pending ON tool_calls (executor, created_at, call_id) WHERE state = 0;
CREATE INDEX tool_calls_open ON tool_calls (lane_id) WHERE state < 2;

-- One row per model call. prefix names what the request began with: the system text and the tools.
CREATE TABLE turns (
    submission_id  uuid NOT NULL,
    turn           int NOT NULL,
    tenant         text NOT NULL DEFAULT 'default',
    lane_id        uuid NOT NULL,
    model          text NOT NULL,
    request        bytea,
    prefix         bytea,
    usage          jsonb,
    attempts       int NOT NULL,
    first_token_us bigint NOT NULL,
    duration_us    bigint NOT NULL,
    stop           text NOT NULL,
    error          text NOT NULL,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (submission_id, turn)
);

CREATE INDEX turns_age ON turns (created_at);

-- used_at is when it was last sent with a turn, within an hour.
CREATE TABLE prefixes (
    digest  bytea PRIMARY KEY,
    tenant  text NOT NULL DEFAULT 'default',
    body    bytea NOT NULL,
    used_at timestamptz NOT NULL
);

CREATE INDEX prefixes_used ON prefixes (used_at);

-- Events, packed as they were committed: body is a JSON array, without seqs. epoch and commit_id tell whose commit it
-- was, so that one whose answer was lost is recognised; commit_id is NULL for an admission.
-- kind: see package event. Segments are deleted by age: those of deltas where the next of kind 2 or 3 is one of kind 2,
-- all below the lane's event_floor. Bodies are kept as those of entries are.
CREATE TABLE segments (
    lane_id    uuid NOT NULL,
    first_seq  bigint NOT NULL,
    last_seq   bigint NOT NULL,
    tenant     text NOT NULL DEFAULT 'default',
    epoch      bigint NOT NULL,
    commit_id  uuid,
    kind       smallint NOT NULL,
    body       bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (lane_id, first_seq)
);

ALTER TABLE segments ALTER body SET STORAGE MAIN;

CREATE INDEX segments_age ON segments (created_at);

-- How far retention has got with what it looks at once, in order of time: at, lane_id and seq are those of the last
-- segment that it has looked at. Where it has not finished with that one, below is where it goes on in the lane's
-- stream, downwards; 0 is that it has.
CREATE TABLE cursors (
    name       text PRIMARY KEY,
    tenant     text NOT NULL DEFAULT 'default',
    at         timestamptz NOT NULL DEFAULT 'epoch',
    lane_id    uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
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
DROP TABLE replicas, clock, sessions, lanes, wakes, submissions, receipts, entries, tool_calls, turns, prefixes,
    segments, executors, tokens, definitions, secrets, cursors;
