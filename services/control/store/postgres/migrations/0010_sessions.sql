-- +goose Up

-- labels and metadata are JSON, as text: what callers say of a session. A fork shares the entries up to forked_at with
-- others, see session_bases; forked_from is the session that it was made from. rewound_to is the session that has taken
-- this one's name.
ALTER TABLE sessions
    ADD COLUMN labels text,
    ADD COLUMN metadata text,
    ADD COLUMN forked_from uuid,
    ADD COLUMN forked_at bigint NOT NULL DEFAULT 0,
    ADD COLUMN rewound_to uuid;

-- The labels of sessions, as key=value, for lists.
CREATE TABLE session_labels (
    session_id uuid NOT NULL,
    label      text NOT NULL,
    tenant     text NOT NULL DEFAULT 'default',
    PRIMARY KEY (session_id, label)
);

CREATE INDEX session_labels_label ON session_labels (tenant, label, session_id);

-- Where the entries of a fork are: those after "after", up to upto, are base_id's. base_id may be deleted: its entries
-- stay for as long as a row here names them.
CREATE TABLE session_bases (
    session_id uuid NOT NULL,
    upto       bigint NOT NULL,
    tenant     text NOT NULL DEFAULT 'default',
    after      bigint NOT NULL,
    base_id    uuid NOT NULL,
    PRIMARY KEY (session_id, upto)
);

CREATE INDEX session_bases_base ON session_bases (base_id, upto);

-- when_busy: 0 queue, 1 steer, 2 interrupt. host_id is the submission that it joins, or that it has aborted. status 3:
-- it has joined that one.
ALTER TABLE submissions
    ADD COLUMN when_busy smallint NOT NULL DEFAULT 0,
    ADD COLUMN host_id uuid;

CREATE INDEX submissions_host ON submissions (host_id, seq) WHERE host_id IS NOT NULL;
CREATE INDEX submissions_urgent ON submissions (session_id, seq) WHERE when_busy = 2 AND status = 0;

-- urgent says that a submission which interrupts may be open: it is the head, whatever its place.
ALTER TABLE lanes ADD COLUMN urgent boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE lanes DROP COLUMN urgent;
DROP INDEX submissions_urgent;
DROP INDEX submissions_host;
ALTER TABLE submissions DROP COLUMN host_id, DROP COLUMN when_busy;
DROP TABLE session_bases;
DROP TABLE session_labels;
ALTER TABLE sessions DROP COLUMN rewound_to, DROP COLUMN forked_at, DROP COLUMN forked_from, DROP COLUMN metadata,
    DROP COLUMN labels;
