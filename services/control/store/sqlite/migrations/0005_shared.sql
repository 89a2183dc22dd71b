-- +goose Up

-- Whether an executor serves every tenant, and not only that of its row.
ALTER TABLE executors ADD COLUMN shared INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE executors DROP COLUMN shared;
