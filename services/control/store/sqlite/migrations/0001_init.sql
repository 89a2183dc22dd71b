-- +goose Up

-- Rowid tables with unique indexes: inserts are twice as fast as WITHOUT ROWID ones. Times are microseconds since 1970,
-- 0 is none; in tokens NULL is.

-- One row per incarnation of a control process. host and lock name the lock file that proves a predecessor dead.
CREATE TABLE replicas (
    replica_id TEXT NOT NULL UNIQUE,
    tenant     TEXT NOT NULL DEFAULT 'default',
    addr       TEXT NOT NULL DEFAULT '',
    version    TEXT NOT NULL DEFAULT '',
    host       TEXT NOT NULL DEFAULT '',
    lock       TEXT NOT NULL DEFAULT '',
    expires    INTEGER NOT NULL
) STRICT;

-- What never changes about a conversation, and where its workspace is. lane_id is the session's own id or, of a
-- sub-agent's conversation, that of the session at the root of the tree.
CREATE TABLE sessions (
    session_id  TEXT NOT NULL UNIQUE,
    tenant      TEXT NOT NULL DEFAULT 'default',
    lane_id     TEXT NOT NULL,
    parent_id   TEXT,
    parent_call TEXT,
    agent       TEXT NOT NULL,
    instance    TEXT NOT NULL,
    name        TEXT NOT NULL,
    executor    TEXT NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL,
    UNIQUE (tenant, agent, instance, name)
) STRICT;

CREATE INDEX sessions_agent ON sessions (tenant, agent, session_id);
CREATE INDEX sessions_children ON sessions (parent_id, session_id) WHERE parent_id IS NOT NULL;

