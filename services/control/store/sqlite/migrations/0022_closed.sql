-- +goose Up

-- closed says that a lane takes no more submissions: its session has lost its name to a fork, or is being deleted.
ALTER TABLE lanes ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;
UPDATE lanes SET closed = 1 WHERE lane_id IN (SELECT session_id FROM sessions WHERE rewound_to IS NOT NULL);

-- What interrupts: the one that runs, and those that wait.
DROP INDEX submissions_urgent;
CREATE INDEX submissions_urgent ON submissions (session_id, status, seq) WHERE when_busy = 2 AND status < 2;

-- +goose Down
DROP INDEX submissions_urgent;
CREATE INDEX submissions_urgent ON submissions (session_id, seq) WHERE when_busy = 2 AND status = 0;
ALTER TABLE lanes DROP COLUMN closed;
