-- +goose Up

-- Runs of workflows, see package run. A run is a lane and a session of its id; submission_id is of its present attempt.
-- status: 0 queued, 1 active, 2 completed, 3 failed, 4 cancelled, 5 expired, 6 interrupted, and place is among the runs
-- of its concurrency key. blocked says that this has no room for it; its lane is due never then. evicted says
-- that another run of the key has it cancelled. keep leaves it alone
-- when the run parent_run is cancelled. schedule and scheduled_for are of what has started it. An input that is large
-- is in run_blobs. swept says that retention has begun to delete it.
CREATE TABLE runs (
    run_id        uuid PRIMARY KEY,
    tenant        text NOT NULL DEFAULT 'default',
    workflow      text NOT NULL,
    digest        text NOT NULL,
    input         bytea,
    input_blob    text,
    input_hash    bytea,
    idem_key      text,
    attempt       int NOT NULL,
    submission_id uuid NOT NULL,
    status        smallint NOT NULL,
    conc_key      text,
    place         bigint NOT NULL DEFAULT 0,
    blocked       boolean NOT NULL DEFAULT false,
    evicted       boolean NOT NULL DEFAULT false,
    parent_run    uuid,
    parent_path   text NOT NULL DEFAULT '',
    keep          boolean NOT NULL DEFAULT false,
    schedule      int,
    scheduled_for timestamptz,
    forked_from   uuid,
    created_at    timestamptz NOT NULL,
    started_at    timestamptz,
    ended_at      timestamptz,
    swept         boolean NOT NULL DEFAULT false
) WITH (fillfactor = 80);

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
    run_id      uuid NOT NULL,
    ord         int NOT NULL,
    tenant      text NOT NULL DEFAULT 'default',
    parent      int NOT NULL,
    path        text NOT NULL,
    kind        text NOT NULL,
    state       smallint NOT NULL,
    try         int NOT NULL,
    pausing     boolean NOT NULL,
    took_us     bigint NOT NULL,
    output      bytea,
    output_blob text,
    failed      text,
    ref         text NOT NULL,
    due_at      timestamptz,
    folded      boolean NOT NULL,
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    PRIMARY KEY (run_id, ord),
    UNIQUE (run_id, path)
) WITH (fillfactor = 80);

CREATE INDEX run_steps_parts ON run_steps (run_id, parent, ord);
CREATE INDEX run_steps_open ON run_steps (run_id, ord) WHERE NOT folded;

-- What somebody has told a run, in order of seq. taken_by is the path of the step that has received it.
CREATE TABLE run_signals (
    run_id     uuid NOT NULL,
    seq        bigint NOT NULL,
    tenant     text NOT NULL DEFAULT 'default',
    name       text NOT NULL,
    message_id text,
    body       bytea,
    told_by    text NOT NULL,
    at         timestamptz NOT NULL,
    taken_by   text,
    PRIMARY KEY (run_id, seq)
);

CREATE UNIQUE INDEX run_signals_message ON run_signals (run_id, name, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX run_signals_untaken ON run_signals (run_id, seq) WHERE taken_by IS NULL;

-- Inputs and outputs that are large, by their hex SHA-256.
CREATE TABLE run_blobs (
    run_id uuid NOT NULL,
    digest text NOT NULL,
    tenant text NOT NULL DEFAULT 'default',
    body   bytea NOT NULL,
    PRIMARY KEY (run_id, digest)
);

-- Concurrency keys of which runs have not ended: how many are past the gate, and how many wait. lim is how many it lets
-- pass, seq the last place that it has given.
CREATE TABLE conc_keys (
    tenant   text NOT NULL DEFAULT 'default',
    workflow text NOT NULL,
    key      text NOT NULL,
    active   bigint NOT NULL,
    waiting  bigint NOT NULL,
    lim      bigint NOT NULL,
    seq      bigint NOT NULL,
    PRIMARY KEY (tenant, workflow, key)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- next_at is the first instant that nobody has acted on; NULL is that it is never due.
CREATE TABLE schedules (
    tenant   text NOT NULL DEFAULT 'default',
    workflow text NOT NULL,
    idx      int NOT NULL,
    cron     text NOT NULL,
    zone     text NOT NULL,
    catchup  text NOT NULL,
    paused   boolean NOT NULL DEFAULT false,
    next_at  timestamptz,
    last_at  timestamptz,
    last_run uuid,
    PRIMARY KEY (tenant, workflow, idx)
);

CREATE INDEX schedules_due ON schedules (next_at, tenant, workflow, idx) WHERE NOT paused AND next_at IS NOT NULL;

-- Runs that are to be cancelled, on the way to their lanes: whoever wants it may hold other lanes, see wakes.
CREATE TABLE aborts (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant        text NOT NULL DEFAULT 'default',
    lane_id       uuid NOT NULL,
    submission_id uuid NOT NULL
);

-- The lane that rests on the submission: it has mail when that settles.
ALTER TABLE submissions ADD COLUMN wakes uuid;

-- +goose Down
ALTER TABLE submissions DROP COLUMN wakes;
DROP TABLE aborts;
DROP TABLE schedules;
DROP TABLE conc_keys;
DROP TABLE run_blobs;
DROP TABLE run_signals;
DROP TABLE run_steps;
DROP TABLE runs;
