-- +goose Up

-- Rowid tables with unique indexes: inserts are twice as fast as WITHOUT ROWID ones. Times are microseconds since 1970, 0 is none;
-- in tokens NULL is.

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

-- What never changes about a conversation, and where its workspace is. What changes with every commit is on the lane.
CREATE TABLE sessions (
    session_id TEXT NOT NULL UNIQUE,
    tenant     TEXT NOT NULL DEFAULT 'default',
    agent      TEXT NOT NULL,
    instance   TEXT NOT NULL,
    name       TEXT NOT NULL,
    executor   TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    UNIQUE (tenant, agent, instance, name)
) STRICT;

CREATE INDEX sessions_agent ON sessions (tenant, agent, session_id);

-- The queue head of a session. One fenced UPDATE of this row is fence and compare-and-swap of both heads at once.
-- state: 0 idle, 1 ready, 2 running. pending counts the submissions that have not settled and decides what comes after one.
CREATE TABLE lanes (
    session_id TEXT NOT NULL UNIQUE REFERENCES sessions (session_id),
    tenant     TEXT NOT NULL DEFAULT 'default',
    state      INTEGER NOT NULL,
    next_seq   INTEGER NOT NULL,
    first_open INTEGER NOT NULL DEFAULT 1,
    pending    INTEGER NOT NULL,
    ready_at   INTEGER NOT NULL,
    owner      TEXT,
    epoch      INTEGER NOT NULL DEFAULT 0,
    entry_head INTEGER NOT NULL DEFAULT 0,
    event_head INTEGER NOT NULL DEFAULT 0,
    event_floor INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX lanes_ready ON lanes (ready_at) WHERE state = 1;
CREATE INDEX lanes_owner ON lanes (owner) WHERE state = 2;

-- status: 0 queued, 1 running, 2 settled. event_base is the stream's head at admission: every event of the submission is later.
-- forced_at is when its lane was last taken from an owner that did not end it in time.
CREATE TABLE submissions (
    submission_id   TEXT NOT NULL UNIQUE,
    tenant          TEXT NOT NULL DEFAULT 'default',
    session_id      TEXT NOT NULL,
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
    phase           INTEGER NOT NULL,
    turn            INTEGER NOT NULL,
    input_entry     INTEGER NOT NULL,
    result_entry    INTEGER NOT NULL DEFAULT 0,
    model           TEXT NOT NULL DEFAULT '',
    usage           TEXT,
    attempts        INTEGER NOT NULL DEFAULT 0,
    stalls          INTEGER NOT NULL DEFAULT 0,
    timeout_us      INTEGER NOT NULL,
    deadline        INTEGER NOT NULL DEFAULT 0,
    abort_requested_at INTEGER NOT NULL DEFAULT 0,
    forced_at       INTEGER NOT NULL DEFAULT 0,
    cancellation    TEXT,
    accepted_at     INTEGER NOT NULL,
    started_at      INTEGER NOT NULL DEFAULT 0,
    settled_at      INTEGER NOT NULL DEFAULT 0,
    has_calls       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (session_id, seq)
) STRICT;

CREATE UNIQUE INDEX submissions_idem ON submissions (session_id, idem_key) WHERE idem_key IS NOT NULL;
CREATE INDEX submissions_queue ON submissions (session_id, seq) WHERE status = 0;
-- A backstop: two running submissions of one session are a constraint violation, whatever the code does.
CREATE UNIQUE INDEX submissions_running ON submissions (session_id) WHERE status = 1;
-- Nearly always empty, so that polling it costs nothing.
CREATE INDEX submissions_aborts ON submissions (abort_requested_at) WHERE status = 1 AND abort_requested_at > 0;
-- For those that should have ended.
CREATE INDEX submissions_deadlines ON submissions (deadline) WHERE status = 1 AND deadline > 0;
-- For retention: those whose records of calls are still there.
CREATE INDEX submissions_calls ON submissions (settled_at) WHERE status = 2 AND has_calls;

-- What was admitted under an idempotency key. scope names the session by its key, so that a receipt outlives the session's rows.
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

-- state: 0 pending, 1 dispatched, 2 done, 3 lost, 4 cancelled. safety: 1 at most once, 2 idempotent, 3 pure.
CREATE TABLE tool_calls (
    call_id        TEXT NOT NULL UNIQUE,
    tenant         TEXT NOT NULL DEFAULT 'default',
    session_id     TEXT NOT NULL,
    submission_seq INTEGER NOT NULL,
    turn           INTEGER NOT NULL,
    idx            INTEGER NOT NULL,
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
    created_at     INTEGER NOT NULL,
    dispatched_at  INTEGER NOT NULL DEFAULT 0,
    done_at        INTEGER NOT NULL DEFAULT 0,
    UNIQUE (session_id, submission_seq, turn, idx)
) STRICT;

CREATE INDEX tool_calls_dispatched ON tool_calls (executor) WHERE state = 1;

-- Events, packed as they were committed: body is a JSON array, without seqs. epoch tells whose commit it was.
-- kind: 0 mixed, 1 deltas only, 2 holds an entry, 3 begins or settles a submission, without one. Segments are deleted by age: those of
-- deltas where the next of kind 2 or 3 is one of kind 2, all below the lane's event_floor. Columns before body are read without it.
CREATE TABLE segments (
    session_id TEXT NOT NULL,
    first_seq  INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL,
    tenant     TEXT NOT NULL DEFAULT 'default',
    epoch      INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    body       BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (session_id, first_seq)
) STRICT;

-- How far retention has got with what it looks at once, in order of time: at, session_id and seq are those of the last
-- segment that it has looked at; at is a rowid, in the order of which segments are stored. Where it has not finished with
-- that one, below is where it goes on in the session's stream, downwards; 0 is that it has.
CREATE TABLE cursors (
    name       TEXT NOT NULL UNIQUE,
    tenant     TEXT NOT NULL DEFAULT 'default',
    at         INTEGER NOT NULL DEFAULT 0,
    session_id TEXT NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
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
DROP TABLE segments;
DROP TABLE executors;
DROP TABLE tokens;
DROP TABLE definitions;
DROP TABLE cursors;
DROP TABLE secrets;
