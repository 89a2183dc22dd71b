-- +goose Up

-- Runs of workflows, see package run. A run is a lane and a session of its id; submission_id is of its present attempt.
-- status: 0 queued, 1 active, 2 completed, 3 failed, 4 cancelled, 5 expired, 6 interrupted, and place is among the runs
-- of its concurrency key. blocked says that this has no room for it; its lane is due never then. evicted says
-- that another run of the key has it cancelled. keep leaves it alone
-- when the run parent_run is cancelled. schedule and scheduled_for are of what has started it. An input that is large
-- is in run_blobs. swept says that retention has begun to delete it.
CREATE TABLE runs (
    run_id        TEXT NOT NULL UNIQUE,
    tenant        TEXT NOT NULL DEFAULT 'default',
    workflow      TEXT NOT NULL,
    digest        TEXT NOT NULL,
    input         BLOB,
    input_blob    TEXT,
    input_hash    BLOB,
    idem_key      TEXT,
    attempt       INTEGER NOT NULL,
    submission_id TEXT NOT NULL,
    status        INTEGER NOT NULL,
    conc_key      TEXT,
    place         INTEGER NOT NULL DEFAULT 0,
    blocked       INTEGER NOT NULL DEFAULT 0,
    evicted       INTEGER NOT NULL DEFAULT 0,
    parent_run    TEXT,
    parent_path   TEXT NOT NULL DEFAULT '',
    keep          INTEGER NOT NULL DEFAULT 0,
    schedule      INTEGER,
    scheduled_for INTEGER,
    forked_from   TEXT,
    created_at    INTEGER NOT NULL,
    started_at    INTEGER,
    ended_at      INTEGER,
    swept         INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX runs_idem ON runs (tenant, workflow, idem_key) WHERE idem_key IS NOT NULL;
-- For lists, which are in order of id. Most runs have completed.
CREATE INDEX runs_tenant ON runs (tenant, run_id);
CREATE INDEX runs_workflow ON runs (tenant, workflow, run_id);
CREATE INDEX runs_status ON runs (tenant, status, run_id) WHERE status <> 2;
CREATE INDEX runs_workflow_status ON runs (tenant, workflow, status, run_id) WHERE status <> 2;
CREATE INDEX runs_parent ON runs (parent_run, run_id) WHERE parent_run IS NOT NULL;
CREATE INDEX runs_key ON runs (tenant, workflow, conc_key, run_id) WHERE conc_key IS NOT NULL;
-- Those of a concurrency key that have not ended, and those that wait for it.
CREATE INDEX runs_open ON runs (tenant, workflow, conc_key, place) WHERE conc_key IS NOT NULL AND status < 2;
CREATE INDEX runs_blocked ON runs (tenant, workflow, conc_key, place) WHERE blocked;
-- For retention.
CREATE INDEX runs_digest ON runs (digest);
CREATE INDEX runs_ended ON runs (ended_at) WHERE ended_at IS NOT NULL AND NOT swept;

-- What became of the steps of runs, see package step. state: 1 started, 2 completed, 3 failed, 4 skipped, 5 cancelled,
-- 6 unknown. An output that is large is in run_blobs. failed is JSON. folded says that the step that it is part of
-- tells what it came to.
CREATE TABLE run_steps (
    run_id      TEXT NOT NULL,
    ord         INTEGER NOT NULL,
    tenant      TEXT NOT NULL DEFAULT 'default',
    parent      INTEGER NOT NULL,
    path        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    state       INTEGER NOT NULL,
    try         INTEGER NOT NULL,
    pausing     INTEGER NOT NULL,
    took_us     INTEGER NOT NULL,
    output      BLOB,
    output_blob TEXT,
    failed      TEXT,
    ref         TEXT NOT NULL,
    due_at      INTEGER,
    folded      INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    UNIQUE (run_id, ord),
    UNIQUE (run_id, path)
) STRICT;

CREATE INDEX run_steps_parts ON run_steps (run_id, parent, ord);
CREATE INDEX run_steps_open ON run_steps (run_id, ord) WHERE NOT folded;

-- What somebody has told a run, in order of seq. taken_by is the path of the step that has received it.
CREATE TABLE run_signals (
    run_id     TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    tenant     TEXT NOT NULL DEFAULT 'default',
    name       TEXT NOT NULL,
    message_id TEXT,
    body       BLOB,
    told_by    TEXT NOT NULL,
    at         INTEGER NOT NULL,
    taken_by   TEXT,
    UNIQUE (run_id, seq)
) STRICT;

CREATE UNIQUE INDEX run_signals_message ON run_signals (run_id, name, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX run_signals_untaken ON run_signals (run_id, seq) WHERE taken_by IS NULL;

-- Inputs and outputs that are large, by their hex SHA-256.
CREATE TABLE run_blobs (
    run_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    tenant TEXT NOT NULL DEFAULT 'default',
    body   BLOB NOT NULL,
    UNIQUE (run_id, digest)
) STRICT;

-- Concurrency keys of which runs have not ended: how many are past the gate, and how many wait. lim is how many it lets
-- pass, seq the last place that it has given.
CREATE TABLE conc_keys (
    tenant   TEXT NOT NULL DEFAULT 'default',
    workflow TEXT NOT NULL,
    key      TEXT NOT NULL,
    active   INTEGER NOT NULL,
    waiting  INTEGER NOT NULL,
    lim      INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    UNIQUE (tenant, workflow, key)
) STRICT;

-- next_at is the first instant that nobody has acted on; NULL is that it is never due.
CREATE TABLE schedules (
    tenant   TEXT NOT NULL DEFAULT 'default',
    workflow TEXT NOT NULL,
    idx      INTEGER NOT NULL,
    cron     TEXT NOT NULL,
    zone     TEXT NOT NULL,
    catchup  TEXT NOT NULL,
    paused   INTEGER NOT NULL DEFAULT 0,
    next_at  INTEGER,
    last_at  INTEGER,
    last_run TEXT,
    UNIQUE (tenant, workflow, idx)
) STRICT;

CREATE INDEX schedules_due ON schedules (next_at, tenant, workflow, idx) WHERE NOT paused AND next_at IS NOT NULL;

-- The lane that rests on the submission: it has mail when that settles.
ALTER TABLE submissions ADD COLUMN wakes TEXT;

-- +goose Down
ALTER TABLE submissions DROP COLUMN wakes;
DROP TABLE schedules;
DROP TABLE conc_keys;
DROP TABLE run_blobs;
DROP TABLE run_signals;
DROP TABLE run_steps;
DROP TABLE runs;
