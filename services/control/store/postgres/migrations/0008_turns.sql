-- +goose Up

-- For claims while more lanes are due than there are slots: tenants take turns.
CREATE INDEX lanes_turns ON lanes (kind, tenant COLLATE "C", due_at) WHERE state = 1;

-- +goose Down
DROP INDEX lanes_turns;
