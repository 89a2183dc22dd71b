-- +goose Up

-- closed says that a lane takes no more submissions: its session has lost its name to a fork, or is being deleted.
ALTER TABLE lanes ADD COLUMN closed boolean NOT NULL DEFAULT false;
UPDATE lanes SET closed = true FROM sessions s WHERE s.session_id = lanes.lane_id AND s.rewound_to IS NOT NULL;

-- +goose Down
ALTER TABLE lanes DROP COLUMN closed;
