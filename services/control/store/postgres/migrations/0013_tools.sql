-- +goose Up

-- The tools that an executor offers, as JSON, see tool.Offered. NULL is none.
ALTER TABLE executors ADD COLUMN tools text;

-- +goose Down
ALTER TABLE executors DROP COLUMN tools;
