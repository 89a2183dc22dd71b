-- +goose Up

-- What a caller asks for beside the input, as JSON, see lane.Options. NULL is nothing.
ALTER TABLE submissions ADD COLUMN options text;

-- The structured result that a loop has ended with, as JSON. NULL is none.
ALTER TABLE submissions ADD COLUMN data text;

-- +goose Down
ALTER TABLE submissions DROP COLUMN data;
ALTER TABLE submissions DROP COLUMN options;