-- Ownership, see package lane. state: 0 idle, 1 due at due_at, 2 running. kind: 1 session, 2 run. pending counts the
-- submissions that have not settled, the running one included, and decides what comes after it. None before first_open
-- is among them. ends_at, ends_why (1 deadline, 2 abort) and force_after are of the head that has begun. The lanes that
-- run are indexed in memory.
CREATE TABLE lanes (
    lane_id     TEXT NOT NULL UNIQUE,
    tenant      TEXT NOT NULL DEFAULT 'default',
    kind        INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    next_seq    INTEGER NOT NULL,
    first_open  INTEGER NOT NULL DEFAULT 1,
    pending     INTEGER NOT NULL,
    owner       TEXT,
    epoch       INTEGER NOT NULL DEFAULT 0,
    mail        INTEGER NOT NULL DEFAULT 0,
    event_head  INTEGER NOT NULL DEFAULT 0,
    event_floor INTEGER NOT NULL DEFAULT 0,
    ends_at     INTEGER NOT NULL DEFAULT 0,
    ends_why    INTEGER NOT NULL DEFAULT 0,
    force_after INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX lanes_due ON lanes (kind, due_at) WHERE state = 1;

-- Loops: submissions, and those of sub-agents, which have a parent_call and a root_id. status: 0 queued, 1 running, 2 settled.
-- entry_head is the conversation's. event_base is the stream's head when the loop began, and until then
-- at admission: every event of the loop is later.
CREATE TABLE submissions (
    submission_id   TEXT NOT NULL UNIQUE,
    tenant          TEXT NOT NULL DEFAULT 'default',
    lane_id         TEXT NOT NULL,
    session_id      TEXT NOT NULL,
    root_id         TEXT,
    parent_call     TEXT,
    seq             INTEGER NOT NULL,
    idem_key        TEXT,
    input_hash      BLOB,
    agent_digest    TEXT NOT NULL,
    input           BLOB,
    event_base      INTEGER NOT NULL,
    status          INTEGER NOT NULL,
    outcome         TEXT NOT NULL DEFAULT '',
    reason          TEXT NOT NULL DEFAULT '',
    message         TEXT NOT NULL DEFAULT '',
    phase           INTEGER NOT NULL DEFAULT 0,
    turn            INTEGER NOT NULL DEFAULT 0,
    input_entry     INTEGER NOT NULL DEFAULT 0,
    result_entry    INTEGER NOT NULL DEFAULT 0,
    entry_head      INTEGER NOT NULL DEFAULT 0,
    model           TEXT NOT NULL DEFAULT '',
    usage           TEXT,
    attempts        INTEGER NOT NULL DEFAULT 0,
    stalls          INTEGER NOT NULL DEFAULT 0,
    stall_cause     TEXT NOT NULL DEFAULT '',
    timeout_us      INTEGER NOT NULL DEFAULT 0,
    abort_requested_at INTEGER NOT NULL DEFAULT 0,
    cancellation    TEXT,
    accepted_at     INTEGER NOT NULL,
    started_at      INTEGER NOT NULL DEFAULT 0,
    settled_at      INTEGER NOT NULL DEFAULT 0,
    has_calls       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (session_id, seq)
) STRICT;

CREATE UNIQUE INDEX submissions_idem ON submissions (session_id, idem_key) WHERE idem_key IS NOT NULL;
CREATE INDEX submissions_children ON submissions (root_id) WHERE parent_call IS NOT NULL;
-- For retention: those whose records of calls are still there.
CREATE INDEX submissions_calls ON submissions (settled_at) WHERE status = 2 AND has_calls;

-- What was admitted under an idempotency key. scope names the session by its key, so that a receipt outlives the
-- session's rows.
CREATE TABLE receipts (
    scope         TEXT NOT NULL,
    idem_key      TEXT NOT NULL,
    tenant        TEXT NOT NULL DEFAULT 'default',
    hash          BLOB,
    submission_id TEXT NOT NULL,
    expires       INTEGER NOT NULL,
    UNIQUE (scope, idem_key)
) STRICT;

CREATE INDEX receipts_expires ON receipts (expires);

-- Append only.
CREATE TABLE entries (
    session_id    TEXT NOT NULL,
    seq           INTEGER NOT NULL,
    tenant        TEXT NOT NULL DEFAULT 'default',
    submission_id TEXT,
    kind          TEXT NOT NULL,
    body          BLOB NOT NULL,
    created_at    INTEGER NOT NULL,
    UNIQUE (session_id, seq)
) STRICT;

-- state: 0 pending, 1 dispatched, 2 done, 3 lost, 4 cancelled. safety: 1 at most once, 2 idempotent, 3 pure. kind: see
-- package tool. shown_stdout and shown_stderr are how many bytes of the output are in the stream.
CREATE TABLE tool_calls (
    call_id        TEXT NOT NULL UNIQUE,
    tenant         TEXT NOT NULL DEFAULT 'default',
    lane_id        TEXT NOT NULL,
    submission_id  TEXT NOT NULL,
    turn           INTEGER NOT NULL,
    idx            INTEGER NOT NULL,
    kind           INTEGER NOT NULL,
    entry_seq      INTEGER NOT NULL,
    provider_id    TEXT NOT NULL,
    tool           TEXT NOT NULL,
    safety         INTEGER NOT NULL,
    args_hash      BLOB,
    executor       TEXT NOT NULL DEFAULT '',
    dispatch       INTEGER NOT NULL DEFAULT 0,
    journal_id     TEXT NOT NULL DEFAULT '',
    state          INTEGER NOT NULL,
    reply          BLOB,
    late_reply     BLOB,
    leaves         INTEGER NOT NULL DEFAULT 0,
    shown_stdout   INTEGER NOT NULL DEFAULT 0,
    shown_stderr   INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL,
    dispatched_at  INTEGER NOT NULL DEFAULT 0,
    done_at        INTEGER NOT NULL DEFAULT 0,
    UNIQUE (submission_id, turn, idx)
) STRICT;

CREATE INDEX tool_calls_dispatched ON tool_calls (executor) WHERE state = 1;
-- Those that wait for a slot of an executor.
CREATE INDEX tool_calls_pending ON tool_calls (executor, created_at, call_id) WHERE state = 0 AND executor > '';

-- One row per model call, in order of created_at: there is no index, which each would write. prefix names what the
-- request began with: the system text and the tools.
CREATE TABLE turns (
    submission_id  TEXT NOT NULL,
    turn           INTEGER NOT NULL,
    tenant         TEXT NOT NULL DEFAULT 'default',
    lane_id        TEXT NOT NULL,
    model          TEXT NOT NULL,
    request        BLOB,
    prefix         BLOB,
    usage          TEXT,
    attempts       INTEGER NOT NULL,
    first_token_us INTEGER NOT NULL,
    duration_us    INTEGER NOT NULL,
    stop           TEXT NOT NULL,
    error          TEXT NOT NULL,
    created_at     INTEGER NOT NULL
) STRICT;

-- used_at is when it was last sent with a turn, within an hour.
CREATE TABLE prefixes (
    digest  BLOB NOT NULL UNIQUE,
    tenant  TEXT NOT NULL DEFAULT 'default',
    body    BLOB NOT NULL,
    used_at INTEGER NOT NULL
) STRICT;

CREATE INDEX prefixes_used ON prefixes (used_at);

-- Events, packed as they were committed: body is a JSON array, without seqs. epoch and commit_id tell whose commit it
-- was. kind: see package event. Rows are in order of created_at. Segments are deleted by age: those of deltas where the
-- next of kind 2 or 3 is one of kind 2, all below the lane's event_floor. Columns before body are read without it.
CREATE TABLE segments (
    lane_id    TEXT NOT NULL,
    first_seq  INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL,
    tenant     TEXT NOT NULL DEFAULT 'default',
    epoch      INTEGER NOT NULL,
    commit_id  BLOB,
    kind       INTEGER NOT NULL,
    body       BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (lane_id, first_seq)
) STRICT;

-- How far retention has got with what it looks at once, in order of time: at, lane_id and seq are those of the last
-- segment that it has looked at; at is a rowid, in the order of which segments are stored. Where it has not finished with
-- that one, below is where it goes on in the lane's stream, downwards; 0 is that it has.
CREATE TABLE cursors (
    name       TEXT NOT NULL UNIQUE,
    tenant     TEXT NOT NULL DEFAULT 'default',
    at         INTEGER NOT NULL DEFAULT 0,
    lane_id    TEXT NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    seq        INTEGER NOT NULL DEFAULT 0,
    below      INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO cursors (name) VALUES ('compaction');

CREATE TABLE executors (
    executor_id      TEXT NOT NULL UNIQUE,
    tenant           TEXT NOT NULL DEFAULT 'default',
    journal_id       TEXT NOT NULL,
    journal_name     TEXT NOT NULL,
    incarnation      TEXT NOT NULL,
    begun            INTEGER NOT NULL,
    labels           TEXT,
    slots            INTEGER NOT NULL,
    version          TEXT NOT NULL,
    root             TEXT NOT NULL,
    isolation        TEXT NOT NULL,
    draining         INTEGER NOT NULL,
    connection_epoch INTEGER NOT NULL,
    replica          TEXT,
    last_seen        INTEGER NOT NULL
) STRICT;

CREATE INDEX executors_seen ON executors (last_seen);

CREATE TABLE tokens (
    token_id   TEXT NOT NULL UNIQUE,
    tenant     TEXT NOT NULL DEFAULT 'default',
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    agents     TEXT,
    executor   TEXT NOT NULL,
    labels     TEXT,
    hash       BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;

-- For retention, see package retention: what ended and may be deleted.
CREATE INDEX tokens_revoked ON tokens (revoked_at) WHERE revoked_at IS NOT NULL AND kind <> 'operator';
CREATE INDEX tokens_expired ON tokens (expires_at) WHERE expires_at IS NOT NULL
    AND (kind <> 'operator' OR (name = 'operator of the data directory' AND revoked_at IS NULL));

-- used_at is when it was last pinned, within an hour.
CREATE TABLE definitions (
    digest     TEXT NOT NULL UNIQUE,
    tenant     TEXT NOT NULL DEFAULT 'default',
    name       TEXT NOT NULL,
    body       BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    used_at    INTEGER NOT NULL
) STRICT;

CREATE INDEX definitions_used ON definitions (used_at);

CREATE TABLE secrets (
    name   TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL DEFAULT 'default',
    body   BLOB NOT NULL
) STRICT;

-- +goose Down
DROP TABLE replicas;
DROP TABLE lanes;
DROP TABLE sessions;
DROP TABLE submissions;
DROP TABLE receipts;
DROP TABLE entries;
DROP TABLE tool_calls;
DROP TABLE turns;
DROP TABLE prefixes;
DROP TABLE segments;
DROP TABLE executors;
DROP TABLE tokens;
DROP TABLE definitions;
DROP TABLE cursors;
DROP TABLE secrets;
